"""Counts the tests of Bazel runs from their build event files, and names those that did not pass.

    summarize.py EVENTS STATUS [EVENTS STATUS ...]

EVENTS is the file of --build_event_json_file, STATUS Bazel's exit code. The last line printed is
"N passed, N failed"; the exit code is zero only if every run's was and at least one of its tests
passed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    total_passed = total_failed = 0
    for path, status in zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True):
        passed, failed = outcomes(read_events(Path(path)))
        for label, what in sorted(failed.items()):
            print(f"{what}: {label}")
        if status and not failed:
            print(f"Bazel failed before or beside the tests, with exit code {status}")
        elif not passed and not failed:
            print(f"no test ran: {path}")
        total_passed += len(passed)
        # A run that fails counts, so that no summary looks green.
        total_failed += len(failed) or int(status != 0 or not passed)
    print(f"{total_passed} passed, {total_failed} failed")
    return 0 if total_failed == 0 else 1


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file, up to the first line that was cut off."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def outcomes(events: Iterable[Event]) -> tuple[set[str], dict[str, str]]:
    """The labels of the tests that passed, and of those that did not, with what they did."""
    passed: set[str] = set()
    failed: dict[str, str] = {}
    for event in events:
        identity = event.get("id", {})
        if "testSummary" in event:
            label = identity["testSummary"]["label"]
            result = event["testSummary"].get("overallStatus", "NO_STATUS")
            if result == "PASSED":
                passed.add(label)
            else:
                failed[label] = result
        elif "targetCompleted" in identity and not event.get("completed", {}).get("success"):
            label = identity["targetCompleted"]["label"]
            # A target that the platform cannot have is skipped, not broken.
            if event.get("aborted", {}).get("reason") != "SKIPPED":
                failed.setdefault(label, "FAILED TO BUILD")
    return passed, failed


if __name__ == "__main__":
    sys.exit(main())
