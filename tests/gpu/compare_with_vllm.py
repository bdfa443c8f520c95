"""Times the MoE GEMM beside vLLM's operator, on the same operands, device and routing.

    compare_with_vllm.py --library libmoe_gemm_test.so --out compare.json \\
        --peer-library vllm/_moe_C_stable_libtorch.abi3.so

Both launch from CUDA graphs that are captured and timed the same way and take turns; each aligns
the routing to the block size of its own choice, which is not timed. What both compute is compared
as well. The peer's kernels may have to be compiled by the driver at their first launch, so every
point is launched once before the first is timed; --warm-up-only stops there, for several processes
with a case each to fill the driver's cache at once. Exit status 1 if a point failed, or if outputs
differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

import checks
import torch
from bench_points import QUANTISATIONS, TOKENS, Layer, Point, Quantisation, selected
from bench_tables import print_bandwidth, print_compact, print_means, print_slow
from device_timing import Launches, WeightTimer, alternate, copy_bandwidth
from driver_options import positive, results_file, write_results
from moe_gemm_lib import MoeGemmLibrary
from shim_lib import ShimError
from vllm_operator import CASES, WORKSPACE_PER_SM, arguments, peer_block_size
from workload import POOL_BYTES, Pool, Workload, launches_of, repeats_of

# Of a process that warms up only: enough for the weights of the largest layer.
_WARM_UP_POOL_BYTES = 4 << 30
_SLOW = 0.95


@dataclass(frozen=True)
class Contest:
    """Both libraries, and how to time them."""

    library: MoeGemmLibrary
    operator: Any
    shim_timing: bool


def load_operator(path: str) -> Any:
    """Returns vLLM's operator out of its library of MoE kernels."""
    torch.ops.load_library(path)
    return torch.ops._moe_C.moe_wna16_marlin_gemm.default


class Peer:
    """vLLM's operator on the operands of a workload, with an output and a workspace of its own."""

    def __init__(
        self, contest: Contest, workload: Workload, layer: Layer, case: Quantisation
    ) -> None:
        self._operator = contest.operator
        self.c = torch.zeros_like(workload.c)
        self.block_size = peer_block_size(workload.ids, layer.num_experts)
        device = workload.c.device
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        shared = {
            "a": workload.a,
            "c": self.c,
            "topk_weights": workload.topk_weights,
            "workspace": torch.zeros(
                WORKSPACE_PER_SM * processors, dtype=torch.int32, device=device
            ),
        }
        self._sets = []
        for index in range(len(workload.routings)):
            operands = workload.operands(index, self.block_size)
            if case.s_type == "kFE8M0fnu":
                operands["scales"] = operands["scales"].view(torch.float8_e8m0fnu)
            self._sets.append(arguments(layer, case, self.block_size, shared, operands))

    def launch(self, index: int) -> None:
        """Launches on set number `index`, counted round and round, on the current stream."""
        self._operator(*self._sets[index % len(self._sets)])


class Ours:
    """The library on the operands of a workload."""

    def __init__(self, contest: Contest, workload: Workload) -> None:
        self._library = contest.library
        self.block_size = workload.chosen_block_size()
        self.sets = workload.sets(self.block_size)

    def launch(self, index: int) -> None:
        """Launches on set number `index`, counted round and round, on the current stream."""
        args = self.sets[index % len(self.sets)]
        args.stream = torch.cuda.current_stream().cuda_stream
        status = self._library.gemm(args)
        if not status.ok:
            raise ShimError(f"gemm: {status.name}: {status.message}")


def compare_outputs(ours: Ours, peer: Peer, workload: Workload) -> float:
    """Launches both on the same set; returns the relative error."""
    workload.c.zero_()
    ours.launch(0)
    peer.launch(0)
    torch.cuda.synchronize()
    return checks.relative_error(workload.c, peer.c)


def complaint(point: dict[str, Any], case: Quantisation) -> str:
    """Returns what is wrong with the outputs of a point, or nothing.

    Each may be off by the limit of the acceptance run, in opposite directions.
    """
    error, limit = point["relative_error"], 2 * checks.mean_limit(case)
    if error <= limit:
        return ""
    return f"relative mean error against the peer's output {error:.2e} > {limit:.0e}"


def time_both(contest: Contest, ours: Ours, peer: Peer) -> tuple[float, float, int]:
    """Returns the median microseconds of our launches and of the peer's, and the launches."""
    library, sets = contest.library, ours.sets
    rough = library.time(sets, None, len(sets), 1, True)
    launches = launches_of(len(sets), rough)
    sides = [
        Launches(peer.launch, launches).times,
        (lambda replays: [library.time(sets, None, launches, replays, True)])
        if contest.shim_timing
        else Launches(ours.launch, launches).times,
    ]
    peer_us, us = alternate(sides, repeats_of(rough * launches, 0.02))
    return us, peer_us, launches


def time_point(
    contest: Contest,
    pool: Pool,
    weights: WeightTimer,
    layer: Layer,
    case: Quantisation,
    tokens: int,
) -> dict[str, Any]:
    """Compares outputs and times of one layer, case and number of tokens."""
    workload = Workload(contest.library, pool, layer, case, tokens)
    ours, peer = Ours(contest, workload), Peer(contest, workload, layer, case)
    error = compare_outputs(ours, peer, workload)
    us, peer_us, launches = time_both(contest, ours, peer)
    return {
        "layer": layer.name,
        "case": case.name,
        "m": tokens,
        "us": us,
        "peer_us": peer_us,
        "faster": peer_us / us,
        "block_size": ours.block_size,
        "peer_block_size": peer.block_size,
        "relative_error": error,
        "sets": len(ours.sets),
        "launches": launches,
        **weights.figures(workload, tokens, us, launches),
    }


def label(point: Point) -> str:
    layer, case, tokens = point
    return f"{layer.name} {case.name} M {tokens}"


def warm_up(contest: Contest, pool: Pool, points: list[Point]) -> list[str]:
    """Launches the peer once for every point; prints the seconds of a case, returns failures."""
    failures = []
    for name in dict.fromkeys(case.name for _, case, _ in points):
        started = time.monotonic()
        for layer, case, tokens in points:
            if case.name != name:
                continue
            try:
                workload = Workload(contest.library, pool, layer, case, tokens, most_sets=1)
                Peer(contest, workload, layer, case).launch(0)
                torch.cuda.synchronize()
            except (ShimError, RuntimeError) as error:
                failures.append(f"{label((layer, case, tokens))}: {str(error)[:300]}")
        print(f"{name}: warmed up in {time.monotonic() - started:.1f} s", flush=True)
    return failures


def time_points(
    contest: Contest, pool: Pool, points: list[Point], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str]]:
    """Times the points until the budget is spent; returns their figures, and failures."""
    started = time.monotonic()
    weights = WeightTimer(contest.library, pool.bits)
    figures, failures = [], []
    for point in points:
        if time.monotonic() - started > options.budget_seconds:
            failures.append(f"{label(point)}: not timed, the budget is spent")
            continue
        try:
            figures.append(time_point(contest, pool, weights, *point))
            wrong = complaint(figures[-1], point[1])
            if wrong:
                failures.append(f"{label(point)}: {wrong}")
        except (ShimError, RuntimeError) as error:
            failures.append(f"{label(point)}: {str(error)[:300]}")
    return figures, failures


def print_result(figures: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    print_compact(figures)
    print_slow(figures, _SLOW)
    print_bandwidth(figures, machine["copy_gb_s"])
    print_means(figures)
    if figures:
        worst = max(figures, key=lambda point: point["relative_error"])
        print(
            f"largest relative mean error of an output {worst['relative_error']:.1e}: "
            f"{worst['layer']} {worst['case']} M {worst['m']}"
        )


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libmoe_gemm_test.so")
    parser.add_argument(
        "--peer-library", required=True, help="_moe_C_stable_libtorch.abi3.so out of vLLM's wheel"
    )
    parser.add_argument(
        "--out", type=results_file, help="file for all figures, JSON; needed but for --warm-up-only"
    )
    parser.add_argument("--only", default="", help="layers whose name holds this text")
    parser.add_argument("--case", default="", help="cases whose name holds this text")
    parser.add_argument("--tokens", type=positive, nargs="+", default=list(TOKENS))
    parser.add_argument(
        "--warm-up-only", action="store_true", help="launch each of the peer's points once, no more"
    )
    parser.add_argument(
        "--shim-timing", action="store_true", help="time ours as bench_moe_gemm.py does"
    )
    parser.add_argument("--budget-seconds", type=float, default=300, help="stop timing after")
    options = parser.parse_args(argv)
    if not options.out and not options.warm_up_only:
        parser.error("--out is needed: the file for all figures")
    return options


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    points = selected(options, [case for case in QUANTISATIONS if case.name in CASES])
    operator = load_operator(options.peer_library)
    contest = Contest(MoeGemmLibrary(options.library), operator, options.shim_timing)
    machine = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    if not options.warm_up_only:
        machine["copy_gb_s"] = copy_bandwidth("cuda")
        torch.cuda.empty_cache()
    pool = Pool("cuda", _WARM_UP_POOL_BYTES if options.warm_up_only else POOL_BYTES)
    failures = warm_up(contest, pool, points)
    if not options.warm_up_only:
        started = time.monotonic()
        figures, failed = time_points(contest, pool, points, options)
        failures += failed
        results = {"machine": machine, "points": figures, "failures": failures}
        write_results(options.out, results)
        print_result(figures, machine)
        print(f"{machine['device']}: {len(figures)} points in {time.monotonic() - started:.0f} s")
    for failure in failures:
        print(f"FAIL {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
