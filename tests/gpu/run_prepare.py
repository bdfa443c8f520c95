"""Test on a GPU of everything around the GEMM: preparation, alignment, activations.

    run_prepare.py --library libprepare_test.so --c-library libmarlin_moe.so --out results.json

Each case is called, and called again as a CUDA graph; outputs must equal the references' bit by
bit, a NaN any NaN, and nothing beside them may change. Calls with bad arguments must be refused by
name and write nothing. With --c-library a sample of the cases, and all bad arguments, go through
the C interface as well. Exit status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import prepare_bad_input
import prepare_cases
import prepare_timing
from driver_options import results_file, write_results
from prepare_c_api import PrepareCApi
from prepare_cases import Case
from prepare_lib import POISON, Buffer, PrepareLibrary
from shim_lib import ShimError

# Of each function's cases one in so many goes through the C interface.
_SAMPLED = 5


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libprepare_test.so")
    parser.add_argument("--c-library", help="libmarlin_moe.so, of the same source tree")
    parser.add_argument("--out", type=results_file, help="file for all results, JSON")
    parser.add_argument("--only", default="", help="run only cases whose name holds this text")
    parser.add_argument("--no-timing", action="store_true", help="leave out the timing")
    parser.add_argument("--no-graphs", action="store_true", help="leave out graph replays")
    return parser.parse_args(argv)


def differences(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns where the bits differ; a float may be any NaN where one is wanted."""
    bits = np.dtype(f"u{wanted.itemsize}")
    differ = found.view(bits) != wanted.view(bits)
    if wanted.dtype.kind == "f":
        differ &= ~(np.isnan(found) & np.isnan(wanted))
    return np.flatnonzero(differ)


class Bench:
    """A case's arguments and buffers on the device."""

    def __init__(self, library: PrepareLibrary, case: Case, buffers: contextlib.ExitStack) -> None:
        self.library = library
        self.case = case
        self.inputs = {
            name: buffers.enter_context(Buffer(library, data.nbytes))
            for name, data in case.inputs.items()
        }
        for name, data in case.inputs.items():
            self.inputs[name].fill(data)
        self.outputs = {
            name: buffers.enter_context(Buffer(library, case.sizes.get(name, data.nbytes)))
            for name, data in case.outputs.items()
        }
        addresses = {name: b.address for name, b in {**self.inputs, **self.outputs}.items()}
        self.args = library.arguments(case.function, {**case.fields, **addresses})
        self.workspace: Buffer | None = None
        if case.function == "moe_align":
            size = library.align_workspace_size(self.args)
            self.workspace = buffers.enter_context(Buffer(library, size))
            self.args.workspace_bytes = size
            self.args.workspace = self.workspace.address if size else None

    def poison(self) -> None:
        for buffer in self.outputs.values():
            buffer.fill(np.full(buffer.size, POISON, dtype=np.uint8))

    def complaints(self) -> Iterator[str]:
        """Compares the outputs with what is expected, and everything else with what it was."""
        found: dict[str, np.ndarray] = {}
        for name, expected in self.case.outputs.items():
            data = self.outputs[name].read()
            if name in self.case.inexact:
                found[name] = data.view(expected.dtype)
                continue
            wanted = np.ascontiguousarray(expected).reshape(-1)
            found[name] = data[: wanted.nbytes].view(wanted.dtype)
            wrong = differences(found[name], wanted)
            if wrong.size:
                first = int(wrong[0])
                yield (
                    f"{name}: {wrong.size} of {wanted.size} differ, first at {first}: "
                    f"{found[name][first]} instead of {wanted[first]}"
                )
            if (data[wanted.nbytes :] != POISON).any():
                yield f"{name}: written behind what is used"
        if self.case.verify is not None:
            complaint = self.case.verify(found)
            if complaint:
                yield complaint
        for name, data in self.case.inputs.items():
            if not np.array_equal(self.inputs[name].read(), data.reshape(-1).view(np.uint8)):
                yield f"{name}: an input was changed"
        everything = {**self.inputs, **self.outputs}
        if self.workspace is not None:
            everything["workspace"] = self.workspace
        for name, buffer in everything.items():
            if not buffer.intact():
                yield f"{name}: bytes beside it were changed"


def run_case(library: PrepareLibrary, case: Case, graphs: bool) -> list[str]:
    """Runs a case, directly and as a graph; returns what is wrong."""
    problems = []
    with contextlib.ExitStack() as buffers:
        bench = Bench(library, case, buffers)
        for how in ("call", "replay") if graphs else ("call", "call"):
            bench.poison()
            status = getattr(library, how)(case.function, bench.args)
            if not status.ok:
                problems.append(f"{how}: {status.name}: {status.message}")
                continue
            problems += [f"{how}: {text}" for text in bench.complaints()]
    return problems


def run_bad_input(library: PrepareLibrary, bad: prepare_bad_input.BadInput) -> list[str]:
    """Runs a call that must be refused; returns what is wrong."""
    with contextlib.ExitStack() as buffers:
        bench = Bench(library, bad.case, buffers)
        bad.spoil(bench.args, library.type_id)
        problems = list(bad.complaints(library.call(bad.case.function, bench.args)))
        for name, buffer in bench.outputs.items():
            if (buffer.read() != POISON).any() or not buffer.intact():
                problems.append(f"{name} was written")
        return problems


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    library = PrepareLibrary(options.library)
    counts: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []

    def record(group: str, name: str, problems: list[str]) -> None:
        counts[group] += 1
        if problems:
            counts[f"{group} failed"] += 1
            failures.append({"name": name, "problems": problems})
            print(f"FAIL {name}: {'; '.join(problems)[:400]}", flush=True)

    c_api = PrepareCApi(library, options.c_library) if options.c_library else None
    good: dict[str, Case] = {}
    for case in prepare_cases.all_cases(library.align_capacity):
        prepare_bad_input.keep_good(case, good)
        if options.only not in case.name:
            continue
        in_sample = counts[case.function] % _SAMPLED == 0
        record(case.function, case.name, run_case(library, case, not options.no_graphs))
        if c_api is not None and in_sample:
            record("C interface", f"C {case.name}", run_case(c_api, case, graphs=False))
    for bad in prepare_bad_input.all_bad_input(good):
        if options.only in bad.name:
            record("bad input", bad.name, run_bad_input(library, bad))
            if c_api is not None:
                record("C bad input", f"C {bad.name}", run_bad_input(c_api, bad))
    timing: list[dict[str, Any]] = []
    if not options.no_timing and not options.only:
        try:
            timing = list(prepare_timing.measure(library))
        except ShimError as error:
            record("timing", "timing", [str(error)])
    for group in (group for group in counts if not group.endswith(" failed")):
        print(f"{group:24} {counts[group]:5} cases {counts[f'{group} failed']:4} failed")
    for row in timing:
        rate = f"{row['gigabytes_per_second']:7.0f} GB/s"
        print(f"{row['name']:56} {row['microseconds']:9.2f} us {rate}")
    if options.out:
        results = {"counts": dict(counts), "failures": failures, "timing": timing}
        write_results(options.out, results)
    return 1 if failures or not counts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
