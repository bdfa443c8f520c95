"""Tests that docs/rules.md is what Stardoc makes of the docstrings."""

import os
from pathlib import Path


def test_the_reference_is_what_stardoc_makes_of_the_docstrings():
    made = Path(os.environ["MADE"]).read_text().rstrip("\n")
    assert "## marlin_moe_kernels" in made
    assert Path(os.environ["CHECKED_IN"]).read_text().rstrip("\n") == made, (
        "docs/rules.md is not what the docstrings say; repair: "
        "./bazelw build //docs:rules_reference && "
        "cp bazel-bin/docs/rules_reference.md docs/rules.md"
    )
