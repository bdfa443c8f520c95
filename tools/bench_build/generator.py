"""Measures the generator: CPU seconds of the whole process, beside those of importing Jinja2 alone.

generator.py [--archs 8.0,8.9] [--runs 20]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable

from actions import GENERATOR, measure, positive


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--archs", default="8.0,8.9", help="architectures of the kernels")
    parser.add_argument("--runs", type=positive, default=20, help="runs of each command")
    options = parser.parse_args()

    def run_generator() -> float:
        with tempfile.TemporaryDirectory() as directory:
            program = [sys.executable, str(GENERATOR), options.archs]
            return measure([*program, "--out-dir", directory]).seconds

    cases: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: measure([sys.executable, "-c", "pass"]).seconds,
        "import jinja2": lambda: measure([sys.executable, "-c", "import jinja2"]).seconds,
        f"gen.py {options.archs}": run_generator,
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    # One of each by turns, each generator run into a new directory.
    for _ in range(options.runs):
        for name, run in cases.items():
            seconds[name].append(run())
    print("CPU seconds               minimum  median")
    for name, times in seconds.items():
        print(f"{name:26}{min(times):7.3f} {statistics.median(times):7.3f}")
    _, imported, generated = seconds.values()
    print(f"{'beyond import jinja2':26}{min(generated) - min(imported):7.3f} ", end="")
    print(f"{statistics.median(generated) - statistics.median(imported):7.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
