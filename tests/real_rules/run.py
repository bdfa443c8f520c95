"""Builds and tests with real rules in the place of stand-ins, and writes a table of the results.

    run.py --checkout NAME=FOLDER ... --python PROGRAM [--only STEP ...] [--out FILE]

FOLDER is a checkout of the module NAME. Every checkout of rules_cuda is tried with all the other
checkouts; a module without a checkout stays what ./bazelw takes. rules_python gets its wheels
through pip, and Python 3.12 from PROGRAM, which e2e/hermetic packs. The table has a line for each
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

# Checkouts without which there is nothing to try.
NEEDED = ("rules_cuda", "rules_python")

# The canonical name of the repository that Python 3.12 is downloaded to.
_PYTHON = "rules_python~~python~python_3_12_x86_64-unknown-linux-gnu"

_HERMETIC = "e2e/hermetic"
_NO_TOOLKIT = ("--repo_env=CUDA_PATH=/no/such/toolkit", "--@rules_cuda//cuda:enable=True")


@dataclass(frozen=True)
class Step:
    """A command of Bazel in a folder of the repository."""

    name: str
    folder: str
    command: tuple[str, ...]


def steps() -> list[Step]:
    """What is tried, in this order: the first makes the interpreter that the others take."""
    subject = "//tests/cache/subject:kernels"
    result = [
        Step(_HERMETIC, _HERMETIC, ("test", "//...")),
        Step(f"{_HERMETIC} for linux-sbsa", _HERMETIC, ("build", "--config=sbsa", "//:moe_test")),
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
    modules = sorted(f"e2e/{path.parent.name}" for path in ROOT.glob("e2e/*/MODULE.bazel"))
    return result + [Step(name, name, ("test", "//...")) for name in modules if name != _HERMETIC]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the process's exit code."""
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkout", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--python", type=Path, required=True, help="a program of Python 3.12")
    parser.add_argument("--only", action="append", metavar="STEP", help="name of a step to run")
    parser.add_argument("--out", type=Path, help="file for the table (default: standard output)")
    given = parser.parse_args(arguments)
    checkouts = [_checkout(text, parser) for text in given.checkout]
    tried = [folder for name, folder in checkouts if name == "rules_cuda"]
    others = {name: folder for name, folder in checkouts if name != "rules_cuda"}
    missing = [name for name in NEEDED if name not in dict(checkouts)]
    if missing:
        parser.error(f"give a checkout of {' and of '.join(missing)}")
    names = [step.name for step in steps()]
    wrong = [name for name in given.only or [] if name not in names]
    if wrong:
        parser.error(f"--only {wrong[0]}: there is no such step; there are {', '.join(names)}")
    chosen = [step for step in steps() if not given.only or step.name in given.only]
    with tempfile.TemporaryDirectory(dir=tried[0].parent) as scratch:
        flags = _shared_flags(others, Path(scratch))
        results = {
            folder: _try(chosen, folder, given.python, flags, Path(scratch)) for folder in tried
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


def _shared_flags(others: dict[str, Path], scratch: Path) -> list[str]:
    """The flags that put checkouts in the place of what ./bazelw takes, except rules_cuda."""
    modules = {"stardoc": ROOT / "offline/stardoc", **others}
    if "bazel_features" in others:
        modules["bazel_features"] = _pinned(others["bazel_features"], scratch)
    wheels = _wheels(others["rules_python"], scratch)
    return [
        *(f"--override_module={name}={folder}" for name, folder in modules.items()),
        f"--distdir={wheels}",
        # As the user's pip: its own configuration names the index.
        "--repo_env=RULES_PYTHON_PIP_ISOLATED=0",
    ]


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


def _wheels(rules_python: Path, scratch: Path) -> Path:
    """A folder of the wheels that rules_python itself downloads, by pip."""
    text = (rules_python / "python/private/pypi/deps.bzl").read_text(encoding="utf-8")
    pinned = re.findall(r'"https://[^"]+/([^-"]+)-([^-"]+)-[^/"]+\.whl",\s*"([0-9a-f]{64})"', text)
    requirements = scratch / "rules_python.txt"
    lines = [f"{name}=={version} --hash=sha256:{digest}\n" for name, version, digest in pinned]
    requirements.write_text("".join(lines), encoding="utf-8")
    folder = scratch / "wheels"
    options = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:")
    command = [sys.executable, "-I", "-m", "pip", "download", *options]
    subprocess.run([*command, "--dest", str(folder), "-r", str(requirements)], check=True)
    return folder


@dataclass(frozen=True)
class Result:
    """How a step ended."""

    passed: bool
    seconds: float
    summary: str
    skipped: bool = False

    def __str__(self) -> str:
        if self.skipped:
            return f"skipped: {self.summary}"
        return f"{'passed' if self.passed else '**failed**'}, {self.seconds:.0f} s: {self.summary}"


def _try(
    chosen: Sequence[Step], rules_cuda: Path, python: Path, flags: Sequence[str], scratch: Path
) -> list[Result]:
    """Runs all steps with one rules_cuda."""
    flags = [*flags, f"--override_module=rules_cuda={rules_cuda}"]
    # What rules_cuda after 0.3.0 has, and wants to be told of.
    platforms = []
    if (rules_cuda / "cuda/private/platforms.bzl").exists():
        platforms = ["--platform", "linux-x86_64", "--platform", "linux-sbsa"]
    make = [str(python), str(ROOT / _HERMETIC / "make_archives.py"), *platforms]
    subprocess.run(make, check=True)
    interpreter = scratch / f"python-{rules_cuda.name}"
    results = []
    for step in chosen:
        print(f"{step.name}, rules_cuda of {rules_cuda}", file=sys.stderr, flush=True)
        if step.name.endswith("sbsa") and not platforms:
            results.append(Result(True, 0, "cuda.redist_json has no platforms", skipped=True))
            continue
        if step.folder == _HERMETIC:
            results.append(_run(step, flags))
            continue
        if not interpreter.exists():
            _copy_interpreter(flags, interpreter)
        results.append(_run(step, [*flags, f"--override_repository={_PYTHON}={interpreter}"]))
    return results


def _copy_interpreter(flags: Sequence[str], destination: Path) -> None:
    """Copies the interpreter that e2e/hermetic downloads, which only a root module can name."""
    bazel, folder = [str(ROOT / "bazelw")], ROOT / _HERMETIC
    subprocess.run([*bazel, "build", "--nobuild", *flags, "//..."], cwd=folder, check=True)
    base = subprocess.run(
        [*bazel, "info", "output_base"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    shutil.copytree(Path(base, "external", _PYTHON), destination, symlinks=True)


def _run(step: Step, flags: Sequence[str]) -> Result:
    """Runs a step; what it prints goes to standard error."""
    verb, *rest = step.command
    command = [str(ROOT / "bazelw"), verb, *flags, *rest]
    start = time.monotonic()
    result = subprocess.run(
        command,
        cwd=ROOT / step.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - start
    sys.stderr.write(result.stdout)
    if step.folder != ".":
        subprocess.run([str(ROOT / "bazelw"), "shutdown"], cwd=ROOT / step.folder, check=False)
    return Result(result.returncode == 0, seconds, _summary(result.stdout))


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
        texts = [str(cells[number]) for cells in results.values()]
        lines.append(f"| {step.name} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
