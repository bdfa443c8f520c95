"""The generator's files on disk.

A file appears whole or not at all, one whose content is the same is not touched, and only files
that the generator wrote are ever replaced or removed.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from marlin_gen.errors import GeneratorError
from marlin_gen.render import CXX_MARKER, MANIFEST, MANIFEST_MARKER
from marlin_gen.tables import load_tables

_KERNEL_FILE = re.compile(r"sm\d+_kernel_[a-z0-9]+_[a-z0-9]+_[a-z0-9]+(_\d+)?\.cu")


@cache
def _selectors() -> frozenset[str]:
    """Names of the headers that find kernels."""
    return frozenset(family.selector for family in load_tables().families)


def is_ours(path: Path) -> bool:
    """Whether the generator wrote a file, by its name and its first line."""
    if path.name == MANIFEST:
        marker = MANIFEST_MARKER
    elif path.name in _selectors() or _KERNEL_FILE.fullmatch(path.name):
        marker = CXX_MARKER
    else:
        return False
    if path.is_symlink() or not path.is_file():
        return False
    line = f"{marker}\n".encode()
    with path.open("rb") as file:
        return file.read(len(line)) == line


def refuse_strangers(paths: Iterable[Path]) -> None:
    """Raises GeneratorError if something that the generator did not write has one of the paths."""
    strangers = [path for path in paths if os.path.lexists(path) and not is_ours(path)]
    if strangers:
        raise GeneratorError(
            f"not written by this generator, so not replaced: {', '.join(map(str, strangers))}; "
            "move it away, or write into another directory"
        )


def write_files(texts: Mapping[Path, str]) -> list[Path]:
    """Writes files, all of them first aside, then each into its place.

    Args:
      texts: the content of each file.

    Returns:
      The files that were not there with this content already.

    Raises:
      GeneratorError: a file, or whatever has its name, is not the generator's.
      OSError: the file system does not allow it.
    """
    contents = {path: text.encode() for path, text in texts.items()}
    refuse_strangers(texts)
    changed = [
        path
        for path, content in contents.items()
        if not path.exists() or path.read_bytes() != content
    ]
    stages: dict[Path, Path] = {}
    try:
        for path in changed:
            _staged(path, stages).write_bytes(contents[path])
        for path in changed:
            os.replace(_staged(path, stages), path)
    finally:
        for stage in stages.values():
            shutil.rmtree(stage, ignore_errors=True)
    return changed


def _staged(path: Path, stages: dict[Path, Path]) -> Path:
    """Where a file is written first: a new directory on its own file system."""
    if path.parent not in stages:
        if os.path.lexists(path.parent) and not path.parent.is_dir():
            raise GeneratorError(
                f"cannot write into {path.parent}: it is not a directory; name another one"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        stages[path.parent] = Path(tempfile.mkdtemp(prefix=".marlin_gen-", dir=path.parent))
    return stages[path.parent] / path.name


def remove_files(directory: Path, keep: Collection[str] = ()) -> list[Path]:
    """Removes the generator's files from a directory, except those with the names to keep.

    Returns:
      The removed files.

    Raises:
      GeneratorError: there is no such directory.
    """
    if not directory.is_dir():
        raise GeneratorError(f"cannot clean {directory}: there is no such directory")
    stale = [
        path for path in sorted(directory.iterdir()) if path.name not in keep and is_ours(path)
    ]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale
