"""Builds and tests with real rules in the place of stand-ins, and writes a table of the results.

    run.py --checkout rules_cuda=FOLDER [--checkout NAME=FOLDER ...] [--only STEP ...] [--out FILE]

FOLDER is a checkout of the module NAME. Every checkout of rules_cuda is tried with all the other
checkouts; a module without a checkout stays what ./bazelw takes. The table has a line for each
step. The exit status is 0 if all steps passed.

Debian's Bazel says no version of itself, which bazel_features asks for: its checkout is copied and
the copy told BAZEL_VERSION. Checkouts must not lie under /tmp, which actions do not see.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BAZEL_VERSION = "7.7.1"

_NO_TOOLKIT = ("--repo_env=CUDA_PATH=/no/such/toolkit", "--@rules_cuda//cuda:enable=True")


@dataclass(frozen=True)
class Step:
    """A command of Bazel in a folder of the repository."""

    name: str
    folder: str
    command: tuple[str, ...]


def steps() -> list[Step]:
    """What is tried, in this order: a wrong analysis shows before anything is compiled."""
    subject = "//tests/cache/subject:kernels"
    result = [
        # Without docs: Stardoc wants a bzl_library for every file that the newest rules_cuda loads.
        Step(
            "analysis of everything",
            ".",
            ("build", "--nobuild", "--", "//...", "-//docs/...", "-//tests/docs/..."),
        ),
        Step("three kernels built", ".", ("build", subject, "--cuda_archs=8.0,8.9")),
        Step("Starlark tests", ".", ("test", "//tests/starlark/...")),
        Step(
            "analysis without a toolkit",
            ".",
            ("build", "--nobuild", "//csrc/...", "//tests/build/...", *_NO_TOOLKIT),
        ),
        Step("e2e/cuda_off without a toolkit", "e2e/cuda_off", ("test", "//...", *_NO_TOOLKIT)),
    ]
    modules = sorted(path.parent.name for path in ROOT.glob("e2e/*/MODULE.bazel"))
    return result + [Step(f"e2e/{name}", f"e2e/{name}", ("test", "//...")) for name in modules]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the process's exit code."""
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkout", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--only", action="append", metavar="STEP", help="name of a step to run")
    parser.add_argument("--out", type=Path, help="file for the table (default: standard output)")
    given = parser.parse_args(arguments)
    checkouts = [_checkout(text, parser) for text in given.checkout]
    tried = [folder for name, folder in checkouts if name == "rules_cuda"]
    others = {name: folder for name, folder in checkouts if name != "rules_cuda"}
    chosen = [step for step in steps() if not given.only or step.name in given.only]
    if not tried or not chosen:
        names = ", ".join(step.name for step in steps())
        parser.error(f"give a checkout of rules_cuda; --only takes a name out of: {names}")
    with tempfile.TemporaryDirectory(dir=tried[0].parent) as scratch:
        if "bazel_features" in others:
            others["bazel_features"] = _pinned(others["bazel_features"], Path(scratch))
        results = {
            folder: [_run(step, {**others, "rules_cuda": folder}) for step in chosen]
            for folder in tried
        }
    table = _table(chosen, results)
    if given.out:
        given.out.write_text(table, encoding="utf-8")
    else:
        print(table, end="")
    return 0 if all(cell.passed for cells in results.values() for cell in cells) else 1


def _checkout(text: str, parser: argparse.ArgumentParser) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    path = Path(folder).resolve()
    if not (path / "MODULE.bazel").is_file():
        parser.error(f"--checkout {text}: there is no MODULE.bazel; give NAME=FOLDER of a checkout")
    if path.is_relative_to("/tmp"):
        parser.error(f"--checkout {text}: actions do not see /tmp; move the checkout elsewhere")
    return name, path


def _pinned(features: Path, scratch: Path) -> Path:
    """A copy of bazel_features that takes BAZEL_VERSION for the version of Bazel."""
    copy = scratch / "bazel_features"
    shutil.copytree(features, copy, ignore=shutil.ignore_patterns(".git"))
    for path in copy.rglob("*.bzl"):
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace("native.bazel_version", f'"{BAZEL_VERSION}"'), encoding="utf-8"
        )
    return copy


@dataclass(frozen=True)
class Result:
    """How a step ended."""

    passed: bool
    seconds: float
    summary: str


def _run(step: Step, checkouts: dict[str, Path]) -> Result:
    """Runs a step; what it prints goes to standard error."""
    overrides = [f"--override_module={name}={folder}" for name, folder in checkouts.items()]
    verb, *rest = step.command
    command = [str(ROOT / "bazelw"), verb, *overrides, *rest]
    print(f"{step.name}, rules_cuda of {checkouts['rules_cuda']}", file=sys.stderr, flush=True)
    start = time.monotonic()
    result = subprocess.run(
        command, cwd=ROOT / step.folder, stderr=subprocess.PIPE, text=True, check=False
    )
    seconds = time.monotonic() - start
    sys.stderr.write(result.stderr)
    if step.folder != ".":
        subprocess.run([str(ROOT / "bazelw"), "shutdown"], cwd=ROOT / step.folder, check=False)
    return Result(result.returncode == 0, seconds, _summary(result.stderr))


def _summary(output: str) -> str:
    """What Bazel says about its tests or targets."""
    for pattern in (
        r"Executed \d+ out of \d+ tests?: (.*?)\.$",
        r"Analyzed (\d+ targets)",
        r"(Analyzed target \S+)",
    ):
        found = re.findall(pattern, output, re.MULTILINE)
        if found:
            return str(found[-1])
    errors = re.findall(r"^ERROR: (.*)$", output, re.MULTILINE)
    return errors[0][:120] if errors else "no summary"


def _table(chosen: Sequence[Step], results: dict[Path, list[Result]]) -> str:
    lines = ["| step | " + " | ".join(f"`{folder.name}`" for folder in results) + " |"]
    lines.append("|---" * (len(results) + 1) + "|")
    for number, step in enumerate(chosen):
        cells = [cells[number] for cells in results.values()]
        texts = [
            f"{'passed' if cell.passed else '**failed**'}, {cell.seconds:.0f} s: {cell.summary}"
            for cell in cells
        ]
        lines.append(f"| {step.name} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
