"""Runs one check over all files of the source tree that it concerns.

    lint_main.py CHECK TOP_LEVEL_FILE [FILE...]

TOP_LEVEL_FILE is a file at the top of the tree, which leads to it. The FILEs hold the check's tool,
which is known by its name. No file to check is a failure, as is a tool that is not there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workspace import WorkspaceError, find_root, list_files

# Packages that the sources under mypy import.
_THIRD_PARTY = ("jinja2", "markupsafe", "pytest")


@dataclass(frozen=True)
class Check:
    """A check: the files it concerns, the program it needs, and how it runs.

    `run` takes the tree, the files and the program (None if there is none), and returns whether all
    is well. It prints what is not.
    """

    concerns: Callable[[PurePosixPath], bool]
    run: Callable[[Path, Sequence[str], Path | None], bool]
    tool: str | None = None


def _is_starlark(path: PurePosixPath) -> bool:
    return path.suffix in {".bzl", ".BUILD"} or path.name in {
        "BUILD",
        "BUILD.bazel",
        "MODULE.bazel",
        "REPO.bazel",
        "WORKSPACE",
        "WORKSPACE.bazel",
        "WORKSPACE.bzlmod",
    }


def _is_python(path: PurePosixPath) -> bool:
    return path.suffix in {".py", ".pyi"}


def _is_typed_python(path: PurePosixPath) -> bool:
    """Programs and libraries, as opposed to their tests."""
    typed = path.parts[0] in {"offline", "python", "tools"} or path.parent.name == "lint"
    return _is_python(path) and typed


def _is_cpp(path: PurePosixPath) -> bool:
    """C++ and CUDA that is written by hand; golden files are the generator's."""
    return path.suffix in {".cc", ".cu", ".cuh", ".h", ".hpp"} and "golden" not in path.parts


def _is_requirements(path: PurePosixPath) -> bool:
    return "requirements" in path.name and path.suffix in {".in", ".txt"}


def _succeeds(root: Path, command: Sequence[str | Path], files: Sequence[str]) -> bool:
    return subprocess.run([*command, *files], cwd=root, check=False).returncode == 0


def _buildifier(root: Path, files: Sequence[str], tool: Path | None) -> bool:
    assert tool
    return _succeeds(root, [tool, "-mode=check", "-lint=warn"], files)


def _clang_format(root: Path, files: Sequence[str], tool: Path | None) -> bool:
    assert tool
    return _succeeds(root, [tool, "--dry-run", "-Werror", "--style=file"], files)


def _ruff(root: Path, files: Sequence[str], tool: Path | None) -> bool:
    assert tool
    formatted = _succeeds(root, [tool, "format", "--check", "--no-cache"], files)
    return _succeeds(root, [tool, "check", "--no-cache"], files) and formatted


def _mypy(root: Path, files: Sequence[str], tool: Path | None) -> bool:
    """Checks each folder of programs by itself, as their modules import each other by bare name."""
    from mypy import api

    well = True
    with contextlib.chdir(root):
        for folder, files_there in _by_import_path(files):
            os.environ["MYPYPATH"] = os.pathsep.join([folder, *_third_party_folders()])
            options = ["--strict", "--config-file=pyproject.toml", f"--cache-dir={os.devnull}"]
            out, err, status = api.run([*options, *files_there])
            print(out + err, end="")
            well = well and status == 0
    return well


def _third_party_folders() -> list[str]:
    """Returns where this process finds what the sources import and mypy does not find by itself."""
    specs = [importlib.util.find_spec(name) for name in _THIRD_PARTY]
    folders = {str(Path(s.origin).parents[1]): None for s in specs if s and s.origin}
    return [folder for folder in folders if not folder.startswith((sys.prefix, sys.base_prefix))]


def _by_import_path(files: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Groups files by the folder that is on sys.path when they run, packages with their parent."""
    groups: dict[str, list[str]] = {}
    for file in files:
        folder = PurePosixPath(file).parent
        while str(folder / "__init__.py") in files:
            folder = folder.parent
        groups.setdefault(str(folder), []).append(file)
    yield from groups.items()


def _grep(root: Path, files: Sequence[str], pattern: str, complaint: str) -> bool:
    """Prints the lines that hold the pattern; returns whether there are none."""
    well = True
    for file in files:
        text = (root / file).read_bytes().decode(errors="replace")
        for found in re.finditer(pattern, text, re.MULTILINE):
            line = text.count("\n", 0, found.start()) + 1
            print(f"{file}:{line}: {complaint}: {found.group().strip()!r}")
            well = False
    return well


# Anywhere but inside a longer path or a word.
_MACHINE_PATH = r"(?<![\w.$})\]*-])/(root|work|Users|home/[\w.-]+)(/[\w.-]*|(?![\w.-]))"
_INDEX = r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b.*|@ *(https?|file):.*"


def _machine_paths(root: Path, files: Sequence[str], _: Path | None) -> bool:
    return _grep(root, files, _MACHINE_PATH, "a path of one machine")


def _package_indexes(root: Path, files: Sequence[str], _: Path | None) -> bool:
    return _grep(root, files, _INDEX, "names a package index, which is the caller's choice")


def _text(root: Path, files: Sequence[str], _: Path | None) -> bool:
    well = _grep(root, files, r"[ \t]+$", "trailing space")
    well = _grep(root, files, r"\r", "carriage return") and well
    well = _grep(root, files, r"^(<{7}|>{7}) .*", "conflict marker") and well
    for file in files:
        if (root / file).stat().st_size and not (root / file).read_bytes().endswith(b"\n"):
            print(f"{file}: no newline at its end")
            well = False
    return well


CHECKS = {
    "buildifier": Check(_is_starlark, _buildifier, "buildifier"),
    "clang_format": Check(_is_cpp, _clang_format, "clang-format"),
    "machine_paths": Check(lambda path: True, _machine_paths),
    "mypy": Check(_is_typed_python, _mypy),
    "package_indexes": Check(_is_requirements, _package_indexes),
    "ruff": Check(_is_python, _ruff, "ruff"),
    "text": Check(lambda path: path.suffix != ".png", _text),
}


def run_check(name: str, root: Path, data: Sequence[str]) -> bool:
    """Runs a check over a tree and prints its findings; returns whether there are none.

    Args:
      name: a key of CHECKS.
      root: the tree.
      data: paths of files, among them the check's tool.
    """
    check = CHECKS[name]
    files = [file for file in list_files(root) if check.concerns(PurePosixPath(file))]
    if not files:
        print(f"{name}: no file to check below {root}")
        return False
    tool = None
    if check.tool:
        tools = [path for path in data if PurePosixPath(path).name == check.tool]
        if not tools:
            print(f"{name}: no {check.tool} among {data}")
            return False
        tool = Path(tools[0]).absolute()
    well = check.run(root, files, tool)
    print(f"{name}: {len(files)} files, {'no findings' if well else 'see the findings above'}")
    return well


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the process's exit code."""
    name, top_level_file, *data = arguments
    try:
        return 0 if run_check(name, find_root(Path(top_level_file)), data) else 1
    except WorkspaceError as error:
        print(f"{name}: {error}")
        return 1
