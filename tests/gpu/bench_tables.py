"""Tables of timed points, beside figures of the peer."""

from __future__ import annotations

import math
from typing import Any

from bench_points import FEW_TOKENS


def peer_figure(peer: dict[str, Any], point: dict[str, Any]) -> float | None:
    row = peer["microseconds"].get(point["layer"], {}).get(point["case"])
    return row[peer["m"].index(point["m"])] if row and point["m"] in peer["m"] else None


def print_points(points: list[dict[str, Any]]) -> None:
    print(
        f"{'layer':16} {'case':16} {'M':>5} {'us':>8} {'stream':>8} {'host':>5} {'peer':>8} "
        f"{'faster':>6} {'GB/s':>5} {'TF/s':>5} {'blk':>3} {'config':>18}  best of sweep"
    )
    for p in points:
        host = f"{p['host_us']:.1f}" if p["host_us"] is not None else "-"
        peer, faster = (f"{p['peer_us']:.1f}", f"{p['faster']:.2f}") if p["peer_us"] else ("-", "-")
        print(
            f"{p['layer']:16} {p['case']:16} {p['m']:5} {p['us']:8.1f} {p['stream_us']:8.1f} "
            f"{host:>5} {peer:>8} {faster:>6} {p['weight_gb_s']:5.0f} {p['tflop_s']:5.0f} "
            f"{p['block_size']:3} {_config_text(p):>18}  {_best_text(p)}"
        )


def _config_text(entry: dict[str, Any]) -> str:
    tile = f"{entry['thread_k']},{entry['thread_n']},{entry['threads']}"
    return f"{tile}/{entry['blocks_per_sm']}/{entry['stripe_slack']}"


def _best_text(point: dict[str, Any]) -> str:
    if not point.get("sweep"):
        return ""
    best = point["sweep"][0]
    gain = point["us"] / best["us"]
    return f"{best['us']:.1f} (x{gain:.2f}) block {best['block_size']} {_config_text(best)}"


def print_compact(points: list[dict[str, Any]]) -> None:
    """Prints a line for each layer and case: microseconds, and how many times the peer's speed."""
    tokens = sorted({point["m"] for point in points})
    print(f"{'us (peer / ours)':33}" + "".join(f"{'M ' + str(m):>14}" for m in tokens))
    rows: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for point in points:
        rows.setdefault((point["layer"], point["case"]), {})[point["m"]] = point
    for (layer, case), row in rows.items():
        cells = [_cell(row[m]) if m in row else "" for m in tokens]
        print(f"{layer:15} {case:17}" + "".join(f"{cell:>14}" for cell in cells))


def _cell(point: dict[str, Any]) -> str:
    return f"{point['us']:.1f}" + (f" ({point['faster']:.2f})" if point["faster"] else "")


def geometric_mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def print_means(points: list[dict[str, Any]]) -> None:
    """Prints how many times as fast as the peer each case is, and all of them, as means."""
    compared = [point for point in points if point["faster"]]
    for name in [*dict.fromkeys(point["case"] for point in compared), "all"]:
        members = [point for point in compared if name in (point["case"], "all")]
        if members:
            mean = geometric_mean([point["faster"] for point in members])
            worst = min(members, key=lambda point: point["faster"])
            print(
                f"{name:17} {mean:.3f} times as fast as the peer (geometric mean of "
                f"{len(members)}); least {worst['faster']:.2f}: {worst['layer']} {worst['case']} "
                f"M {worst['m']}"
            )


def print_ratios(points: list[dict[str, Any]]) -> None:
    """Prints a line for each layer and case: microseconds, and the base's time / the new one's."""
    tokens = sorted({point["m"] for point in points})
    print(f"{'us (base / new)':33}" + "".join(f"{'M ' + str(m):>16}" for m in tokens))
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for point in points:
        row = rows.setdefault((point["layer"], point["case"]), {})
        row[point["m"]] = f"{point['us']:.1f} ({point['ratio']:.3f})"
    for (layer, case), row in rows.items():
        print(f"{layer:15} {case:17}" + "".join(f"{row.get(m, ''):>16}" for m in tokens))


def print_ratio_means(points: list[dict[str, Any]]) -> None:
    """Prints the geometric means of the ratios, of each number of tokens and case and of all, and
    how far apart outputs are."""
    groups = [
        *((f"M {m}", [p for p in points if p["m"] == m]) for m in sorted({p["m"] for p in points})),
        *(
            (case, [p for p in points if p["case"] == case])
            for case in dict.fromkeys(p["case"] for p in points)
        ),
        ("all", points),
    ]
    for name, members in groups:
        if not members:
            continue
        mean = geometric_mean([point["ratio"] for point in members])
        least, most = (f(point["ratio"] for point in members) for f in (min, max))
        print(
            f"{name:17} base / new {mean:.4f} (geometric mean of {len(members)}, {least:.3f} to "
            f"{most:.3f})"
        )
    if points:
        same = sum(point["same_bits"] for point in points)
        error = max(point["relative_error"] for point in points)
        print(
            f"{same} of {len(points)} points give the same bits; largest relative mean difference "
            f"{error:.1e}"
        )


def print_slow(points: list[dict[str, Any]], limit: float) -> None:
    """Prints the points that are less than `limit` times as fast as the peer, slowest first."""
    slow = sorted(
        (point for point in points if point["faster"] < limit), key=lambda point: point["faster"]
    )
    print(f"{len(slow)} of {len(points)} points are less than {limit} times as fast as the peer")
    for p in slow:
        print(
            f"{p['layer']:15} {p['case']:17} M {p['m']:4}: {p['us']:.1f} us, peer "
            f"{p['peer_us']:.1f} us ({p['faster']:.2f}); block size {p['block_size']}, peer "
            f"{p['peer_block_size']}"
        )


def print_bandwidth(points: list[dict[str, Any]], copy_gb_s: float) -> None:
    """Prints, for few tokens, how fast weights are read: beside copies, and beside a kernel that
    does nothing but read them, which is as fast as a GEMM could be."""
    for name in dict.fromkeys(point["case"] for point in points):
        few = [point for point in points if point["case"] == name and point["m"] <= FEW_TOKENS]
        large = [f"{100 * point['weight_gb_s'] / copy_gb_s:.0f}" for point in few]
        floor = [
            f"{100 * point['weight_bytes'] / point['read_us'] / 1e3 / copy_gb_s:.0f}"
            for point in few
        ]
        same = [f"{100 * point['copy_same_bytes_us'] / point['us']:.0f}" for point in few]
        read = [f"{100 * point['read_us'] / point['us']:.0f}" for point in few]
        if few:
            print(
                f"{name:17} M <= {FEW_TOKENS}, weight bytes in % of a large copy's: "
                f"{' '.join(large)}"
            )
            print(f"{'':17} the same of a kernel that only reads them: {' '.join(floor)}")
            print(f"{'':17} in % of that kernel's: {' '.join(read)}")
            print(f"{'':17} in % of a copy of as many bytes: {' '.join(same)}")
