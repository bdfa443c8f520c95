"""Tests of the figures that scenarios print and check."""

from __future__ import annotations

from execution_log import File, Spawn
from report import describe, hit_rate, input_bytes, output_bytes, outputs, runners, size


def spawn(mnemonic: str, runner: str, output: str, length: int = 10) -> Spawn:
    """An action that reads a common header of 100 bytes and writes one output."""
    return Spawn(
        mnemonic=mnemonic,
        label="//a:b",
        arguments=(),
        environment={},
        platform=(),
        inputs={"kernel.h": File("header", 100), f"{output}.cu": File(f"{output}-source", 5)},
        listed_outputs=(output,),
        outputs={output: File(f"{output}-digest", length)},
        cache_hit=runner.endswith("hit"),
        runner=runner,
        seconds=0.0,
    )


SPAWNS = [
    spawn("CudaCompile", "remote", "a.o"),
    spawn("CudaCompile", "remote cache hit", "b.o", 20),
    spawn("CudaCompile", "remote cache hit", "c.o"),
    spawn("CppArchive", "linux-sandbox", "lib.a", 40),
]


def test_runners_are_counted():
    assert runners(SPAWNS) == {"remote": 1, "remote cache hit": 2, "linux-sandbox": 1}


def test_the_hit_rate_is_the_share_of_hits():
    assert hit_rate(SPAWNS) == 0.5
    assert hit_rate(SPAWNS[1:3]) == 1.0


def test_no_action_is_no_hit():
    assert hit_rate([]) == 0.0
    assert describe([]) == "no action; hit rate 0%"


def test_outputs_go_by_path():
    assert outputs(SPAWNS[:2]) == {"a.o": "a.o-digest", "b.o": "b.o-digest"}
    assert output_bytes(SPAWNS) == 80


def test_an_input_that_all_share_counts_once():
    assert input_bytes(SPAWNS) == 100 + 4 * 5


def test_a_line_names_kinds_and_runners():
    assert describe(SPAWNS) == (
        "1 CppArchive linux-sandbox, 1 CudaCompile remote, 2 CudaCompile remote cache hit; "
        "hit rate 50%"
    )


def test_sizes_have_units():
    assert [size(n) for n in (0, 9_999, 10_000, 9_999_499, 216_057_205)] == [
        "0 B",
        "9999 B",
        "10 KB",
        "9999 KB",
        "216.1 MB",
    ]
