"""The summary counts what Bazel's events tell, and is green only if everything passed."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import summarize


def _summary(label: str, status: str) -> dict[str, Any]:
    return {"id": {"testSummary": {"label": label}}, "testSummary": {"overallStatus": status}}


def _completed(label: str, **body: Any) -> dict[str, Any]:
    return {"id": {"targetCompleted": {"label": label}}, **body}


class SummarizeTest(unittest.TestCase):
    def run_main(
        self, events: list[dict[str, Any]], status: int, tail: str = ""
    ) -> tuple[int, str]:
        """Returns the exit code and the last line."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "events.json"
            path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
            out = io.StringIO()
            arguments = ["summarize.py", str(path), str(status)]
            with mock.patch("sys.argv", arguments), contextlib.redirect_stdout(out):
                code = summarize.main()
        return code, out.getvalue().splitlines()[-1]

    def test_all_passed(self) -> None:
        events = [_summary("//:a", "PASSED"), _summary("//:b", "PASSED")]
        self.assertEqual(self.run_main(events, 0), (0, "2 passed, 0 failed"))

    def test_a_failed_test_and_a_broken_target_count_once_each(self) -> None:
        events = [
            _summary("//:a", "PASSED"),
            _completed("//:broken"),
            _completed("//:b"),
            _summary("//:b", "FAILED_TO_BUILD"),
            _summary("//:c", "FAILED"),
        ]
        self.assertEqual(self.run_main(events, 1), (1, "1 passed, 3 failed"))

    def test_a_skipped_target_is_no_failure(self) -> None:
        events = [
            _summary("//:a", "PASSED"),
            _completed("//:gpu", aborted={"reason": "SKIPPED"}),
        ]
        self.assertEqual(self.run_main(events, 0), (0, "1 passed, 0 failed"))

    def test_no_test_at_all_is_not_green(self) -> None:
        self.assertEqual(self.run_main([], 0), (1, "0 passed, 1 failed"))

    def test_several_runs_are_counted_together(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["summarize.py"]
            for name, status in (("first", "PASSED"), ("second", "FAILED")):
                path = Path(folder) / name
                path.write_text(json.dumps(_summary(f"//:{name}", status)) + "\n")
                arguments += [str(path), "0" if status == "PASSED" else "3"]
            out = io.StringIO()
            with mock.patch("sys.argv", arguments), contextlib.redirect_stdout(out):
                self.assertEqual(summarize.main(), 1)
        self.assertEqual(out.getvalue().splitlines()[-1], "1 passed, 1 failed")

    def test_a_bazel_that_fails_without_results_counts_as_a_failure(self) -> None:
        self.assertEqual(self.run_main([], 37, tail='{"id": {'), (1, "0 passed, 1 failed"))


if __name__ == "__main__":
    unittest.main()
