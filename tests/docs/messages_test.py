"""Tests of pages that repeat what sources say: error messages, the picture of the families."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))
HEADINGS = re.findall(
    r"^### (.*)$", (ROOT / "docs/troubleshooting.md").read_text(), flags=re.MULTILINE
)
# Those of Bazel, nvcc and the linker.
_FOREIGN = ("Target …", "nvcc fatal", "undefined reference", "multiple definition")
MESSAGES = [
    match[1]
    for heading in HEADINGS
    if (match := re.match(r"`(.*?)`", heading)) and not match[1].startswith(_FOREIGN)
]
_SOURCES = ("bazelw", "csrc/marlin_moe/**/*.*", "offline/*.py", "private/*.bzl", "tools/**/*.py")


def all_text() -> str:
    """All source text, with literals that follow each other joined and quotes unescaped."""
    text = "\n".join(path.read_text() for glob in _SOURCES for path in sorted(ROOT.glob(glob)))
    text = text.replace('\\"', "\0")
    return re.sub(r'"\s*(?:\+\s*)?f?"', "", text).replace("\0", '"')


TEXT = all_text()


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_those_of_the_sources(message):
    for fragment in re.split(r"\s*…\s*", message):
        if len(fragment) > 5:
            assert fragment in TEXT, f"no source says {fragment!r}"


def test_most_headings_are_messages():
    assert len(MESSAGES) > 15
    assert "no source has this text" not in TEXT


def test_the_picture_shows_the_families():
    picture = (ROOT / "docs/architectures.svg").read_text()
    module = ast.parse((ROOT / "private/families.bzl").read_text())
    tables = {
        node.targets[0].id: node.value for node in module.body if isinstance(node, ast.Assign)
    }
    families = {family["name"]: family for family in ast.literal_eval(tables["FAMILIES"])}
    for name in families:
        assert f">{name}" in picture
    assert ", ".join(families["sm89"]["capabilities"]) in picture
