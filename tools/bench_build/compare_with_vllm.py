"""Compiles the same kernels from this code and from vLLM's, file by file, and compares the cost.

    compare_with_vllm.py --vllm vllm-0.33.0/csrc --torch torch [--archs 8.0,8.9] [--only TEXT]
        [--out FILE.json]

The same nvcc compiles both, with the options that Bazel uses here, except those that PyTorch's
headers do not compile with. vLLM's sources come from its source distribution, PyTorch's headers
from its wheel. Files of a pair follow each other, so that what slows the machine down slows both.
Each side has the files of its own build: vLLM has one for all kernels of three types, here they may
be split into parts. Act-order is left out: vLLM's MoE kernels have none.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actions import Compile, Kernel, KernelCompiles, files_named, generate, machine_line

_LINE = "{:42} {:>7} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6}"
# What only sources that throw nothing and need no special functions can be compiled with.
_OWN_OPTIONS = ("-fno-exceptions", "-D_GLIBCXX_BITS_SPECFUN_H=1")
_TORCH_HEADERS = ("include", "include/torch/csrc/api/include")


@dataclass(frozen=True)
class Cost:
    """CPU seconds of compiles, and the bytes of their objects."""

    seconds: float = 0.0
    object_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.object_bytes + other.object_bytes)


def source(kernels: Sequence[Kernel], headers: Sequence[str]) -> str:
    """Returns a file that instantiates kernels of the headers' template."""
    lines = ["#define MARLIN_NAMESPACE_NAME marlin_moe_wna16", "#define MARLIN_TYPE_NAMESPACE vllm"]
    lines += [f'#include "{header}"' for header in headers]
    lines.append("namespace MARLIN_NAMESPACE_NAME {")
    for kernel in kernels:
        template = kernel["symbol"].partition("::")[2]
        lines.append(f"template __global__ void {template}(MARLIN_KERNEL_PARAMS);")
    return "\n".join([*lines, "}", ""])


def compile_source(compiler: Compile, text: str, options: Sequence[str], work: Path) -> Cost:
    """Compiles a text with more options."""
    file = work / "kernels.cu"
    file.write_text(text, encoding="utf-8")
    output = work / "kernels.o"
    seconds = compiler.run(file, output, *options)
    return Cost(seconds, output.stat().st_size)


def own_headers(file: Path) -> list[str]:
    """Returns what a generated file includes."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.split('"')[1] for line in lines if line.startswith("#include ")]


def types_of(file: str) -> str:
    """Returns family and types of a generated file: its name without the number of the part."""
    stem = file.removesuffix(".cu")
    head, _, part = stem.rpartition("_")
    return head if part.isdigit() else stem


def print_line(name: str, kernels: int, ours: Cost, theirs: Cost) -> None:
    """Prints what each of some kernels costs on both sides, and the ratios."""
    print(
        _LINE.format(
            name,
            kernels,
            f"{ours.seconds / kernels:.3f}",
            f"{theirs.seconds / kernels:.3f}",
            f"{ours.seconds / theirs.seconds:.2f}",
            f"{ours.object_bytes / kernels:.0f}",
            f"{theirs.object_bytes / kernels:.0f}",
            f"{ours.object_bytes / theirs.object_bytes:.2f}",
        ),
        flush=True,
    )


def point(name: str, kernels: int, ours: Cost, theirs: Cost) -> dict[str, Any]:
    """Returns what each kernel of a file costs on both sides, as --out holds it."""
    return {
        "file": name,
        "kernels": kernels,
        "seconds": ours.seconds / kernels,
        "peer_seconds": theirs.seconds / kernels,
        "bytes": round(ours.object_bytes / kernels),
        "peer_bytes": round(theirs.object_bytes / kernels),
    }


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--vllm", type=Path, required=True, help="vLLM's csrc folder")
    parser.add_argument("--torch", type=Path, required=True, help="torch's folder, with include/")
    parser.add_argument("--archs", default="8.0,8.9", help="architectures of the kernels")
    parser.add_argument("--only", default="", help="only files whose names hold this")
    parser.add_argument("--bazel", default="./bazelw", help="the Bazel command")
    parser.add_argument(
        "--out", type=Path, help="file for the figures, JSON; //tools/charts takes it"
    )
    options = parser.parse_args()
    template = options.vllm / "moe/marlin_moe_wna16"
    if not (template / "marlin_template.h").is_file():
        parser.error(f"--vllm {options.vllm} has no moe/marlin_moe_wna16/marlin_template.h")
    folders = [template, options.vllm, *(options.torch / folder for folder in _TORCH_HEADERS)]
    # What its own build adds to nvcc's flags.
    theirs_options = ["--expt-relaxed-constexpr", "--disable-warnings"]
    theirs_options += [f"-I{folder.resolve()}" for folder in folders]
    machine = machine_line()
    print(machine)
    print(_LINE.format("", "kernels", "s each", "peer", "", "bytes", "peer", ""))
    sums = (Cost(), Cost())
    total = 0
    points = []
    with tempfile.TemporaryDirectory() as kept:
        work = Path(kept)
        files: dict[str, dict[str, list[Kernel]]] = {}
        generated = files_named(generate(work / "generated", options.archs), options.only)
        for file, kernels in generated.items():
            shared = [kernel for kernel in kernels if kernel["group_blocks"] != 0]
            files.setdefault(types_of(file), {})[file] = shared
        compiles = KernelCompiles(options.bazel, options.archs)
        for name in sorted(files):
            compiler = compiles.of(next(iter(files[name])))
            ours = Cost()
            for file, kernels in files[name].items():
                text = source(kernels, own_headers(work / "generated" / file))
                ours += compile_source(compiler, text, [], work)
            all_kernels = [kernel for kernels in files[name].values() for kernel in kernels]
            text = source(all_kernels, ["kernel.h", "marlin_template.h"])
            theirs_compiler = compiler.without(*_OWN_OPTIONS)
            theirs = compile_source(theirs_compiler, text, theirs_options, work)
            print_line(name, len(all_kernels), ours, theirs)
            points.append(point(name, len(all_kernels), ours, theirs))
            sums = (sums[0] + ours, sums[1] + theirs)
            total += len(all_kernels)
    print_line("all", total, *sums)
    if options.out:
        results = {"machine": {"device": machine}, "points": points}
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
