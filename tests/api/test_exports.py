"""The shared library exports the functions of its header, and nothing else."""

from __future__ import annotations

import os
import subprocess

from c_api import CApi


def test_only_the_c_interface_is_exported(api: CApi) -> None:
    command = [os.environ["NM"], "--dynamic", "--defined-only", "--format=posix"]
    listed = subprocess.run(
        [*command, os.environ["MARLIN_MOE_LIBRARY"]], check=True, capture_output=True, text=True
    )
    exported = [line.split()[0] for line in listed.stdout.splitlines()]
    assert sorted(exported) == sorted(f"marlin_moe_{name}" for name in api.functions)
