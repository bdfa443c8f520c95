"""Bazel as a test starts it: a server of its own, on the source tree or another workspace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_server(root: Path, workspace: Path) -> Iterator[list[str]]:
    """A Bazel command, to be run in a workspace, whose server ends with the block."""
    startup = [f"--output_user_root={os.environ['TEST_TMPDIR']}/output", "--max_idle_secs=60"]
    command = [str(root / "bazelw"), *startup]
    try:
        yield command
    finally:
        subprocess.run([*command, "shutdown"], cwd=workspace, check=False, capture_output=True)


def refusal(
    bazel: Sequence[str], workspace: Path, flags: Sequence[str], verb: str = "build"
) -> str:
    """What Bazel has against flags of one of its commands; empty if nothing."""
    # A config is only known where it is defined, which tests check by themselves.
    flags = [flag for flag in flags if not flag.startswith("--config=")]
    command = [*bazel, "canonicalize-flags", f"--for_command={verb}", "--", *flags]
    result = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else result.stderr
