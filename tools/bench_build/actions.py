"""Compile commands as Bazel has them, made runnable outside Bazel, and their cost.

Options come from Bazel's own action graph, so the figures cannot drift from the build.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATOR = REPOSITORY / "tools/marlin_gen/gen.py"


@dataclass(frozen=True)
class Usage:
    """User and system time of a command, and the most memory that one of its processes had."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Compile:
    """A compile command without its source and its outputs; it runs in REPOSITORY."""

    arguments: tuple[str, ...]

    def without(self, *options: str) -> Compile:
        """Returns the command without some of its options, for nvcc or behind -Xcompiler."""
        kept: list[str] = []
        for argument in self.arguments:
            if argument not in options:
                kept.append(argument)
            elif kept[-1] == "-Xcompiler":
                kept.pop()
        return Compile(tuple(kept))

    def run(self, source: Path, output: Path, *options: str) -> float:
        """Compiles source to output with more options in front; returns the CPU seconds."""
        return self.measure(source, output, *options).seconds

    def measure(self, source: Path, output: Path, *options: str) -> Usage:
        """Compiles source to output with more options in front; returns what that took."""
        program, *rest = self.arguments
        return measure([program, *options, *rest, "-c", str(source), "-o", str(output)])


def measure(command: Sequence[str]) -> Usage:
    """Runs a command that must succeed; returns what it took, its children included."""
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}, see above, of {shlex.join(command)}")
    return Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


Kernel = dict[str, Any]


def generate(directory: Path, archs: str, *options: str) -> dict[str, list[Kernel]]:
    """Writes the kernels of some architectures; returns the manifest's entries by file."""
    program = [sys.executable, str(GENERATOR)]
    measure([*program, archs, "--out-dir", str(directory), *options])
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    files: dict[str, list[Kernel]] = {}
    for kernel in manifest["instantiations"]:
        files.setdefault(kernel["file"], []).append(kernel)
    return files


def files_named(files: dict[str, list[Kernel]], text: str) -> dict[str, list[Kernel]]:
    """Returns the files whose names hold a text, in the names' order; there has to be one."""
    found = {file: files[file] for file in sorted(files) if text in file}
    if not found:
        raise SystemExit(f"no file has {text!r} in its name; there are: {', '.join(sorted(files))}")
    return found


def positive(text: str) -> int:
    """Reads an option's value that is a count: 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is given; it must be a number, 1 or more")
    return int(text)


def machine_line(repository: Path = REPOSITORY) -> str:
    """What else says how far the figures hold: CPUs, load and revision."""
    head = ["git", "-C", str(repository), "rev-parse", "--short", "HEAD"]
    revision = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} CPUs, load {load:.1f}, revision {revision or 'unknown'}"


def bazel_compile(
    bazel: str, mnemonic: str, target: str, source: str, archs: str, mode: str = "fastbuild"
) -> Compile:
    """Returns the command of the action that compiles a source of a target.

    Args:
      bazel: the Bazel command, which may hold startup options.
      mnemonic: CudaCompile or CppCompile.
      target: label of the target.
      source: how the path of the source ends.
      archs: value of --cuda_archs.
      mode: value of --compilation_mode.
    """
    flags = [f"--cuda_archs={archs}", f"--compilation_mode={mode}"]
    query = [f'mnemonic("^{mnemonic}$", {target})', "--output=jsonproto", *flags]
    graph = json.loads(_bazel(bazel, "aquery", *query))
    for action in graph.get("actions", []):
        arguments = action["arguments"]
        if any(argument.endswith(source) for argument in arguments):
            return _runnable(arguments, _bazel(bazel, "info", "output_base", *flags).strip())
    raise SystemExit(f"{target} has no {mnemonic} of a source named *{source} for {archs}")


class KernelCompiles:
    """The compile commands of the generated files of //csrc/marlin_moe:kernels."""

    def __init__(self, bazel: str, archs: str) -> None:
        """As bazel_compile()."""
        self._bazel = bazel
        self._archs = archs
        self._families: dict[str, Compile] = {}

    def of(self, file: str) -> Compile:
        """Returns the command of a file; it is the same for all files of a family."""
        family = file.partition("_")[0]
        if family not in self._families:
            target = "deps(//csrc/marlin_moe:kernels)"
            command = bazel_compile(self._bazel, "CudaCompile", target, f"/{file}", self._archs)
            self._families[family] = command
        return self._families[family]


def _bazel(bazel: str, command: str, *arguments: str) -> str:
    result = subprocess.run(
        [*shlex.split(bazel), command, "--noshow_progress", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{bazel} {command} failed:\n{result.stderr}")
    return result.stdout


def _runnable(arguments: Sequence[str], output_base: str) -> Compile:
    """Drops the action's files, and makes paths of other repositories absolute."""
    kept = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-c", "-o", "-MF"):
            next(rest)
        elif argument != "-MD" and not argument.startswith(("-frandom-seed=bazel-out", "-MF")):
            kept.append(
                re.sub(r"^(-I|-isystem|-iquote)?external/", rf"\1{output_base}/external/", argument)
            )
    return Compile(tuple(kept))
