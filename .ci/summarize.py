"""Counts the tests of a Bazel run from its build event file, and names those that did not pass.

    summarize.py EVENTS STATUS

EVENTS is the file of --build_event_json_file, STATUS Bazel's exit code. The last line printed is
"N passed, N failed"; the exit code is zero only if Bazel's was, and at least one test passed.
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
    path, status = Path(sys.argv[1]), int(sys.argv[2])
    events = list(read_events(path))
    passed, failed = outcomes(events)
    for label, what in sorted(failed.items()):
        print(f"{what}: {label}")
    if status and not failed:
        print(f"Bazel failed before or beside the tests, with exit code {status}")
    # A build that fails counts, so that no summary looks green.
    print(f"{len(passed)} passed, {len(failed) or int(status != 0)} failed")
    return 0 if status == 0 and passed and not failed else 1


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
