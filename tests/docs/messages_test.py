"""Tests of pages that repeat what sources say: error messages, what runs where, the families."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

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


def table(file: str, name: str) -> Any:
    """The value of a table in a .bzl file of literals."""
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise LookupError(f"{file} has no {name}")


ARCHS = [arch["capability"] for arch in table("private/families.bzl", "ARCHS")]
FAMILIES = table("private/families.bzl", "FAMILIES")
DOCUMENTED_SCHEMES = table("private/quant_schemes.bzl", "QUANT_SCHEMES")
SCHEMES = DOCUMENTED_SCHEMES + table("private/quant_schemes.bzl", "FURTHER_QUANT_SCHEMES")


def rows(document: str, first_heading: str) -> list[list[str]]:
    """The cells of a table in a document, headings first."""
    lines = (ROOT / document).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    end = lines.index("", start)
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[start:end]]
    return [found[0], *found[2:]]


def listed_name(scheme: dict[str, Any]) -> str:
    """A scheme's name as the tables of the documents have it: a star says that it is named."""
    return f"`{scheme['name']}`" + ("" if scheme in DOCUMENTED_SCHEMES else " *")


def archs_of(heading: str) -> list[str]:
    """The architectures that a column of the README's table stands for, such as 8.0 to 8.8."""
    if " to " in heading:
        first, last = heading.split(" to ")
        return ARCHS[ARCHS.index(first) : ARCHS.index(last) + 1]
    return heading.split(", ")


def families_of(scheme: dict[str, Any], arch: str) -> list[str]:
    """The families that have kernels of a scheme for an architecture."""
    return [
        family["name"]
        for family in FAMILIES
        if arch in family["capabilities"]
        and set(scheme["a_type"]) & set(family["a_types"])
        and set(scheme["c_type"] or scheme["a_type"]) & set(family["c_types"])
        and has_tiles(family, scheme)
    ]


def has_tiles(family: dict[str, Any], scheme: dict[str, Any]) -> bool:
    """Whether a family has tiles for a scheme: its own table may lack some types and groups."""
    if not family["tile_table"]:
        return True
    return any(
        set(scheme["a_type"]) & set(row["a_types"])
        and scheme["b_type"] in row["b_types"]
        and scheme["s_type"] == row["s_type"]
        and set(scheme["group_blocks"]) & set(row["group_blocks"])
        for row in table("private/quant_schemes.bzl", family["tile_table"])
    )


def test_the_readme_says_which_family_serves_a_scheme_where():
    headings, *lines = rows("README.md", "scheme")
    columns = [archs_of(heading) for heading in headings[3:]]
    assert [arch for column in columns for arch in column] == ARCHS
    assert {line[0] for line in lines} == {listed_name(scheme) for scheme in SCHEMES}
    for scheme in SCHEMES:
        line = next(line for line in lines if line[0] == listed_name(scheme))
        for heading, archs, cell in zip(headings[3:], columns, line[3:], strict=True):
            served = {tuple(families_of(scheme, arch)) for arch in archs}
            assert served == {tuple(cell.split(", ")) if cell else ()}, (scheme["name"], heading)


def test_the_page_of_schemes_lists_those_of_the_table():
    _, *lines = rows("docs/quant-schemes.md", "scheme")
    assert [line[0] for line in lines] == [listed_name(scheme) for scheme in SCHEMES]
    for scheme, (_, activations, weights, scales, groups) in zip(SCHEMES, lines, strict=True):
        names = {"f16": "kFloat16", "bf16": "kBFloat16", "int8": "kS8", "FP8": "kFE4M3fn"}
        assert [names[name] for name in activations.split(", ")] == scheme["a_type"]
        assert weights.startswith(f"`{scheme['b_type']}`")
        assert scales == (f"`{scheme['s_type']}`" if scheme["s_type"] else "as output")
        blocks = {"all": -1, "act-order": 0}
        listed = {
            blocks.get(group) if group in blocks else int(group) // 16
            for group in groups.split(", ")
        }
        assert listed == set(scheme["group_blocks"])


def test_the_page_of_architectures_lists_the_families_of_the_table():
    _, *lines = rows("docs/architectures.md", "family")
    stages = {family["name"]: str(family["stages"] or "what fits") for family in FAMILIES}
    assert {line[0]: line[-1] for line in lines} == stages
    known = f"It knows {', '.join(ARCHS[:-1])} and {ARCHS[-1]}."
    assert known in " ".join((ROOT / "docs/architectures.md").read_text().split())


def test_the_picture_shows_the_families():
    picture = (ROOT / "docs/architectures.svg").read_text()
    for family in FAMILIES:
        assert family["extra"] or f">{family['name']}" in picture
    sm89 = next(family for family in FAMILIES if family["name"] == "sm89")
    assert ", ".join(sm89["capabilities"]) in picture
