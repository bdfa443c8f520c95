"""The build action and the command line write the same bytes.

Reads what the rule's action has generated, so it runs under Bazel only.
"""

from pathlib import Path

import gen
import pytest


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("generated_switch", {}),
        ("generated_chain", {"selector": "chain"}),
        ("generated_for_other_headers", {"scheme_headers": False}),
    ],
)
def test_command_line_and_build_action_give_the_same_bytes(target, options, tmp_path):
    generated = Path(__file__).parent / target
    by_action = {path.name: path.read_bytes() for path in generated.iterdir()}
    report = gen.generate_new_kernels("sm_89, 8.0", tmp_path, **options)
    assert {path.name: path.read_bytes() for path in report.files} == by_action
