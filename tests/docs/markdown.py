"""What the documents hold: fenced blocks, the files and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->")
_FILE_TITLE = re.compile(r"(?:#|//) ([\w./]+)")


@dataclass(frozen=True)
class Block:
    """A fenced block, with the reason on the line before it why it is not run, if there is one."""

    document: Path
    line: int
    language: str
    text: str
    not_run: str

    def commands(self) -> list[str]:
        """The command lines of a block of them, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        stripped = [re.sub(r"\s+# .*", "", line).strip() for line in lines]
        return [line for line in stripped if line and not line.startswith("#")]

    def file(self) -> tuple[str, str] | None:
        """Name and content of the file that the block is, if its first line names one."""
        title, _, content = self.text.partition("\n")
        match = _FILE_TITLE.fullmatch(title)
        return (match[1], content) if match else None


def blocks(document: Path) -> Iterator[Block]:
    """Yields the fenced blocks of a document."""
    lines = document.read_text().splitlines()
    start, language = -1, ""
    for index, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start < 0:
            start, language = index, line[3:]
            continue
        before = _NOT_RUN.fullmatch(lines[start - 1]) if start else None
        text = "\n".join(lines[start + 1 : index]) + "\n"
        yield Block(document, start + 1, language, text, before[1] if before else "")
        start = -1
    if start >= 0:
        raise ValueError(f"{document}:{start + 1}: the block is not closed")


def words(command: str) -> list[str]:
    """The words of a command, without variables in front of it."""
    found = shlex.split(command)
    while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
        found.pop(0)
    return found


def files(document: Path) -> dict[str, str]:
    """The files that a document tells its reader to make, by name."""
    return dict(found for block in blocks(document) if (found := block.file()))
