"""The comparison finds every difference between two builds, and every trace of a machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from comparison import (
    different_actions,
    different_files,
    digests_below,
    traces_in_files,
    traces_of_machine,
)
from execution_log import File, Spawn

SPAWN = Spawn(
    mnemonic="CudaCompile",
    label="//a:b",
    arguments=("nvcc", "-ccbin", "/usr/bin/gcc", "-Ia", "-c", "a/x.cu", "-o", "bin/x.o"),
    environment={"PATH": "/bin:/usr/bin:external/cuda/bin", "PWD": "/proc/self/cwd"},
    platform=(),
    inputs={"a/x.cu": File("01", 1)},
    listed_outputs=("bin/x.o",),
    outputs={"bin/x.o": File("02", 2)},
    cache_hit=False,
    runner="linux-sandbox",
    seconds=1.0,
)
SECRETS = {"name of the user": "somebody"}

# The same action, but for one part of its cache key or its result.
CHANGED = {
    "arguments": ("nvcc", "-O3"),
    "environment": {"PATH": "/bin"},
    "platform": (("OSFamily", "linux"),),
    "inputs": {"a/x.cu": File("03", 1)},
    "outputs": {"bin/x.o": File("03", 2)},
}


def test_what_may_differ_is_no_difference() -> None:
    other = dataclasses.replace(SPAWN, runner="local", seconds=2.0, cache_hit=True)
    assert different_actions([SPAWN], [other]) == []


@pytest.mark.parametrize("part", CHANGED)
def test_changed_part_of_an_action_is_found(part: str) -> None:
    other = dataclasses.replace(SPAWN, **{part: CHANGED[part]})
    (problem,) = different_actions([SPAWN], [other])
    assert problem.startswith("CudaCompile //a:b bin/x.o: " + part)


@pytest.mark.parametrize("part", ["inputs", "outputs"])
def test_missing_file_of_an_action_is_found(part: str) -> None:
    files = {**getattr(SPAWN, part), "a/y.h": File("04", 1)}
    (problem,) = different_actions([SPAWN], [dataclasses.replace(SPAWN, **{part: files})])
    assert f"{part}: a/y.h is None and " in problem


def test_missing_action_is_found() -> None:
    problem = "CudaCompile //a:b bin/x.o: only one build has it"
    assert different_actions([SPAWN], []) == [problem]
    assert different_actions([], [SPAWN]) == [problem]


def test_files_are_compared_by_content_and_presence(tmp_path: Path) -> None:
    for folder, texts in {"one": {"a": "1", "b": "1"}, "other": {"a": "1", "b": "2"}}.items():
        for name, text in texts.items():
            (tmp_path / folder / "p/q").mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "p/q" / name).write_text(text)
    (tmp_path / "other/p/link").symlink_to("q")
    (tmp_path / "other/p/x.runfiles_manifest").touch()
    one, other = (digests_below(tmp_path / folder, ["p"]) for folder in ("one", "other"))
    assert set(one) == {"p/q/a", "p/q/b"}
    problems = different_files(one, other)
    assert [problem.partition(":")[0] for problem in problems] == ["p/link/a", "p/link/b", "p/q/b"]
    assert different_files(one, one) == []


def test_paths_of_the_toolchain_are_no_traces() -> None:
    assert traces_of_machine([SPAWN], SECRETS) == []


@pytest.mark.parametrize(
    "argument",
    [
        "/opt/x",
        "-I/opt/x",
        "--keep-dir=/opt/x",
        "-Wl,-rpath,/opt/x",
        "@/opt/x",
        "-frandom-seed=/opt/x",
        '-DX="/opt/x"',
        "/usrx",
        "somebody",
        "a/somebody/b",
    ],
)
def test_trace_in_an_argument_is_found(argument: str) -> None:
    spawn = dataclasses.replace(SPAWN, arguments=(*SPAWN.arguments, argument))
    (problem,) = traces_of_machine([spawn], SECRETS)
    assert problem.endswith(argument)


@pytest.mark.parametrize(
    ("name", "value"), [("PATH", "/bin:/opt/x"), ("HOME", "/opt/x"), ("USER", "somebody")]
)
def test_trace_in_a_variable_is_found(name: str, value: str) -> None:
    spawn = dataclasses.replace(SPAWN, environment={**SPAWN.environment, name: value})
    (problem,) = traces_of_machine([spawn], SECRETS)
    assert f"variable {name}" in problem


def test_trace_in_a_path_is_found() -> None:
    for part in ({"inputs": {"/opt/x": File("01", 1)}}, {"listed_outputs": ("bin/somebody",)}):
        assert len(traces_of_machine([dataclasses.replace(SPAWN, **part)], SECRETS)) == 1


def test_trace_in_the_bytes_of_an_output_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.o").write_bytes(b"\0\1/home-of/somebody\0")
    (tmp_path / "y.o").write_bytes(b"\0\1nobody\0")
    problems = traces_in_files(tmp_path, ["x.o", "y.o"], SECRETS)
    assert problems == ["x.o holds the name of the user: somebody"]
