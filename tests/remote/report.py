"""What builds did, in words and figures: where actions ran, and the share that a cache had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from execution_log import Spawn

# The actions behind a marlin_moe_kernels target: generator, nvcc, archive.
OURS = ("MarlinGenerate", "CudaCompile", "CppArchive")


def runners(spawns: Sequence[Spawn]) -> dict[str, int]:
    """How many spawns each runner had; `remote cache hit` is one of them."""
    return dict(Counter(spawn.runner for spawn in spawns))


def hit_rate(spawns: Sequence[Spawn]) -> float:
    """The share of spawns whose result came from a cache, 0 to 1."""
    return sum(spawn.cache_hit for spawn in spawns) / len(spawns) if spawns else 0.0


def outputs(spawns: Sequence[Spawn]) -> dict[str, str]:
    """The digest of every output file of some spawns, by path."""
    return {path: file.digest for spawn in spawns for path, file in spawn.outputs.items()}


def output_bytes(spawns: Sequence[Spawn]) -> int:
    """The size of all output files of some spawns."""
    return sum(file.size for spawn in spawns for file in spawn.outputs.values())


def input_bytes(spawns: Sequence[Spawn]) -> int:
    """The size of all input files of some spawns, each content counted once."""
    files = {file.digest: file.size for spawn in spawns for file in spawn.inputs.values()}
    return sum(files.values())


def describe(spawns: Sequence[Spawn]) -> str:
    """How many spawns of each kind and runner there were, and the hit rate, in one line."""
    counts = Counter((spawn.mnemonic, spawn.runner) for spawn in spawns)
    parts = [f"{count} {mnemonic} {runner}" for (mnemonic, runner), count in sorted(counts.items())]
    return f"{', '.join(parts) or 'no action'}; hit rate {hit_rate(spawns):.0%}"


def size(count: int) -> str:
    """A number of bytes for people."""
    for unit, factor in (("B", 1), ("KB", 1000)):
        if count < 10_000 * factor:
            return f"{round(count / factor)} {unit}"
    return f"{count / 1e6:.1f} MB"
