"""Log and graph of a small build: what is read, what it costs, and how long it takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from build_graph import Graph, report
from execution_log import File, LogError, executed, read_log


def entry(
    mnemonic: str, inputs: Sequence[str], outputs: Sequence[str], seconds: str, **fields: Any
) -> dict[str, Any]:
    """An entry of the log, as Bazel writes it."""

    def files(paths: Sequence[str]) -> list[dict[str, Any]]:
        digest = {"hash": "00", "sizeBytes": "10", "hashFunctionName": "SHA-256"}
        return [{"path": path, "digest": digest} for path in paths]

    return {
        "commandArgs": ["tool", *inputs],
        "environmentVariables": [{"name": "PATH", "value": "/bin"}],
        "platform": {"properties": []},
        "inputs": files(inputs),
        "listedOutputs": list(outputs),
        "mnemonic": mnemonic,
        "actualOutputs": files(outputs),
        "runner": "linux-sandbox",
        "cacheHit": False,
        "targetLabel": "//a:b",
        "metrics": {"executionWallTime": seconds},
        **fields,
    }


# One generator, three compiles of 4, 3 and 2 seconds, an archive, and a compile beside all that.
BUILD = [
    entry("MarlinGenerate", ["gen.py"], ["a.cu", "b.cu", "c.cu"], "1s"),
    entry("CudaCompile", ["a.cu", "k.h"], ["a.o"], "2s"),
    entry("CudaCompile", ["b.cu", "k.h"], ["b.o"], "3s"),
    entry("CudaCompile", ["c.cu", "k.h"], ["c.o"], "4s"),
    entry("CppCompile", ["m.cc"], ["m.d", "m.o"], "0.500s"),
    entry("CppArchive", ["a.o", "b.o", "c.o"], ["k.a"], "0.250s"),
]


def write_log(path: Path, entries: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one, indent=2) for one in entries) + "\n")
    return path


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return Graph.of(read_log(write_log(tmp_path / "log.json", BUILD)))


def test_log_is_read(tmp_path: Path) -> None:
    label = "@@//a:b"
    hit = entry("CppCompile", ["m.cc"], ["m.d", "m.o"], "0s", cacheHit=True, targetLabel=label)
    external = entry("CppCompile", ["n.cc"], ["n.o"], "0.5s", targetLabel="@@x~//a:b")
    spawns = read_log(write_log(tmp_path / "log.json", [BUILD[0], hit, external]))
    names = ["MarlinGenerate b", "CppCompile m.o", "CppCompile n.o"]
    assert [spawn.name for spawn in spawns] == names
    assert [spawn.is_ours for spawn in spawns] == [True, True, False]
    assert [spawn.name for spawn in executed(spawns)] == [names[0], names[2]]
    assert spawns[2].seconds == 0.5
    assert spawns[1].inputs == {"m.cc": File("00", 10)}
    assert spawns[1].environment == {"PATH": "/bin"}
    assert spawns[1].arguments == ("tool", "m.cc")


@pytest.mark.parametrize("text", ["no log", '{"mnemonic": "X"}', "[1]", "\x0a\x03abc"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(LogError, match=r"is not a log that --execution_log_json_file writes"):
        read_log(path)


def test_longest_paths_follow_the_files(graph: Graph) -> None:
    assert graph.longest_paths() == [5.25, 2.25, 3.25, 4.25, 0.5, 0.25]


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        (1, 10.75),  # the sum
        (2, 6.25),  # 1, then 4 beside 3 and 2, then the archive
        (3, 5.25),  # the longest path
        (64, 5.25),
    ],
)
def test_makespan(graph: Graph, workers: int, seconds: float) -> None:
    assert graph.makespan(workers) == seconds


def test_actions_with_the_longest_path_behind_them_go_first(tmp_path: Path) -> None:
    # In the order of the log, the chain would start after the two short actions: 4 seconds.
    entries = [entry("A", [], [name], "1s") for name in ("x", "y")]
    entries += [entry("B", [], ["p"], "1s"), entry("B", ["p"], ["q"], "2s")]
    graph = Graph.of(read_log(write_log(tmp_path / "log.json", entries)))
    assert graph.makespan(2) == 3.0


def test_report(graph: Graph) -> None:
    lines = report(graph, [2, 64], kernels=6)
    assert lines[1].split() == ["CudaCompile", "3", "9.00", "83.7%", "4.00", "30"]
    assert lines[5].split() == ["all", "6", "10.75", "100.0%", "4.00", "90"]
    assert lines[6] == "longest action: CudaCompile c.o, 4.00 s, 37.2% of all"
    assert lines[7] == "6 kernels: 1.500 s and 5 bytes of objects each"
    assert lines[8:] == [
        "critical path: 5.25 s",
        "makespan,   2 workers:     6.25 s",
        "makespan,  64 workers:     5.25 s",
    ]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "0 of 0 actions"),
        ([*BUILD[:1], dict(BUILD[1], cacheHit=True)], "1 of 2 actions took their result"),
        ([BUILD[1], BUILD[1]], "two actions write a.o"),
        ([entry("A", ["y"], ["x"], "1s"), entry("A", ["x"], ["y"], "1s")], "circle"),
    ],
)
def test_logs_that_show_no_cold_build_are_refused(
    tmp_path: Path, entries: Sequence[dict[str, Any]], said: str
) -> None:
    spawns = read_log(write_log(tmp_path / "log.json", entries))
    with pytest.raises(LogError, match=said):
        Graph.of(spawns).makespan(1)
