"""Times the MoE GEMM on a GPU, on the layers of three models, beside the recorded peer figures.

    bench_moe_gemm.py --library libmoe_gemm_test.so --out bench.json [--sweep]

Weights are random bits that no launch finds in the L2 cache: launches go round several sets of
weights, each with a routing of its own. The headline figure is the median of a CUDA graph of
launches between two events; --details prints every point, with plain launches and the host's time
of a call beside it. --sweep also times every block size, tile and number of blocks, and says what
the library's choice costs. --host times nothing but the host: a call, and launches of an empty
kernel in the same process.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moe_reference
import numpy as np
import torch
from cases import BLOCK_SIZES
from moe_gemm_lib import EMPTY_LAUNCHES, MoeGemmLibrary
from shim_lib import ShimError
from weights import DTYPES

_TOKENS = (1, 4, 16, 64, 256, 1024, 4096)
# Bytes that a round of launches reads at least, several times the L2 cache of an H100.
_COLD_BYTES = 300 << 20
_MOST_SETS = 48
_POOL_BYTES = 16 << 30
_TILES = ((128, 128, 256), (64, 256, 256), (64, 128, 128))
_BLOCKS_PER_SM = (1, 2, 3, 4)
_STRIPE_SLACKS = (0, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Layer:
    """One GEMM of a model's MoE layer. `down`: one row of A per id, weights multiplied."""

    name: str
    num_experts: int
    top_k: int
    k: int
    n: int
    down: bool


LAYERS = (
    Layer("mixtral_gate_up", 8, 2, 4096, 28672, False),
    Layer("mixtral_down", 8, 2, 14336, 4096, True),
    Layer("qwen3_gate_up", 128, 8, 2048, 1536, False),
    Layer("qwen3_down", 128, 8, 768, 2048, True),
    Layer("dsv3_gate_up", 256, 8, 7168, 4096, False),
    Layer("dsv3_down", 256, 8, 2048, 7168, True),
)


@dataclass(frozen=True)
class Quantisation:
    """One case: its name (the peer's where it has figures), types and group size.

    `layers`: how many of LAYERS it is timed on; `optional`: only where --case names it.
    """

    name: str
    a_type: str
    b_type: str
    c_type: str
    s_type: str
    group_size: int
    layers: int = 4
    optional: bool = False

    @property
    def b_bits(self) -> int:
        return 8 if self.b_type in ("kU8B128", "kFE4M3fn") else 4

    @property
    def scale_bytes(self) -> int:
        return 1 if self.s_type in ("kFE4M3fn", "kFE8M0fnu") else 2

    def scales_per_expert(self, layer: Layer) -> int:
        groups = 1 if self.group_size == -1 else layer.k // self.group_size
        return groups * layer.n

    def weight_bytes(self, layer: Layer) -> int:
        return layer.k * layer.n * self.b_bits // 8

    def expert_bytes(self, layer: Layer) -> float:
        """Bytes of one expert: weights, scales and zero points."""
        zero_point = 0.5 if self.b_type == "kU4" else 0
        scale = self.scale_bytes + zero_point
        return self.weight_bytes(layer) + self.scales_per_expert(layer) * scale


_BF16, _F16 = "kBFloat16", "kFloat16"
QUANTISATIONS = (
    Quantisation("bf16_u4b8_g128", _BF16, "kU4B8", _BF16, _BF16, 128, layers=6),
    Quantisation("fp16_u4awq_g128", _F16, "kU4", _F16, _F16, 128),
    Quantisation("bf16_mxfp4_g32", _BF16, "kFE2M1f", _BF16, "kFE8M0fnu", 32),
    Quantisation("bf16_fp8_ch", _BF16, "kFE4M3fn", _BF16, _BF16, -1),
    Quantisation("bf16_fp8_g128", _BF16, "kFE4M3fn", _BF16, _BF16, 128),
    Quantisation("bf16_nvfp4_g16", _BF16, "kFE2M1f", _BF16, "kFE4M3fn", 16),
    Quantisation("bf16_u8b128_g128", _BF16, "kU8B128", _BF16, _BF16, 128),
    Quantisation("s8_u4b8_g128", "kS8", "kU4B8", _BF16, _BF16, 128, optional=True),
    Quantisation("s8_u4b8_ch", "kS8", "kU4B8", _BF16, _BF16, -1, optional=True),
    Quantisation("e4m3_u4b8_g128", "kFE4M3fn", "kU4B8", _BF16, _BF16, 128, optional=True),
    Quantisation("e4m3_mxfp4_g32", "kFE4M3fn", "kFE2M1f", _BF16, "kFE8M0fnu", 32, optional=True),
)


class Pool:
    """Random bits for weights and zero points, shared by all layers, and scales of one case."""

    def __init__(self, device: str, pool_bytes: int) -> None:
        self.bits = torch.randint(
            -(2**31), 2**31 - 1, (pool_bytes // 4,), dtype=torch.int32, device=device
        )
        self._case: Quantisation | None = None
        self._scales = torch.empty(0)

    def scales(self, case: Quantisation) -> torch.Tensor:
        """Returns random scales that keep outputs finite, enough for all weights of the pool."""
        if self._case != case:
            self._case, self._scales = None, torch.empty(0)  # frees the last case's
            group = 128 if case.group_size == -1 else case.group_size
            count = self.bits.numel() * 32 // case.b_bits // group
            self._scales = _random_scales(case, count, self.bits.device)
            self._case = case
        return self._scales


def _random_scales(case: Quantisation, count: int, device: torch.device) -> torch.Tensor:
    def integers(low: int, high: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(low, high, (count,), dtype=dtype, device=device)

    if case.s_type == "kFE4M3fn":
        return integers(0x60, 0x80, torch.uint8)
    if case.s_type == "kFE8M0fnu":
        return integers(115, 122, torch.uint8)
    if case.a_type == "kS8" and case.group_size != -1:
        return integers(2000, 4096, torch.int16)
    size = {"kU8B128": 2.0**-11, "kFE4M3fn": 2.0**-12 * 2.0**120}.get(case.b_type, 2.0**-7)
    draws = torch.rand(count, dtype=DTYPES[case.c_type], device=device) + 0.5
    return draws * size


class Workload:
    """The operands of one layer, case and number of tokens, in several sets."""

    def __init__(
        self, library: MoeGemmLibrary, pool: Pool, layer: Layer, case: Quantisation, tokens: int
    ) -> None:
        self._library = library
        self._layer = layer
        self._case = case
        self._device = pool.bits.device
        self._pool = pool
        self.ids = tokens * layer.top_k
        rows = self.ids if layer.down else tokens
        self._a = self._activations(rows)
        self._a_scales = torch.full((rows,), 2.0**-12, device=self._device)
        shape = (self.ids, layer.n)
        self.c = torch.zeros(shape, device=self._device, dtype=DTYPES[case.c_type])
        self._topk_weights = torch.rand(self.ids, device=self._device)
        # What weights and block scales owe, and a little.
        self._global_scales = torch.full((layer.num_experts,), 2.0**112, device=self._device)
        self._make_routing(tokens)
        self._make_base(rows)

    def _activations(self, rows: int) -> torch.Tensor:
        values = torch.randn((rows, self._layer.k), device=self._device)
        if self._case.a_type == "kS8":
            return (values * 30).round().clamp(-127, 127).to(torch.int8)
        if self._case.a_type == "kFE4M3fn":
            return (values * 30).to(torch.float8_e4m3fn)
        return values.to(DTYPES[self._case.a_type])

    def _make_routing(self, tokens: int) -> None:
        layer = self._layer
        rng = np.random.default_rng(tokens)
        first = moe_reference.random_routing(rng, tokens, layer.num_experts, layer.top_k)
        read = len(np.unique(first)) * self._case.expert_bytes(layer)
        all_bytes = self._case.weight_bytes(layer) * layer.num_experts
        fitting = self._pool.bits.numel() * 4 // all_bytes
        count = max(1, min(_MOST_SETS, fitting, max(2, math.ceil(_COLD_BYTES / read))))
        self._routings = [first]
        for _ in range(count - 1):
            self._routings.append(
                moe_reference.random_routing(rng, tokens, layer.num_experts, layer.top_k)
            )
        self.experts_read = float(np.mean([len(np.unique(r)) for r in self._routings]))

    def _make_base(self, rows: int) -> None:
        layer, case, type_id = self._layer, self._case, self._library.type_id
        self._base = {
            "m": rows,
            "n": layer.n,
            "k": layer.k,
            "num_experts": layer.num_experts,
            "top_k": 1 if layer.down else layer.top_k,
            "group_size": case.group_size,
            "num_groups": 1 if case.group_size == -1 else layer.k // case.group_size,
            "a_type": type_id(case.a_type),
            "b_type": type_id(case.b_type),
            "c_type": type_id(case.c_type),
            "s_type": type_id(case.s_type),
            "a": self._a.data_ptr(),
            "a_scales": self._a_scales.data_ptr(),
            "a_stride": layer.k,
            "global_scales": self._global_scales.data_ptr(),
            "c": self.c.data_ptr(),
            "topk_weights": self._topk_weights.data_ptr() if layer.down else None,
        }
        args = self._library.Args(**self._base, block_size=BLOCK_SIZES[-1])
        status, size = self._library.max_workspace_size(args)
        if not status.ok:
            raise ShimError(f"max_workspace_size: {status.name}: {status.message}")
        self._workspace = torch.zeros(size, dtype=torch.uint8, device=self._device)

    def chosen_block_size(self) -> int:
        base = self._base
        names = ("m", "num_experts", "top_k", "a_type")
        return self._library.block_size(*(base[name] for name in names))

    def sets(self, block_size: int) -> list[Any]:
        """Returns the argument structs for a block size; what they point to stays with self."""
        self._alignments: list[torch.Tensor] = []
        sets = [self._set(index, block_size) for index in range(len(self._routings))]
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # the timing loops run on streams of their own
        return sets

    def _set(self, index: int, block_size: int) -> Any:
        layer = self._layer
        alignment = moe_reference.moe_align(self._routings[index], layer.num_experts, block_size)
        pointers = {}
        for name in ("sorted_token_ids", "expert_ids", "num_tokens_past_padded"):
            tensor = torch.from_numpy(getattr(alignment, name)).to(self._device)
            self._alignments.append(tensor)
            pointers[name] = tensor.data_ptr()
        bits = self._pool.bits.data_ptr()
        scales = layer.num_experts * self._case.scales_per_expert(layer)
        weight_bytes = layer.num_experts * self._case.weight_bytes(layer)
        pointers["b"] = bits + index * weight_bytes
        first_scale = self._pool.scales(self._case).data_ptr()
        pointers["scales"] = first_scale + index * scales * self._case.scale_bytes
        if self._case.b_type == "kU4":
            # From the far end of the pool, so that they are not some set's weights in cache.
            far = self._pool.bits.numel() * 4 - (index + 1) * (scales // 2)
            pointers["zero_points"] = bits + far // 16 * 16
        return self._library.Args(
            **self._base,
            **pointers,
            block_size=block_size,
            workspace=self._workspace.data_ptr(),
            workspace_bytes=self._workspace.numel(),
        )


def measure(
    library: MoeGemmLibrary,
    sets: list[Any],
    config: Any,
    seconds: float,
    graph: bool = True,
    worth: float = math.inf,
) -> float:
    """Returns the median microseconds of a launch, spending about `seconds`.

    Anything slower than `worth` is measured roughly.
    """
    rough = library.time(sets, config, len(sets), 1, graph)
    if rough > worth:
        return rough
    launches = len(sets) * math.ceil(8 / len(sets)) if rough < 500 else len(sets)
    repeats = int(seconds * 1e6 / (rough * launches))
    return library.time(sets, config, launches, min(max(repeats, 3), 50), graph)


def candidates(library: MoeGemmLibrary) -> Iterator[tuple[int, Any]]:
    """Yields every (block size, configuration) of the first stage of a sweep."""
    for block_size in BLOCK_SIZES:
        for thread_k, thread_n, threads in _TILES:
            if threads == 256 and (thread_n == 128) != (block_size <= 16):
                continue
            for blocks_per_sm in _BLOCKS_PER_SM:
                yield (
                    block_size,
                    library.config(
                        thread_k=thread_k,
                        thread_n=thread_n,
                        threads=threads,
                        blocks_per_sm=blocks_per_sm,
                        stripe_slack=-1,
                    ),
                )


def sweep(library: MoeGemmLibrary, workload: Workload, seconds: float) -> list[dict[str, Any]]:
    """Times every candidate, then stripe_slack on the five fastest; returns them, fastest first."""
    timed: list[dict[str, Any]] = []

    def attempt(sets: list[Any], block_size: int, config: Any) -> None:
        try:
            worth = 1.3 * min((entry["us"] for entry in timed), default=math.inf)
            microseconds = measure(library, sets, config, seconds, worth=worth)
        except ShimError:
            return  # more blocks than fit, or no such kernel
        entry = {"us": microseconds, "block_size": block_size, **library.config_dict(config)}
        timed.append(entry)

    sets: list[Any] = []
    for block_size, config in candidates(library):
        if not sets or sets[0].block_size != block_size:
            sets = workload.sets(block_size)
        attempt(sets, block_size, config)
    timed.sort(key=lambda entry: entry["us"])
    for entry in timed[:5]:
        fields = {name: entry[name] for name, _ in library.Config._fields_}
        sets = workload.sets(entry["block_size"])
        for stripe_slack in _STRIPE_SLACKS:
            config = library.config(**{**fields, "stripe_slack": stripe_slack})
            attempt(sets, entry["block_size"], config)
    return sorted(timed, key=lambda entry: entry["us"])


def bench_point(
    library: MoeGemmLibrary,
    pool: Pool,
    layer: Layer,
    case: Quantisation,
    tokens: int,
    with_sweep: bool,
) -> dict[str, Any]:
    """Times one layer, case and number of tokens."""
    workload = Workload(library, pool, layer, case, tokens)
    block_size = workload.chosen_block_size()
    sets = workload.sets(block_size)
    status, config = library.choose_config(sets[0])
    if not status.ok:
        raise ShimError(f"choose_config: {status.name}: {status.message}")
    microseconds = measure(library, sets, None, 0.02)
    if not bool(torch.isfinite(workload.c).all()) or not bool(workload.c.any()):
        raise ShimError("the output is not finite, or all zero")
    point = {
        "layer": layer.name,
        "case": case.name,
        "m": tokens,
        "us": microseconds,
        "stream_us": measure(library, sets, None, 0.01, graph=False),
        "host_us": library.host_time(sets, None, 100, 5) if tokens <= 64 else None,
        "sets": len(sets),
        "experts_read": workload.experts_read,
        "weight_gb_s": workload.experts_read * case.expert_bytes(layer) / microseconds / 1e3,
        "tflop_s": 2.0 * workload.ids * layer.k * layer.n / microseconds / 1e6,
        "block_size": block_size,
        **library.config_dict(config),
    }
    if with_sweep:
        point["sweep"] = sweep(library, workload, 0.004)
    return point


def host_figures(library: MoeGemmLibrary, points: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the host microseconds of empty launches, and of the points' calls."""
    empty = [library.empty_launch_time(kind, 100, 50) for kind in range(len(EMPTY_LAUNCHES))]
    calls = sorted(point["host_us"] for point in points)
    return {
        "empty_launches": dict(zip(EMPTY_LAUNCHES, empty, strict=True)),
        "call_least": calls[0],
        "call_median": calls[len(calls) // 2],
        "call_most": calls[-1],
    }


def host_point(
    library: MoeGemmLibrary, pool: Pool, layer: Layer, case: Quantisation, tokens: int
) -> dict[str, Any]:
    """Times one layer, case and number of tokens on the host."""
    workload = Workload(library, pool, layer, case, tokens)
    sets = workload.sets(workload.chosen_block_size())
    host = library.host_time(sets, None, 100, 50)
    return {"layer": layer.name, "case": case.name, "m": tokens, "host_us": host}


def time_host(library: MoeGemmLibrary, pool: Pool, options: argparse.Namespace) -> int:
    """Prints what a call costs on the host, and what of it is the launch itself."""
    points = [host_point(library, pool, *item) for item in selected(options) if item[2] <= 64]
    figures = host_figures(library, points)
    for point in points:
        print(f"{point['layer']:16} {point['case']:16} M {point['m']:3} {point['host_us']:5.2f} us")
    for label, microseconds in figures["empty_launches"].items():
        print(f"empty launch, {label}: {microseconds:.2f} us")
    print(
        f"{len(points)} points: a call takes {figures['call_least']:.2f} to "
        f"{figures['call_most']:.2f} us on the host, median {figures['call_median']:.2f}"
    )
    text = json.dumps({"host": figures, "points": points}, indent=1)
    Path(options.out).write_text(text, encoding="utf-8")
    return 0


def copy_bandwidth(device: str) -> float:
    """Returns the GB/s that a large copy on the device moves, counting both directions."""
    source = torch.empty(1 << 31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _torch_microseconds(lambda: target.copy_(source)) / 1e3


def matmul_rate(device: str) -> float:
    """Returns the TFLOP/s of PyTorch's bf16 product of two 8192 x 8192 matrices."""
    a = torch.randn((8192, 8192), device=device, dtype=torch.bfloat16)
    out = torch.empty_like(a)
    return 2 * 8192**3 / _torch_microseconds(lambda: torch.mm(a, a, out=out)) / 1e6


def _torch_microseconds(run: Any) -> float:
    samples = []
    for _ in range(12):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) * 1e3)
    return float(np.median(samples[2:]))


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


def print_bandwidth(points: list[dict[str, Any]], copy_gb_s: float) -> None:
    """Prints, for few tokens, the share of a copy's bandwidth that weights are read with."""
    for name in dict.fromkeys(point["case"] for point in points):
        few = [point for point in points if point["case"] == name and point["m"] <= 16]
        shares = [f"{100 * point['weight_gb_s'] / copy_gb_s:.0f}" for point in few]
        if shares:
            print(f"{name:17} M <= 16, weight bytes in % of a copy's: {' '.join(shares)}")


def print_summary(points: list[dict[str, Any]], machine: dict[str, Any], details: bool) -> None:
    if details:
        print_points(points)
    print_compact(points)
    print_means(points)
    print_bandwidth(points, machine["copy_gb_s"])
    print(
        f"{machine['device']}: copy {machine['copy_gb_s']:.0f} GB/s both ways, bf16 8192^3 "
        f"{machine['matmul_tflop_s']:.0f} TFLOP/s; config is thread_k,thread_n,threads/blocks per "
        "SM/stripe_slack; faster is peer / ours"
    )


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libmoe_gemm_test.so")
    parser.add_argument("--out", required=True, help="file for all figures, JSON")
    parser.add_argument("--sweep", action="store_true", help="time every configuration as well")
    parser.add_argument("--details", action="store_true", help="print every point and its config")
    parser.add_argument("--host", action="store_true", help="instead: the host's time of a call")
    parser.add_argument("--only", default="", help="layers whose name holds this text")
    parser.add_argument(
        "--case", default="", help="cases whose name holds this text, optional ones too"
    )
    parser.add_argument("--tokens", type=int, nargs="*", default=list(_TOKENS))
    parser.add_argument("--budget-seconds", type=float, default=400, help="stop after")
    return parser.parse_args(argv)


def selected(options: argparse.Namespace) -> Iterator[tuple[Layer, Quantisation, int]]:
    """Yields the points asked for, case by case."""
    for case in QUANTISATIONS:
        if options.case not in case.name or (case.optional and not options.case):
            continue
        for layer in LAYERS[: case.layers]:
            if options.only in layer.name:
                for tokens in options.tokens:
                    yield layer, case, tokens


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    started = time.monotonic()
    library = MoeGemmLibrary(options.library)
    if options.host:
        return time_host(library, Pool("cuda", _POOL_BYTES), options)
    peer = json.loads((Path(__file__).parent / "peer_h100.json").read_text(encoding="utf-8"))
    machine = {
        "device": torch.cuda.get_device_name(),
        "copy_gb_s": copy_bandwidth("cuda"),
        "matmul_tflop_s": matmul_rate("cuda"),
    }
    torch.cuda.empty_cache()
    pool = Pool("cuda", _POOL_BYTES)
    points: list[dict[str, Any]] = []
    failures = []
    for layer, case, tokens in selected(options):
        label = f"{layer.name} {case.name} M {tokens}"
        if time.monotonic() - started > options.budget_seconds:
            failures.append(f"{label}: not timed, the budget is spent")
            continue
        try:
            point = bench_point(library, pool, layer, case, tokens, options.sweep)
        except (ShimError, RuntimeError) as error:
            failures.append(f"{label}: {str(error)[:300]}")
            continue
        point["peer_us"] = peer_figure(peer, point)
        point["faster"] = point["peer_us"] / point["us"] if point["peer_us"] else None
        points.append(point)
        Path(options.out).write_text(
            json.dumps({"machine": machine, "points": points, "failures": failures}, indent=1),
            encoding="utf-8",
        )
    for failure in failures:
        print(f"FAIL {failure}")
    print_summary(points, machine, options.details)
    print(f"{len(points)} points, {len(failures)} failed, {time.monotonic() - started:.0f} s")
    return 1 if failures or not points else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
