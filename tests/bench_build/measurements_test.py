"""The measurements of tools/bench_build find what they measure, and print figures of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bazel_command import own_server
from workspace import find_root

ROOT = find_root(Path(os.environ["TOP_LEVEL_FILE"]))
# The smallest file, of eight kernels.
SMALLEST = "sm89_kernel_fe4m3fn_fe2m1f_bfloat16"

# MiB, for each action that does not say what it needs, as those of rules_cuda do not.
BAZEL_RESERVES = 250


@pytest.fixture(name="bazel", scope="module")
def _bazel() -> Iterator[str]:
    """A Bazel command for the source tree."""
    with own_server(ROOT, ROOT) as command:
        yield shlex.join(command)


def start(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a tool to its end."""
    command = [sys.executable, str(ROOT / "tools/bench_build" / tool)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    # Scripts import from their folder, as they do on a command line.
    environment.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run(bazel: str, tool: str, *arguments: str | Path) -> list[str]:
    """Returns the lines that a tool prints."""
    result = start(tool, "--bazel", bazel, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def numbers(line: str) -> list[float]:
    return [float(found) for found in re.findall(r"(?<![\w.])\d+\.?\d*(?![\w.])", line)]


def test_the_selector_costs_less_as_a_switch_than_as_a_chain(bazel: str):
    lines = run(bazel, "selector_compile.py", "--archs", "8.0,8.9", "--runs", "1")
    for mode in ("fastbuild", "opt"):
        none, switch, chain = (numbers(line) for line in lines if line.startswith(mode))
        assert [branches for branches, *_ in (none, switch, chain)] == [0, 614, 614]
        assert none[1] > 0
        assert 0 < switch[1] < chain[1]  # by a factor of three: no load turns that round
        assert 0 < none[2] < switch[2] < chain[2]


def test_a_file_has_its_kernels_and_what_they_cost(bazel: str):
    line = run(bazel, "file_compile.py", "--archs", "8.9", "--only", SMALLEST)[2]
    assert line.startswith(f"{SMALLEST}.cu")
    kernels, seconds, mebibytes, _ = numbers(line)
    assert kernels == 8 and seconds > 0.5
    assert 50 < mebibytes < BAZEL_RESERVES


def test_a_kernel_costs_something_beyond_its_headers(bazel: str):
    lines = run(bazel, "kernel_compile.py", "--every", "100", "--runs", "1")
    kernel = next(line for line in lines if "sm80_kernel_bfloat16_u4b8_bfloat16" in line)
    _, object_bytes, cubin_bytes = numbers(kernel)[:3]
    assert 1000 < object_bytes < cubin_bytes


def test_the_peers_kernels_are_compiled_beside_ours(bazel: str, tmp_path: Path):
    folder = tmp_path / "csrc/moe/marlin_moe_wna16"
    folder.mkdir(parents=True)
    (folder / "kernel.h").write_text(
        """#include "marlin_moe/scalar_type.hpp"
#define MARLIN_KERNEL_PARAMS int* out
"""
    )
    (folder / "marlin_template.h").write_text(
        """namespace MARLIN_NAMESPACE_NAME {
template <vllm::ScalarTypeId a, vllm::ScalarTypeId b, vllm::ScalarTypeId c, vllm::ScalarTypeId s,
          int threads, int m, int n, int k, bool m8, int stages, int group, bool zp_float>
__global__ void Marlin(MARLIN_KERNEL_PARAMS) { *out = m; }
}
"""
    )
    out = tmp_path / "compile.json"
    arguments = ["--vllm", tmp_path / "csrc", "--torch", tmp_path, "--only", SMALLEST, "--out", out]
    lines = run(bazel, "compare_with_vllm.py", *arguments)
    assert [line.split()[0] for line in lines[2:]] == [SMALLEST, "all"]
    kernels, ours, theirs, *_ = numbers(lines[-1])
    assert kernels == 8 and ours > theirs > 0
    (point,) = json.loads(out.read_text())["points"]
    assert (point["file"], point["kernels"]) == (SMALLEST, kernels)
    assert point["seconds"] == pytest.approx(ours, abs=0.001)
    assert point["peer_seconds"] == pytest.approx(theirs, abs=0.001)


def test_the_generator_takes_longer_than_its_imports():
    result = start("generator.py", "--archs", "8.9", "--runs", "2")
    assert result.returncode == 0, result.stderr
    least = [numbers(line.removeprefix("gen.py 8.9"))[0] for line in result.stdout.splitlines()[1:]]
    nothing, imports, whole, _ = least
    assert 0 < nothing < imports < whole


@pytest.mark.parametrize(
    ("tool", "arguments", "named"),
    [
        ("kernel_compile.py", ["--every", "0"], "--every: '0' is given"),
        ("kernel_compile.py", ["--runs", "-1"], "--runs: '-1' is given"),
        ("selector_compile.py", ["--runs", "none"], "--runs: 'none' is given"),
        ("file_compile.py", ["--rounds", "0"], "--rounds: '0' is given"),
        ("file_compile.py", ["--archs", "9.9x"], 'architectures "9.9x": unknown'),
        ("generator.py", ["--runs", "0"], "--runs: '0' is given"),
        ("generator.py", ["--archs", "9.9x", "--runs", "1"], 'architectures "9.9x": unknown'),
        ("cold_build.py", ["."], "name a folder that does not"),
        ("build_graph.py", ["no.json", "--workers", "2,x"], "--workers is 2,x"),
        ("build_graph.py", ["no.json", "--workers", ""], "each number must be 1 or more"),
        ("build_graph.py", ["no.json", "--manifest", "no_manifest.json"], "no_manifest.json"),
    ],
)
def test_wrong_options_are_named(tool: str, arguments: list[str], named: str):
    result = start(tool, *arguments)
    assert result.returncode != 0
    assert named in result.stderr
    assert "Traceback" not in result.stderr


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
