"""Settings and fixtures of the generator's tests."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gen
import pytest
from hypothesis import settings
from marlin_gen.kernels import Instantiation, enumerate_kernels
from marlin_gen.schemes import parse_scheme, table_schemes
from marlin_gen.tables import Tables, load_tables, raw_tables

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


@dataclass(frozen=True)
class KernelFiles:
    """A case of kernel_files.bzl: what is generated, and the header of each file expected."""

    kernels: list[Instantiation]
    files: dict[str, str]
    custom: bool
    """Whether there are schemes that are not in the table."""


@pytest.fixture(scope="session")
def shared_kernel_files(testdata: Callable[[str], Any], tables: Tables) -> list[KernelFiles]:
    table = table_schemes(tables)
    cases = []
    for case in testdata("kernel_files.bzl"):
        families = [family for family in tables.families if family.name == case["family"]]
        names = case["schemes"]
        if names is None:
            names = [row["name"] for row in tables.schemes]
        schemes = [table[name] for name in names]
        schemes += [parse_scheme(raw, tables) for raw in case["custom"]]
        kernels = enumerate_kernels(families, schemes, tables)
        cases.append(KernelFiles(kernels, case["files"], custom=bool(case["custom"])))
    assert {case.custom for case in cases} == {True, False}
    return cases


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
            "scheme_headers": True,
            "schemes": list(load_tables().schemes),
            "selector": "switch",
            "selector_fallback": "",
            "tables": raw_tables(),
            "type_namespace": "vllm",
        }
        path = tmp_path / "spec.json"
        path.write_text(json.dumps({**spec, **fields}, sort_keys=True), encoding="utf-8")
        return path

    return write
