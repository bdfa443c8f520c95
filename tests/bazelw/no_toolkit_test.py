"""On a machine without a CUDA toolkit, what needs one is skipped, and nothing else fails."""

import os
import subprocess
from pathlib import Path

import pytest
from bazel_command import own_server
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))
NO_TOOLKIT = ["--repo_env=CUDA_PATH=/no/such/toolkit", "--@rules_cuda//cuda:enable=True"]


# Not //...: its tests' tools would be downloaded once more.
@pytest.mark.parametrize(
    ("folder", "command"),
    [
        (".", ["build", "--nobuild", "//csrc/...", "//examples/...", "//tests/build/..."]),
        ("e2e/cuda_off", ["test", "//..."]),
    ],
)
def test_wildcards_skip_what_needs_a_toolkit(folder, command):
    workspace = ROOT / folder
    with own_server(ROOT, workspace) as bazel:
        arguments = [*bazel, *command, *NO_TOOLKIT]
        result = subprocess.run(
            arguments, cwd=workspace, capture_output=True, text=True, check=False
        )
    assert result.returncode == 0, result.stderr


def test_a_target_that_needs_a_toolkit_says_that_it_is_incompatible():
    workspace = ROOT / "e2e/cuda_off"
    with own_server(ROOT, workspace) as bazel:
        arguments = [*bazel, "build", *NO_TOOLKIT, "//:kernels"]
        result = subprocess.run(
            arguments, cwd=workspace, capture_output=True, text=True, check=False
        )
    assert result.returncode != 0
    assert "is incompatible and cannot be built" in result.stderr
