"""Finds the source tree that a test was built from, and lists its files.

A sandbox shows a test only the files that its rule declares, so that a file which nobody declared
would go unseen. These checks run outside the sandbox instead, and follow the link in their runfiles
that leads to a file at the top of the tree.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# At the top of the tree, and in nobody's runfiles: what is found really is the tree.
_MARKER = "bazelw"
_NOT_SOURCES = frozenset({".git", "__pycache__"})


class WorkspaceError(Exception):
    """The source tree cannot be found or read."""


def find_root(top_level_file: Path) -> Path:
    """Returns the source tree, given the path of a file at its top in a test's runfiles."""
    root = top_level_file.resolve().parent
    if not (root / _MARKER).is_file():
        raise WorkspaceError(
            f"{top_level_file} leads to {root}, which is not the source tree: it has no {_MARKER}. "
            "This test needs the source tree itself: run it locally, with runfiles that are links."
        )
    return root


def list_files(root: Path) -> list[str]:
    """Returns the paths of all source files below root, sorted; links are left out.

    In a Git checkout these are the files that Git tracks or would add. Elsewhere (a release
    archive) they are all files there are.
    """
    return [name for name in list_files_and_links(root) if not (root / name).is_symlink()]


def list_files_and_links(root: Path) -> list[str]:
    """Returns what list_files() does, and the links that lead to a file."""
    names = _git_files(root) if (root / ".git").exists() else _walk(root)
    return sorted(name for name in names if (root / name).is_file())


def _git_files(root: Path) -> list[str]:
    # The checkout may belong to another user than the one who runs the test.
    command = ["git", "-c", f"safe.directory={root}", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{root} is a Git checkout, and git is not on PATH") from error
    except subprocess.CalledProcessError as error:
        raise WorkspaceError(f"git ls-files failed in {root}: {error.stderr.decode()}") from error
    return [os.fsdecode(name) for name in result.stdout.split(b"\0") if name]


def _walk(root: Path) -> list[str]:
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _NOT_SOURCES]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return found
