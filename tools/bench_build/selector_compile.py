"""Measures the compile of csrc/marlin_moe/host/kernel_table.cc, which includes the selector.

    selector_compile.py [--archs 7.5,8.0,8.9] [--runs 5] [--bazel COMMAND]

It compiles the file with the options that Bazel uses, with no branch and with every kernel of the
table, in both selector styles, unoptimised (Bazel's default) and optimised. The least of several
runs counts: other work on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from actions import REPOSITORY, bazel_compile, generate, machine_line, positive

_TARGET = "//csrc/marlin_moe/host:kernel_table"
_SOURCE = "csrc/marlin_moe/host/kernel_table.cc"
_KERNELS_BUILT = """#define MARLIN_KERNELS_BUILT ""
#define MARLIN_FAMILIES_BUILT(FAMILY) FAMILY(sm80, Marlin, 80, false, 4)
#define MARLIN_TILES_BUILT(Marlin, MarlinSm90) Marlin(sm80, kFloat16, 16, 64, 128, 128)
"""


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--archs", default="7.5,8.0,8.9", help="architectures of the kernels")
    parser.add_argument(
        "--runs", type=positive, default=5, help="compiles of each; the least counts"
    )
    parser.add_argument("--bazel", default="./bazelw", help="the Bazel command")
    options = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        branches = {"none": 0}
        (work / "none").mkdir()
        (work / "none/kernel_selector.h").touch()
        for style in ("switch", "chain"):
            files = generate(work / style, options.archs, "--selector", style)
            branches[style] = sum(map(len, files.values()))
        # The rule writes it beside the selector; what it says costs next to nothing.
        (work / "kernels_built.h").write_text(_KERNELS_BUILT, encoding="utf-8")
        for mode in ("fastbuild", "opt"):
            compiler = bazel_compile(options.bazel, "CppCompile", _TARGET, _SOURCE, "sm_80", mode)
            for style, count in branches.items():
                folders = ("-iquote", str(work / style), "-iquote", str(work))
                seconds = [
                    compiler.run(REPOSITORY / _SOURCE, work / "x.o", *folders)
                    for _ in range(options.runs)
                ]
                print(f"{mode:9} {style:6} {count:4} branches: ", end="")
                print(f"{min(seconds):5.2f} CPU seconds, ", end="")
                print(f"object {(work / 'x.o').stat().st_size} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
