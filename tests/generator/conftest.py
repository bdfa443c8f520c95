"""Settings and fixtures of the generator's tests."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gen
import pytest
from hypothesis import settings
from marlin_gen.tables import Tables, load_tables

# The same examples in every run, and nothing left in the working directory.
settings.register_profile("reproducible", database=None, deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def testdata() -> Callable[[str], Any]:
    """Reads a file of tests/testdata: JSON, or a .bzl file that holds one literal."""
    directory = Path(__file__).parents[1] / "testdata"

    def read(name: str) -> Any:
        text = (directory / name).read_text(encoding="utf-8")
        if name.endswith(".json"):
            return json.loads(text)
        (assignment,) = (node for node in ast.parse(text).body if isinstance(node, ast.Assign))
        return ast.literal_eval(assignment.value)

    return read


@pytest.fixture(scope="session")
def tables() -> Tables:
    return load_tables()


@pytest.fixture(scope="session")
def run_gen() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs gen.py in a process of its own."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, gen.__file__, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    return run


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec file as the Bazel rule does; arguments replace its fields."""

    def write(**fields: Any) -> Path:
        spec = {
            "families": ["sm80", "sm89"],
            "kernel_namespace": "marlin_moe_wna16",
            "schemes": list(load_tables().schemes),
            "selector": "switch",
            "type_namespace": "vllm",
        }
        path = tmp_path / "spec.json"
        path.write_text(json.dumps({**spec, **fields}, sort_keys=True), encoding="utf-8")
        return path

    return write
