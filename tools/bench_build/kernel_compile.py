"""Measures the compile of each kernel alone: CPU seconds, object bytes and cubin bytes.

    kernel_compile.py [--schemes gptq_int4] [--arch sm_80] [--every N] [--runs 2]
                      [--family sm80] [--bazel COMMAND]
    kernel_compile.py --family sm90 --arch 9.0 --schemes mxfp4

Each instantiation goes into a file of its own, compiled with the options that Bazel uses for
//csrc/marlin_moe:kernels. Seconds and bytes are those beyond its headers alone. Of several compiles
the least seconds count: other work on the machine can only add to them. Bazel compresses device
code in objects; the cubin is what a device loads.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from actions import Compile, KernelCompiles, generate, machine_line, positive

_HEADER_RUNS = 5
# Families that are generated only where they are named.
EXTRA_FAMILIES = ("sm90",)


@dataclass(frozen=True)
class Cost:
    """Cost of one file, or of one kernel when that of the headers is taken off."""

    name: str
    seconds: float
    object_bytes: int
    cubin_bytes: int


def instantiations(directory: Path, family: str) -> Iterator[tuple[str, str, str]]:
    """Yields file name, the file with no instantiation in it, and an instantiation of a family."""
    for file in sorted(directory.glob(f"{family}_kernel_*.cu")):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kernels = [line for line in lines if line.startswith("template ")]
        bare = "".join(line for line in lines if line not in kernels)
        for kernel in kernels:
            yield file.stem, bare, kernel


def least(compiler: Compile, work: Path, name: str, text: str, runs: int) -> Cost:
    """Compiles a text as a file of its own several times; returns the cheapest."""
    return min(
        (compile_one(compiler, work, name, text) for _ in range(runs)),
        key=lambda cost: cost.seconds,
    )


def compile_one(compiler: Compile, work: Path, name: str, text: str) -> Cost:
    """Compiles a text as a file of its own."""
    with tempfile.TemporaryDirectory(dir=work) as kept:
        source = Path(kept) / "kernel.cu"
        source.write_text(text, encoding="utf-8")
        output = Path(kept) / "kernel.o"
        seconds = compiler.run(source, output, "--keep", f"--keep-dir={kept}")
        cubins = list(Path(kept).glob("*.cubin"))
        if len(cubins) != 1:
            raise SystemExit(f"{name}: expected one cubin, found {len(cubins)}")
        return Cost(name, seconds, output.stat().st_size, cubins[0].stat().st_size)


def measure(
    compiler: Compile, kernels: Sequence[tuple[str, str, str]], every: int, runs: int, work: Path
) -> tuple[list[Cost], list[Cost]]:
    """Returns what each set of headers costs alone, and what every N-th kernel costs beyond it."""
    alone: dict[str, Cost] = {}
    costs = []
    for file, bare, kernel in kernels[::every]:
        included = ", ".join(re.findall(r'#include "(.*)"', bare))
        if included not in alone:
            alone[included] = least(compiler, work, included, bare, max(runs, _HEADER_RUNS))
        headers = alone[included]
        # Behind the headers and before the end of the namespace, as in the generated file.
        head, brace, tail = bare.rpartition("}")
        name = (
            f"{file} {kernel.partition('.id(), ')[2].rpartition('.id(), ')[2].rpartition('>')[0]}"
        )
        whole = least(compiler, work, name, head + kernel + brace + tail, runs)
        costs.append(
            Cost(
                name,
                whole.seconds - headers.seconds,
                whole.object_bytes - headers.object_bytes,
                whole.cubin_bytes - headers.cubin_bytes,
            )
        )
        print(
            f"{costs[-1].seconds:6.2f} s {costs[-1].object_bytes:7} {costs[-1].cubin_bytes:7}  ",
            end="",
        )
        print(name, flush=True)
    return list(alone.values()), costs


def report(alone: Sequence[Cost], costs: Sequence[Cost]) -> None:
    """Prints what headers cost, and minimum, median and maximum over the kernels."""
    for headers in alone:
        print(f"{headers.seconds:.2f} s, object {headers.object_bytes} bytes: {headers.name} alone")
    print(f"{len(costs)} kernels, beyond the headers     min   median      max      sum")
    for title, digits, values in (
        ("CPU seconds", 2, [cost.seconds for cost in costs]),
        ("object bytes", 0, [cost.object_bytes for cost in costs]),
        ("cubin bytes", 0, [cost.cubin_bytes for cost in costs]),
    ):
        figures = (min(values), statistics.median(values), max(values), sum(values))
        print(f"{title:33}" + " ".join(f"{figure:8.{digits}f}" for figure in figures))


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--schemes", default="gptq_int4", help="quantisation schemes")
    parser.add_argument("--arch", default="sm_80", help="the one architecture")
    parser.add_argument("--family", default="sm80", help="its kernel family")
    parser.add_argument("--every", type=positive, default=1, help="only every N-th kernel")
    parser.add_argument(
        "--runs", type=positive, default=2, help="compiles of each; the least counts"
    )
    parser.add_argument("--bazel", default="./bazelw", help="the Bazel command")
    options = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        choice = ["--schemes", options.schemes]
        if options.family in EXTRA_FAMILIES:
            choice += ["--extra-families", options.family]
        generate(work / "generated", options.arch, *choice)
        kernels = list(instantiations(work / "generated", options.family))
        if not kernels:
            raise SystemExit(f"{options.family} has no kernel of {options.schemes}")
        compiler = KernelCompiles(options.bazel, options.arch).of(f"{kernels[0][0]}.cu")
        report(*measure(compiler, kernels, options.every, options.runs, work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
