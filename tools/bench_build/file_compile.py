"""Measures the compile of each generated file: CPU seconds, memory, and how well costs foretell it.

    file_compile.py [--archs 8.0,8.9] [--only TEXT] [--rounds N] [--bazel COMMAND]

Files are compiled one after the other with the options that Bazel uses for
//csrc/marlin_moe:kernels. Of several rounds the least seconds of a file count: other work on the
machine can only add to them. The last column is CPU seconds per 100 units of the cost that the
table KERNEL_COSTS gives the file's kernels. That cost decides where files are split.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from actions import (
    Kernel,
    KernelCompiles,
    Usage,
    files_named,
    generate,
    machine_line,
    positive,
)

_LINE = "{:45} {:>7} {:>8} {:>8} {:>9}"


def report(usages: dict[str, Usage], kernels: dict[str, list[Kernel]]) -> None:
    """Prints a line for each file, and sums."""
    print(_LINE.format("file", "kernels", "seconds", "MiB", "s per 100"))
    for file, usage in usages.items():
        cost = sum(kernel["cost"] for kernel in kernels[file])
        mebibytes = f"{usage.peak_bytes / 2**20:.0f}"
        per_cost = f"{100 * usage.seconds / cost:.3f}"
        seconds = f"{usage.seconds:.2f}"
        print(_LINE.format(file, len(kernels[file]), seconds, mebibytes, per_cost))
    total = sum(usage.seconds for usage in usages.values())
    longest = max(usage.seconds for usage in usages.values())
    count = sum(len(kernels[file]) for file in usages)
    peak = max(usage.peak_bytes for usage in usages.values())
    print(
        f"{len(usages)} files, {count} kernels: {total:.1f} CPU seconds, {total / count:.3f} each; "
        f"longest {longest:.2f}, {100 * longest / total:.1f} %; most memory {peak / 2**20:.0f} MiB"
    )


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--archs", default="8.0,8.9", help="architectures")
    parser.add_argument("--only", default="", help="only files whose names hold this")
    parser.add_argument(
        "--rounds", type=positive, default=1, help="how often to compile all of them"
    )
    parser.add_argument("--bazel", default="./bazelw", help="the Bazel command")
    options = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as kept:
        directory = Path(kept)
        kernels = files_named(generate(directory, options.archs), options.only)
        compiles = KernelCompiles(options.bazel, options.archs)
        usages: dict[str, Usage] = {}
        for _ in range(options.rounds):
            for file in kernels:
                usage = compiles.of(file).measure(directory / file, directory / "kernel.o")
                usages[file] = min(usages.get(file, usage), usage, key=lambda used: used.seconds)
        report(usages, kernels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
