"""Acceptance run of the MoE GEMM on a GPU: a seeded sample of the grid, every kernel, the promises.

    run_moe_gemm.py --library libmoe_gemm_test.so --manifest manifest.json --out results.json

--fuzz feeds random argument sets instead, each of which has to be refused or give the right result.
--sanitizer-sample runs a small fixed sample in this process and launches nothing but the library's
kernels, so that compute-sanitizer has only those to look at; beside --fuzz it does so with random
argument sets:

    compute-sanitizer --error-exitcode 9 --tool memcheck|racecheck|initcheck python3 \\
        run_moe_gemm.py --sanitizer-sample --library ... --manifest ... --out ...

The cases run in a worker process. One that crashes or hangs costs that case only: it is recorded as
failed and another worker goes on behind it. Exit status 1 if anything failed, or if a built kernel
was never launched with the right result.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import cases
from cases import Kernel
from driver_options import positive, results_file, write_results

_START_SECONDS = 180
_MAX_RESTARTS = 6
_LISTED = 25
# How a worker ends after an error that the CUDA context does not survive.
_DEVICE_LOST_STATUS = 3
_DEVICE_LOST = "left the device unusable"


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", required=True, help="libmoe_gemm_test.so")
    parser.add_argument("--manifest", required=True, help="manifest.json of the kernels built in")
    parser.add_argument(
        "--out", type=results_file, required=True, help="file for all results, JSON"
    )
    parser.add_argument(
        "--family", nargs="*", default=[], help="kernel families under test; default: all built"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--per-combination",
        type=positive,
        default=12,
        help="grid cases for each scheme, types and group size; half as many dense ones",
    )
    parser.add_argument(
        "--fuzz",
        type=positive,
        nargs="?",
        const=10_000,
        default=0,
        metavar="N",
        help="instead: N random argument sets (10000)",
    )
    parser.add_argument(
        "--sanitizer-sample", action="store_true", help="instead: a small sample, in this process"
    )
    parser.add_argument(
        "--budget-seconds", type=float, default=float("inf"), help="draw no further set after"
    )
    parser.add_argument("--only", default="", help="run only cases whose name holds this text")
    parser.add_argument("--case-seconds", type=float, default=20, help="after which a case hangs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


Item = tuple[int, str, Callable[[], Any]]


def acceptance_items(options: argparse.Namespace, library: Any) -> Iterator[Item]:
    """Yields (index, name, call) of the planned cases and special checks from options.first on."""
    import checks
    import special_checks
    import weights

    kernels = cases.read_manifest(options.manifest, options.family)
    planned = cases.plan(kernels, options.seed, options.per_combination)
    specials = special_checks.plan_special(kernels, options.device)
    names = [case.name for case in planned] + [label for _, label, *_ in specials]
    wanted = [i for i, name in enumerate(names) if options.only in name and i >= options.first]
    device = options.device
    chosen = [index for index in wanted if index < len(planned)]
    supply = weights.weights_for([planned[index] for index in chosen], device, device)
    for index, (case, shared) in zip(chosen, supply, strict=True):
        call = functools.partial(checks.run_case, library, case, shared, device, device)
        yield index, names[index], call
    shared = call = None  # frees the last weights
    for index in wanted[len(chosen) :]:
        item = specials[index - len(planned)]
        call = functools.partial(special_checks.run_special, library, item, device)
        yield index, names[index], call


def sanitizer_items(options: argparse.Namespace, library: Any) -> Iterator[Item]:
    """Yields the items of the sanitizer's sample; their operands are made on the host."""
    import checks
    import weights

    kernels = cases.read_manifest(options.manifest, options.family)
    sample = [case for case in cases.plan_sanitizer(kernels) if options.only in case.name]
    supply = weights.weights_for(sample, options.device, "cpu")
    for index, (case, shared) in enumerate(supply):
        call = functools.partial(checks.run_case, library, case, shared, options.device, "cpu")
        yield index, case.name, call


def capability(device: str) -> str | None:
    """Returns the compute capability of a GPU, such as "9.0"; None of the CPU."""
    import torch

    return None if device == "cpu" else "{}.{}".format(*torch.cuda.get_device_capability(device))


def fuzz_items(options: argparse.Namespace, library: Any) -> Iterator[Item]:
    """Yields the random argument sets from options.first on."""
    import fuzz

    drawn = cases.read_manifest(options.manifest, options.family)
    usable = cases.read_usable(options.manifest, options.family, capability(options.device))
    home = "cpu" if options.sanitizer_sample else options.device
    draws = fuzz.Fuzzer(library, drawn, usable, options.seed, options.device, home)
    started = time.monotonic()
    for index in range(options.first, options.fuzz):
        if time.monotonic() - started > options.budget_seconds:
            print(f"the budget is spent: {index} of {options.fuzz} sets drawn", flush=True)
            return
        yield index, f"fuzz {index}", functools.partial(draws.run, index)


def work(options: argparse.Namespace, write: Callable[[dict[str, Any]], None]) -> int:
    """Runs the items that the options ask for; writes a line before and after each."""
    import checks
    import torch
    from moe_gemm_lib import MoeGemmLibrary

    library = MoeGemmLibrary(options.library)
    torch.backends.cuda.matmul.allow_tf32 = False
    items = acceptance_items
    if options.fuzz:
        items = fuzz_items
    elif options.sanitizer_sample:
        items = sanitizer_items
    write({"ready": True})
    for index, name, call in items(options, library):
        write({"begin": index, "name": name})
        started = time.monotonic()
        try:
            result = call()
        except Exception as error:  # a failure of any kind is a result
            result = checks.Result(name, "error")
            result.complain(f"{type(error).__name__}: {str(error)[:300]}")
        seconds = round(time.monotonic() - started, 4)
        write({"end": index, "result": {**asdict(result), "seconds": seconds}})
        try:
            checks.synchronise(options.device)
        except RuntimeError:
            return _DEVICE_LOST_STATUS
    write({"done": True})
    return 0


def work_into_file(options: argparse.Namespace) -> int:
    with open(options.worker, "a", encoding="utf-8") as log:

        def write(line: dict[str, Any]) -> None:
            log.write(json.dumps(line) + "\n")
            log.flush()

        return work(options, write)


class Supervisor:
    """Starts workers and follows their logs until every item has a result."""

    def __init__(self, argv: list[str], case_seconds: float, log_path: str) -> None:
        self._argv = argv
        self._case_seconds = case_seconds
        self._log_path = log_path
        self._offset = 0
        self._running: dict[str, Any] | None = None
        self._next = 0
        self._done = False
        self.results: list[dict[str, Any]] = []
        self.restarts = 0

    def run_here(self, options: argparse.Namespace) -> None:
        """Fills `results` from a run in this process."""
        work(options, self.take)
        if not self._done:
            self._record("device", "unusable after an error")

    def run(self) -> None:
        """Fills `results`; gives up after too many restarts, which is a result as well."""
        first = 0
        while not self._done and self.restarts <= _MAX_RESTARTS:
            reason = self._follow_worker(first)
            if self._done:
                return
            self.restarts += 1
            if self._running is None:
                if reason != _DEVICE_LOST:
                    self._record("worker", f"{reason} after {len(self.results)} results")
                    return
            else:
                self._record(self._running["name"], f"worker {reason}")
                self._next = self._running["begin"] + 1
                self._running = None
            first = self._next
        self._record("worker", f"gave up after {_MAX_RESTARTS} restarts")

    def _record(self, name: str, detail: str) -> None:
        print(f"FAIL {name}: {detail}", flush=True)
        self.results.append(
            {"name": name, "kind": "crash", "status": "fail", "detail": detail, "kernel": None}
        )

    def _follow_worker(self, first: int) -> str:
        """Runs one worker to its end; returns how it ended."""
        command = [sys.executable, os.path.abspath(__file__), *self._argv]
        command += ["--worker", self._log_path, "--first", str(first)]
        worker = subprocess.Popen(command)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            code = worker.poll()
            if self._read_log():
                deadline = time.monotonic() + self._case_seconds
            if code is not None:
                return _DEVICE_LOST if code == _DEVICE_LOST_STATUS else f"ended with status {code}"
            if time.monotonic() > deadline:
                worker.kill()
                worker.wait()
                self._read_log()
                return "hung and was killed"
            time.sleep(0.05)

    def _read_log(self) -> bool:
        """Takes in whole new lines; returns whether there were any."""
        with open(self._log_path, encoding="utf-8") as log:
            log.seek(self._offset)
            text = log.read()
        text = text[: text.rfind("\n") + 1]
        self._offset += len(text.encode())
        for line in text.splitlines():
            self.take(json.loads(line))
        return bool(text)

    def take(self, line: dict[str, Any]) -> None:
        if "begin" in line:
            self._running = line
        elif "end" in line:
            self._running, self._next = None, line["end"] + 1
            result = line["result"]
            result.pop("problems")
            self.results.append(result)
            if result["status"] == "fail":
                print(f"FAIL {result['name']}: {result['detail'][:400]}", flush=True)
        elif "done" in line:
            self._done = True


def summary_rows(results: list[dict[str, Any]]) -> list[list[str]]:
    """Returns the table: one row for each scheme, type and group size, then the specials."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for result in results:
        grouped = result["kind"] in ("grid", "dense", "forced", "sanitizer")
        group = str(result["group_size"]) if grouped else result["kind"]
        label = (result.get("scheme") or "-", result.get("types") or "-", group)
        groups.setdefault(label, []).append(result)
    rows = []
    for label, members in sorted(groups.items()):
        counts = [sum(r["status"] == s for r in members) for s in ("pass", "refused", "fail")]
        mean = max((r["mean_error"] for r in members if r.get("mean_error") is not None), default=0)
        worst = max(
            (r["element_error"] for r in members if r.get("element_error") is not None), default=0
        )
        rows.append([*label, str(len(members)), *map(str, counts), f"{mean:.2e}", f"{worst:.1f}"])
    return rows


def print_table(rows: list[list[str]]) -> None:
    head = ["scheme", "type", "group", "cases", "pass", "refused", "fail", "mean err", "elem err"]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def print_seconds(results: list[dict[str, Any]]) -> None:
    """Prints what each kind of result took, and the longest ones."""
    kinds: dict[str, float] = {}
    for result in results:
        kinds[result["kind"]] = kinds.get(result["kind"], 0) + result.get("seconds", 0)
    print("seconds: " + ", ".join(f"{kind} {spent:.1f}" for kind, spent in kinds.items()))
    longest = sorted(results, key=lambda result: -result.get("seconds", 0))[:4]
    for result in longest:
        print(f"  {result.get('seconds', 0):.1f} s {result['name']}")


def report(supervisor: Supervisor, missing: list[Kernel], built: int, seconds: float) -> None:
    failed = [r for r in supervisor.results if r["status"] == "fail"]
    refused = [r for r in supervisor.results if r["status"] == "refused"]
    for result in failed[:_LISTED]:
        print(f"  {result['name']}: {result['detail'][:300]}")
    if len(failed) > _LISTED:
        print(f"  ... and {len(failed) - _LISTED} more failures")
    if refused:
        print(f"an allowed refusal: {refused[0]['name']}: {refused[0]['detail'][:300]}")
    for kernel in missing[:_LISTED]:
        print(f"  not launched with a right result: {kernel}")
    print_table(summary_rows(supervisor.results))
    print_seconds(supervisor.results)
    if built:
        print(f"{built - len(missing)}/{built} kernels launched and right")
    print(
        f"{len(supervisor.results)} results, {len(failed)} failed, {supervisor.restarts} worker "
        f"restarts; {seconds:.0f} s"
    )


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    if options.worker:
        return work_into_file(options)
    start = time.monotonic()
    try:
        built = cases.read_manifest(options.manifest, options.family)
    except (OSError, ValueError) as error:
        print(f"--manifest, --family: {error}", file=sys.stderr)
        return 2
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as log:
        supervisor = Supervisor(argv, options.case_seconds, log.name)
        if options.sanitizer_sample:
            # Blocks of memory that are reused would look initialised, and hide the ends of others.
            os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
            supervisor.run_here(options)
        else:
            supervisor.run()
    partial = bool(options.only or options.sanitizer_sample or options.fuzz)
    missing = [] if partial else cases.coverage(supervisor.results, built)
    if not supervisor.results:
        print(f"no case holds {options.only!r} in its name", file=sys.stderr)
        return 2
    seconds = time.monotonic() - start
    results = {
        "seconds": seconds,
        "kernels": len(built),
        "missing": [asdict(kernel) for kernel in missing],
        "options": {**vars(options), "out": str(options.out)},
        "results": supervisor.results,
    }
    write_results(options.out, results)
    report(supervisor, missing, 0 if partial else len(built), seconds)
    failed = any(result["status"] == "fail" for result in supervisor.results)
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
