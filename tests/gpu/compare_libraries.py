"""Times two builds of the MoE GEMM by turns, on the same operands, device and routing.

    compare_libraries.py --base before.so --new after.so --out compare.json

Both are libmoe_gemm_test.so, of two versions of the sources. They are loaded into one process and
launch from CUDA graphs, by turns, so that what changes with time on a device meets both. Each takes
the block size and configuration of its own choice. Prints the ratio of the times at each point,
base / new: above 1 the new library is faster; and geometric means. Outputs are compared as well:
how many points give the same bits, and the largest difference of the others. Exit status 1 if a
point failed or outputs differ by more than rounding.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import checks
import torch
from bench_points import TOKENS, Layer, Point, Quantisation, selected
from bench_tables import print_ratio_means, print_ratios
from device_timing import alternate
from driver_options import fraction, positive, results_file, write_results
from moe_gemm_lib import MoeGemmLibrary
from shim_lib import ShimError
from workload import POOL_BYTES, Pool, Workload, launches_of, repeats_of


class Side:
    """One of the two libraries on the operands of a point."""

    def __init__(self, library: MoeGemmLibrary, workload: Workload) -> None:
        self._library = library
        self._workload = workload
        self.block_size = workload.chosen_block_size()
        self.sets = workload.sets(self.block_size)

    def output(self) -> torch.Tensor:
        """Returns what a launch on the first set writes into zeros, in memory that both share."""
        self._workload.c.zero_()
        self.sets[0].stream = torch.cuda.current_stream().cuda_stream
        status = self._library.gemm(self.sets[0])
        if not status.ok:
            raise ShimError(f"gemm: {status.name}: {status.message}")
        torch.cuda.synchronize()
        return self._workload.c

    def times(self, launches: int, replays: int) -> list[float]:
        """Returns the median microseconds of a launch, out of some replays of a graph of them."""
        return [self._library.time(self.sets, None, launches, replays, True)]


def time_point(
    libraries: Sequence[MoeGemmLibrary],
    pool: Pool,
    point: Point,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Compares outputs and times of both libraries at one point."""
    layer, case, tokens = point
    workload = Workload(libraries[0], pool, layer, case, tokens, remote=options.remote)
    base, new = (Side(library, workload.for_library(library)) for library in libraries)
    expected = base.output().clone()
    output = new.output()
    same = torch.equal(output.view(torch.int16), expected.view(torch.int16))
    (rough,) = base.times(len(base.sets), 1)
    launches = launches_of(len(base.sets), rough)
    sides = [lambda replays, side=side: side.times(launches, replays) for side in (base, new)]
    base_us, us = alternate(sides, repeats_of(rough * launches, options.seconds))
    return {
        "layer": layer.name,
        "case": case.name,
        "m": tokens,
        "base_us": base_us,
        "us": us,
        "ratio": base_us / us,
        "base_block_size": base.block_size,
        "block_size": new.block_size,
        "same_bits": same,
        "relative_error": 0.0 if same else checks.relative_error(output, expected),
    }


def complaint(figures: dict[str, Any], case: Quantisation) -> str:
    """Returns what is wrong with the outputs of a point, or nothing.

    Each may be off by the limit of the acceptance run, in opposite directions.
    """
    error, limit = figures["relative_error"], 2 * checks.mean_limit(case)
    return "" if error <= limit else f"outputs differ by {error:.2e} > {limit:.0e}, relative mean"


def label(layer: Layer, case: Quantisation, tokens: int) -> str:
    return f"{layer.name} {case.name} M {tokens}"


def time_points(
    libraries: Sequence[MoeGemmLibrary], points: list[Point], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str]]:
    """Times the points until the budget is spent; returns their figures, and failures."""
    pool = Pool("cuda", POOL_BYTES)
    started = time.monotonic()
    figures: list[dict[str, Any]] = []
    failures: list[str] = []
    for point in points:
        if time.monotonic() - started > options.budget_seconds:
            failures.append(f"{label(*point)}: not timed, the budget is spent")
            continue
        try:
            figures.append(time_point(libraries, pool, point, options))
            wrong = complaint(figures[-1], point[1])
            if wrong:
                failures.append(f"{label(*point)}: {wrong}")
        except (ShimError, RuntimeError) as error:
            failures.append(f"{label(*point)}: {str(error)[:300]}")
    return figures, failures


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--base", required=True, help="libmoe_gemm_test.so to compare with")
    parser.add_argument("--new", required=True, help="libmoe_gemm_test.so that is compared")
    parser.add_argument(
        "--out", type=results_file, required=True, help="file for all figures, JSON"
    )
    parser.add_argument("--only", default="", help="layers whose name holds this text")
    parser.add_argument(
        "--case", default="", help="cases whose name holds this text, optional ones too"
    )
    parser.add_argument("--tokens", type=positive, nargs="+", default=list(TOKENS))
    parser.add_argument(
        "--remote",
        type=fraction,
        default=0.0,
        help="part of the experts that are on other devices, as in expert parallelism: 0 to 1",
    )
    parser.add_argument("--seconds", type=float, default=0.02, help="to time each side of a point")
    parser.add_argument("--budget-seconds", type=float, default=300, help="stop timing after")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    points = selected(options)
    libraries = [MoeGemmLibrary(path) for path in (options.base, options.new)]
    started = time.monotonic()
    figures, failures = time_points(libraries, points, options)
    device = torch.cuda.get_device_name()
    results = {"device": device, "remote": options.remote, "points": figures, "failures": failures}
    write_results(options.out, results)
    print_ratios(figures)
    print_ratio_means(figures)
    for failure in failures:
        print(f"FAIL {failure}")
    print(
        f"{device}: {len(figures)} points, {len(failures)} failed, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if failures or not figures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
