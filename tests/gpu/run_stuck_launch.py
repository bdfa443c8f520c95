"""A launch whose thread blocks wait for partial sums that are gone ends with an error on a GPU.

    run_stuck_launch.py --library libmoe_gemm_test.so --manifest manifest.json

What two calls that share a workspace may do to each other is done on purpose: while a launch of the
family sm80 runs, the marks of its thread blocks in the workspace are overwritten with zeros, by the
copy engine. A block that comes to look for a mark then waits for ever, but for the bound on its
looks, which //tests/gpu:impatient_kernels have lower than others. The device is of no use to the
process afterwards, so it is a program of its own. Exit status 1 if no launch could be stopped so,
or ends with another error.
"""

from __future__ import annotations

import argparse
import sys
import time

import cases
import torch
from moe_gemm_lib import MoeGemmLibrary
from operands import Problem
from weights import Weights

_LAUNCHES = 50
# A launch takes a millisecond or two, a copy some microseconds.
_MOST_COPIES = 2000
_LOCK_BYTES = 2048
# cudaErrorLaunchFailure, as CUDA spells it.
_EXPECTED = "unspecified launch failure"


def make_problem(library: MoeGemmLibrary, kernels: dict[cases.Kernel, str]) -> Problem:
    """Returns a problem of which most tiles are shared by two thread blocks, that run a while."""
    kernel = max(
        (kernel for kernel in kernels if not kernel.is_sm90 and kernel.group_blocks > 0),
        key=lambda each: (each.block_size, each.thread_n),
    )
    key = cases.Combination.of(kernel, kernels[kernel]).key(2048, 4096)
    case = cases.Case(
        kind="stuck",
        weights=key,
        m=1500,
        num_experts=8,
        top_k=2,
        seed=5,
        block_size=kernel.block_size,
        tile=kernel.tile,
        stripe_slack=0,
    )
    return Problem(library, case, Weights(key, 8, "cuda", "cuda", 1), "cuda", "cuda")


def launch_and_overwrite(library: MoeGemmLibrary, problem: Problem) -> str:
    """Launches once, and overwrites the marks until it ends; returns its error, or nothing."""
    zeros = torch.zeros(_LOCK_BYTES, dtype=torch.uint8).pin_memory()
    marks = problem.workspace.bytes[:_LOCK_BYTES]
    beside = torch.cuda.Stream()
    status = library.gemm(problem.args, problem.forced_config())
    if not status.ok:
        raise SystemExit(f"gemm: {status.name}: {status.message}")
    end = torch.cuda.Event()
    end.record()
    try:
        with torch.cuda.stream(beside):
            for _ in range(_MOST_COPIES):
                if end.query():
                    return ""
                marks.copy_(zeros, non_blocking=True)
        end.synchronize()
    except RuntimeError as error:
        return str(error)
    return ""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libmoe_gemm_test.so")
    parser.add_argument("--manifest", required=True, help="manifest.json of the kernels built in")
    options = parser.parse_args(argv)
    library = MoeGemmLibrary(options.library)
    problem = make_problem(library, cases.read_manifest(options.manifest, []))
    torch.cuda.synchronize()
    for turn in range(_LAUNCHES):
        started = time.monotonic()
        error = launch_and_overwrite(library, problem)
        if error:
            seconds = time.monotonic() - started
            print(f"launch {turn + 1} of {problem.case.name} ended after {seconds:.2f} s: {error}")
            return 0 if _EXPECTED in error else 1
    print(f"none of {_LAUNCHES} launches of {problem.case.name} was stuck")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
