"""Without a CUDA toolkit or with clang, what needs nvcc is skipped, and nothing else fails."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from bazel_command import own_server
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))
CUDA_OFF = "e2e/cuda_off"
# By the constraint that Bazel's message names.
REASONS = {
    "cuda_toolkit_is_found": ["--repo_env=CUDA_PATH=/no/such/toolkit"],
    "cuda_compiler_is_nvcc": ["--@rules_cuda//cuda:compiler=clang"],
}


@pytest.fixture(scope="module", name="run")
def _run():
    """Runs Bazel in a workspace below the root, with one server for each."""
    with ExitStack() as stack:
        servers = {}

        def run(folder, command, *arguments):
            workspace = ROOT / folder
            if folder not in servers:
                servers[folder] = stack.enter_context(own_server(ROOT, workspace))
            return subprocess.run(
                [*servers[folder], command, "--@rules_cuda//cuda:enable=True", *arguments],
                cwd=workspace,
                capture_output=True,
                text=True,
                check=False,
            )

        yield run


# Not //...: its tests' tools would be downloaded once more.
@pytest.mark.parametrize("reason", REASONS)
def test_wildcards_skip_what_needs_nvcc(run, reason):
    for arguments in (
        [".", "build", "--nobuild", "//csrc/...", "//examples/...", "//tests/build/..."],
        [CUDA_OFF, "test", "//..."],
    ):
        result = run(*arguments, *REASONS[reason])
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("reason", REASONS)
def test_a_target_that_needs_nvcc_says_why_it_is_incompatible(run, reason):
    result = run(CUDA_OFF, "build", *REASONS[reason], "//:kernels")
    assert result.returncode != 0
    assert "is incompatible and cannot be built" in result.stderr
    assert f"//private:{reason}" in result.stderr
