"""Tests of docs/specification.md: every command of its table prints what the table says.

The commands run in the table's order in one folder, as a reader would type them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2
import markupsafe
import pytest
from bazel_command import own_server
from markdown import files
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))
DOCUMENT = ROOT / "docs/specification.md"
# What the generator imports; the rest of the runfiles would hide the package `tools` of the folder.
LIBRARIES = [str(Path(module.__path__[0]).parent) for module in (jinja2, markupsafe)]


def rows() -> list[tuple[str, str, list[str]]]:
    """Example, command and printed lines of each row of the table."""
    found = []
    for line in DOCUMENT.read_text().splitlines():
        if not line.startswith("|") or line.startswith(("|---", "| the specification's")):
            continue
        example, command, printed = re.split(r"(?<!\\) \| ", line.strip("| "))
        lines = [text.strip("`") for text in printed.split("<br>")]
        found.append((example, command.strip("`").replace("\\|", "|"), lines))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name: parts of this repository, the page's files, python."""
    path = tmp_path_factory.mktemp("reader")
    for name in ("private", "tools", "tests"):
        (path / name).symlink_to(ROOT / name)
    for name, text in files(DOCUMENT).items():
        (path / name).write_text(text)
    (path / "bin").mkdir()
    (path / "bin/python").symlink_to(sys.executable)
    return path


@pytest.fixture(scope="module")
def bazelw(folder: Path) -> Iterator[str]:
    """A script that runs ./bazelw in the source tree, with a server of its own."""
    script = folder / "bazelw"
    with own_server(ROOT, ROOT) as command:
        quoted = " ".join(f"'{word}'" for word in command)
        script.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec {quoted} "$@"\n')
        script.chmod(0o755)
        yield str(script)


@pytest.mark.parametrize(
    ("example", "command", "printed"), rows(), ids=[example for example, _, _ in rows()]
)
def test_a_command_of_the_table_prints_what_the_table_says(
    example: str, command: str, printed: list[str], folder: Path, bazelw: str
) -> None:
    # rules_python sets the variable for tests; a reader's Python finds what is in the folder.
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(LIBRARIES),
    }
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.splitlines() == printed, f"{example}: {command}\n{result.stderr}"


def test_the_table_has_every_kind_of_example() -> None:
    commands = " ".join(command for _, command, _ in rows())
    assert len(rows()) >= 20
    for word in (
        "80;90",
        "--scheme ",
        "--selector chain",
        "remove_old_kernels()",
        "rm -f",
        "wc -l",
    ):
        assert word in commands
