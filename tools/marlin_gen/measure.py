"""Measures the generator: CPU seconds of the whole process, beside those of importing Jinja2 alone.

python tools/marlin_gen/measure.py [ARCHS] [RUNS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

_GEN = Path(__file__).parent / "gen.py"


def cpu_seconds(command: Sequence[str]) -> float:
    """User and system time of a process that must succeed."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def main(archs: str = "8.0,8.9", runs: str = "20") -> None:
    """Prints minimum and median over the runs; each writes into a new directory."""

    def generate() -> float:
        with tempfile.TemporaryDirectory() as directory:
            return cpu_seconds([sys.executable, str(_GEN), archs, "--out-dir", directory])

    cases: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: cpu_seconds([sys.executable, "-c", "pass"]),
        "import jinja2": lambda: cpu_seconds([sys.executable, "-c", "import jinja2"]),
        f"gen.py {archs}": generate,
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(int(runs)):
        for name, measure in cases.items():
            seconds[name].append(measure())
    print("CPU seconds               minimum  median")
    for name, times in seconds.items():
        print(f"{name:26}{min(times):7.3f} {statistics.median(times):7.3f}")
    _, imported, generated = seconds.values()
    print(f"{'beyond import jinja2':26}{min(generated) - min(imported):7.3f} ", end="")
    print(f"{statistics.median(generated) - statistics.median(imported):7.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
