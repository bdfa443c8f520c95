"""Times the MoE GEMM on a GPU, on the layers of three models, beside the recorded peer figures.

    bench_moe_gemm.py --library libmoe_gemm_test.so --out bench.json [--sweep]

Weights are random bits that no launch finds in the L2 cache: launches go round several sets of
weights, each with a routing of its own. The headline figure is the median of a CUDA graph of
launches between two events; --details prints every point, with plain launches and the host's time
of a call beside it. Up to 16 tokens copies of as many bytes, and kernels that only read the
weights, stand beside it as well. --sweep also times every block size, tile and number of blocks,
and says what the library's choice costs. --host times nothing but the host: a call, and launches of
an empty kernel in the same process.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bench_points import LAYERS, NARROW_LAYERS, TOKENS, Layer, Point, Quantisation, selected
from bench_tables import peer_figure, print_bandwidth, print_compact, print_means, print_points
from cases import SM90_THREADS
from device_timing import WeightTimer, copy_bandwidth, matmul_rate
from driver_options import positive, results_file, write_results
from moe_gemm_lib import EMPTY_LAUNCHES, MoeGemmLibrary
from shim_lib import ShimError
from workload import POOL_BYTES, Pool, Workload, launches_of, repeats_of

# The last is in no scheme of the table; //tests/gpu:narrow_tile_kernels has it.
_TILES = (
    *((128, 128, 256), (64, 256, 256), (64, 128, 128), (128, 64, 128)),
    *((thread_k, thread_n, SM90_THREADS) for thread_k in (64, 128) for thread_n in (128, 256, 512)),
)
_BLOCKS_PER_SM = (1, 2, 3, 4)
_STRIPE_SLACKS = (0, 2, 4, 8, 16, 32)
# Beyond, the device takes so long that calls wait for each other.
_MOST_TOKENS_ON_HOST = 64


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
    launches = launches_of(len(sets), rough)
    return library.time(sets, config, launches, repeats_of(rough * launches, seconds), graph)


def candidates(library: MoeGemmLibrary, workload: Workload) -> Iterator[tuple[int, Any]]:
    """Yields every (block size, configuration) of the first stage of a sweep."""
    for block_size in range(8, 257, 8):
        for thread_k, thread_n, threads in _TILES:
            for blocks_per_sm in _BLOCKS_PER_SM:
                config = library.config(
                    thread_k=thread_k,
                    thread_n=thread_n,
                    threads=threads,
                    blocks_per_sm=blocks_per_sm,
                    stripe_slack=-1,
                )
                if workload.has_kernel(block_size, config):
                    yield block_size, config


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
    for block_size, config in candidates(library, workload):
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
    weights: WeightTimer,
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
    launches = launches_of(len(sets), microseconds)
    few = tokens <= _MOST_TOKENS_ON_HOST
    point = {
        "layer": layer.name,
        "case": case.name,
        "m": tokens,
        "us": microseconds,
        "stream_us": measure(library, sets, None, 0.01, graph=False),
        "host_us": library.host_time(sets, None, 100, 5) if few else None,
        "sets": len(sets),
        **weights.figures(workload, tokens, microseconds, launches),
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
    choices = sorted(point["choice_us"] for point in points)
    return {
        "empty_launches": dict(zip(EMPTY_LAUNCHES, empty, strict=True)),
        "call_least": calls[0],
        "call_median": calls[len(calls) // 2],
        "call_most": calls[-1],
        "choice_median": choices[len(choices) // 2],
        "choice_most": choices[-1],
    }


def host_point(
    library: MoeGemmLibrary, pool: Pool, layer: Layer, case: Quantisation, tokens: int
) -> dict[str, Any]:
    """Times one layer, case and number of tokens on the host."""
    workload = Workload(library, pool, layer, case, tokens)
    sets = workload.sets(workload.chosen_block_size())
    return {
        "layer": layer.name,
        "case": case.name,
        "m": tokens,
        "host_us": library.host_time(sets, None, 100, 50),
        "choice_us": library.host_time(sets, None, 100, 50, launch=False),
    }


def points_of(options: argparse.Namespace) -> list[Point]:
    """The points that the options ask for."""
    return selected(options, layers=NARROW_LAYERS if options.narrow else LAYERS)


def time_host(library: MoeGemmLibrary, pool: Pool, options: argparse.Namespace) -> int:
    """Prints what a call costs on the host, and what of it is the launch itself."""
    wanted = [point for point in points_of(options) if point[2] <= _MOST_TOKENS_ON_HOST]
    if not wanted:
        raise SystemExit(f"--host times calls with up to {_MOST_TOKENS_ON_HOST} --tokens")
    points = [host_point(library, pool, *point) for point in wanted]
    figures = host_figures(library, points)
    for point in points:
        print(f"{point['layer']:16} {point['case']:16} M {point['m']:3} {point['host_us']:5.2f} us")
    for label, microseconds in figures["empty_launches"].items():
        print(f"empty launch, {label}: {microseconds:.2f} us")
    print(
        f"{len(points)} points: a call takes {figures['call_least']:.2f} to "
        f"{figures['call_most']:.2f} us on the host, median {figures['call_median']:.2f}; without "
        f"a launch, checks and choice alone, median {figures['choice_median']:.2f} us, at most "
        f"{figures['choice_most']:.2f}"
    )
    write_results(options.out, {"host": figures, "points": points})
    return 0


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
    parser.add_argument(
        "--out", type=results_file, required=True, help="file for all figures, JSON"
    )
    parser.add_argument(
        "--sweep", action="store_true", help="time every configuration as well, and print --details"
    )
    parser.add_argument("--details", action="store_true", help="print every point and its config")
    parser.add_argument("--host", action="store_true", help="instead: the host's time of a call")
    parser.add_argument(
        "--narrow", action="store_true", help="instead: layers with few columns, of shards"
    )
    parser.add_argument("--only", default="", help="layers whose name holds this text")
    parser.add_argument(
        "--case", default="", help="cases whose name holds this text, optional ones too"
    )
    parser.add_argument("--tokens", type=positive, nargs="+", default=list(TOKENS))
    parser.add_argument("--budget-seconds", type=float, default=400, help="stop after")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    wanted = points_of(options)
    started = time.monotonic()
    library = MoeGemmLibrary(options.library)
    if options.host:
        return time_host(library, Pool("cuda", POOL_BYTES), options)
    peer = json.loads((Path(__file__).parent / "peer_h100.json").read_text(encoding="utf-8"))
    machine = {
        "device": torch.cuda.get_device_name(),
        "copy_gb_s": copy_bandwidth("cuda"),
        "matmul_tflop_s": matmul_rate("cuda"),
    }
    torch.cuda.empty_cache()
    pool = Pool("cuda", POOL_BYTES)
    weights = WeightTimer(library, pool.bits)
    points: list[dict[str, Any]] = []
    failures: list[str] = []
    results = {"machine": machine, "points": points, "failures": failures}
    for layer, case, tokens in wanted:
        label = f"{layer.name} {case.name} M {tokens}"
        if time.monotonic() - started > options.budget_seconds:
            failures.append(f"{label}: not timed, the budget is spent")
            continue
        try:
            point = bench_point(library, pool, layer, case, tokens, weights, options.sweep)
        except (ShimError, RuntimeError) as error:
            failures.append(f"{label}: {str(error)[:300]}")
            continue
        point["peer_us"] = peer_figure(peer, point)
        point["faster"] = point["peer_us"] / point["us"] if point["peer_us"] else None
        points.append(point)
        write_results(options.out, results)
    write_results(options.out, results)
    for failure in failures:
        print(f"FAIL {failure}")
    print_summary(points, machine, options.details or options.sweep)
    print(f"{len(points)} points, {len(failures)} failed, {time.monotonic() - started:.0f} s")
    return 1 if failures or not points else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
