"""Acceptance run of the MoE GEMM on a GPU: a seeded sample of the grid, every kernel, the promises.

    run_moe_gemm.py --library libmoe_gemm_test.so --manifest manifest.json --out results.json

The cases run in a worker process. One that crashes or hangs costs that case only: it is recorded as
failed and another worker goes on behind it. Exit status 1 if anything failed, or if a built kernel
was never launched with the right result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from typing import Any

import cases
from cases import Kernel

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
    parser.add_argument("--out", required=True, help="file for all results, JSON")
    parser.add_argument("--family", default="sm80", help="kernel family under test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--per-combination",
        type=int,
        default=20,
        help="grid cases for each scheme, type and group size",
    )
    parser.add_argument("--only", default="", help="run only cases whose name holds this text")
    parser.add_argument("--case-seconds", type=float, default=20, help="after which a case hangs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def work(options: argparse.Namespace) -> int:
    """Runs the planned items from options.first on; writes a line before and after each."""
    import checks
    import operands
    import special_checks
    import torch
    from moe_gemm_lib import MoeGemmLibrary

    library = MoeGemmLibrary(options.library)
    kernels = cases.read_manifest(options.manifest, options.family)
    planned = cases.plan(kernels, options.seed, options.per_combination)
    specials = special_checks.plan_special(kernels, options.device)
    names = [case.name for case in planned] + [label for _, label, _ in specials]
    wanted = [i for i, name in enumerate(names) if options.only in name and i >= options.first]
    torch.backends.cuda.matmul.allow_tf32 = False
    with open(options.worker, "a", encoding="utf-8") as log:

        def write(line: dict[str, Any]) -> None:
            log.write(json.dumps(line) + "\n")
            log.flush()

        def attempt(index: int, run: Any) -> bool:
            """Runs one item; returns whether the device is still usable."""
            write({"begin": index, "name": names[index]})
            try:
                result = run()
            except Exception as error:  # a failure of any kind is a result
                result = checks.Result(names[index], "error")
                result.complain(f"{type(error).__name__}: {str(error)[:300]}")
            write({"end": index, "result": asdict(result)})
            try:
                checks.synchronise(options.device)
            except RuntimeError:
                return False
            return True

        write({"ready": len(wanted)})
        chosen = [index for index in wanted if index < len(planned)]
        supply = operands.weights_for([planned[index] for index in chosen], options.device)
        for index, (case, weights) in zip(chosen, supply, strict=True):
            run = lambda: checks.run_case(library, case, weights, options.device)  # noqa: E731, B023
            if not attempt(index, run):
                return _DEVICE_LOST_STATUS
        weights = None
        for index in wanted[len(chosen) :]:
            item = specials[index - len(planned)]
            run = lambda: special_checks.run_special(library, *item, options.device)  # noqa: E731, B023
            if not attempt(index, run):
                return _DEVICE_LOST_STATUS
        write({"done": True})
    return 0


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
            self._take(json.loads(line))
        return bool(text)

    def _take(self, line: dict[str, Any]) -> None:
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
        special = result["kind"] not in ("grid", "dense", "forced")
        group = "special" if special else str(result["group_size"])
        label = (result.get("scheme") or "-", (result.get("a_type") or "-")[1:].lower(), group)
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
    if built:
        print(f"{built - len(missing)}/{built} kernels launched and right")
    print(
        f"{len(supervisor.results)} results, {len(failed)} failed, {supervisor.restarts} worker "
        f"restarts; {seconds:.0f} s"
    )


def main(argv: list[str]) -> int:
    options = parse_arguments(argv)
    if options.worker:
        return work(options)
    start = time.monotonic()
    built = cases.read_manifest(options.manifest, options.family)
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as log:
        supervisor = Supervisor(argv, options.case_seconds, log.name)
        supervisor.run()
    missing = [] if options.only else cases.coverage(supervisor.results, built)
    if not supervisor.results:
        print(f"no case holds {options.only!r} in its name", file=sys.stderr)
        return 2
    seconds = time.monotonic() - start
    with open(options.out, "w", encoding="utf-8") as file:
        summary = {
            "seconds": seconds,
            "kernels": len(built),
            "missing": [asdict(k) for k in missing],
        }
        json.dump(
            {**summary, "options": vars(options), "results": supervisor.results}, file, indent=1
        )
    report(supervisor, missing, 0 if options.only else len(built), seconds)
    failed = any(result["status"] == "fail" for result in supervisor.results)
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
