"""Writes the release archive of a revision: sources only, the same bytes whenever it is made.

archive.py --out FOLDER [--revision HEAD] [--repository FOLDER]

FOLDER/marlin_moe_kernels-VERSION.tar.gz holds what Git has in the revision, below
marlin_moe_kernels-VERSION/. VERSION is that of its MODULE.bazel. The archive takes nothing from the
work tree, and no owners, times or permissions of this machine. The program prints the SHA-256 in
the form that source.json of the Bazel Central Registry wants.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

NAME = "marlin_moe_kernels"
# What only the repository itself needs. Tests need modules that are development dependencies.
_LEFT_OUT = (".bcr/", ".ci/", ".gitignore", "bazelw", "offline/", "tests/")


class ReleaseError(Exception):
    """The archive cannot be made; the message says why and what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the archive")
    parser.add_argument("--revision", default="HEAD", help="commit or tag, default HEAD")
    # `bazel run` says where the workspace is, and where it was called.
    default = os.environ.get("BUILD_WORKSPACE_DIRECTORY", ".")
    parser.add_argument("--repository", type=Path, default=Path(default), help="Git checkout")
    given = parser.parse_args(arguments)
    called = Path(os.environ.get("BUILD_WORKING_DIRECTORY", "."))
    try:
        version, content = archive(called / given.repository, given.revision)
        path = called / given.out / f"{NAME}-{version}.tar.gz"
        _write(path, content)
    except (ReleaseError, OSError) as error:
        print(f"archive.py: {error}", file=sys.stderr)
        return 1
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    print(f"{path}\nsha256-{digest}")
    return 0


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def archive(repository: Path, revision: str) -> tuple[str, bytes]:
    """Returns the version of a revision, and its archive.

    Raises:
      ReleaseError: there is no such repository or revision, or it is not of this module.
    """
    with tarfile.open(fileobj=io.BytesIO(_tree(repository, revision))) as tree:
        try:
            version = module_version(_module_file(tree))
        except ReleaseError as error:
            raise ReleaseError(f"revision {revision}: {error}") from error
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as result:
            for member in sorted(tree.getmembers(), key=lambda member: member.name):
                if member.isdir() or member.name.startswith(_LEFT_OUT):
                    continue
                entry = _entry(member, f"{NAME}-{version}/{member.name}")
                result.addfile(entry, tree.extractfile(member) if member.isreg() else None)
    return version, gzip.compress(packed.getvalue(), compresslevel=9, mtime=0)


def _tree(repository: Path, revision: str) -> bytes:
    safe = f"safe.directory={repository.resolve()}"
    command = ["git", "-c", safe, "archive", "--format=tar", revision]
    try:
        result = subprocess.run(command, cwd=repository, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ReleaseError(f"{repository} does not exist, or git is not on PATH") from error
    if result.returncode != 0:
        raise ReleaseError(
            f"git has no revision {revision} in {repository}: {result.stderr.decode().strip()}; "
            "name a commit or tag of this repository"
        )
    return result.stdout


def _module_file(tree: tarfile.TarFile) -> str:
    """Returns the text of MODULE.bazel, none if there is no such file."""
    try:
        module = tree.extractfile("MODULE.bazel")
    except KeyError:
        module = None
    return module.read().decode() if module else ""


def module_version(text: str) -> str:
    """Returns the version in the text of this module's MODULE.bazel.

    Raises:
      ReleaseError: it is of another module, or names no version.
    """
    match = re.search(rf'^module\(\s*name = "{NAME}",\s*version = "([\w.+-]+)"', text, re.MULTILINE)
    if not match:
        raise ReleaseError(f"there is no MODULE.bazel of {NAME} with a version")
    return match[1]


def _entry(member: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    """A file or link without anything of the machine that has it."""
    entry = tarfile.TarInfo(name)
    entry.type = member.type
    entry.linkname = member.linkname
    entry.size = member.size
    entry.mode = 0o755 if member.mode & 0o100 else 0o644
    return entry


if __name__ == "__main__":
    sys.exit(main())
