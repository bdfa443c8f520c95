"""The kernels of a manifest and the files they are in, with what their compiles took and made."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import InputError
from execution_log import Spawn

_COMPILE = "CudaCompile"
OTHER_SOURCES = "other sources"


@dataclass(frozen=True)
class Kernel:
    """A kernel of the manifest.

    `file` is its source file without suffix. `types` are those of activations, weights, output and
    scales. `rows`, `n` and `k` measure its tile in elements; `group_blocks` counts blocks of 16
    rows. `cost` is what it costs to compile, compared with others. `blocks_per_sm` is what a kernel
    of the template MarlinSm90 was compiled for, 0 for those of Marlin.
    """

    file: str
    family: str
    schemes: tuple[str, ...]
    types: tuple[str, str, str, str]
    threads: int
    rows: int
    n: int
    k: int
    stages: int
    group_blocks: int
    cost: float
    blocks_per_sm: int = 0

    @property
    def label(self) -> str:
        """Tells the kernel from the others of its types."""
        blocks = f"{self.blocks_per_sm} blocks, " if self.blocks_per_sm else ""
        return (
            f"{self.rows} x {self.n} x {self.k}, {self.threads} threads, {blocks}"
            f"group {self.group_blocks}"
        )


@dataclass(frozen=True)
class SourceFile:
    """A file that is compiled. `seconds` and `size` (bytes) are None where they are not known."""

    name: str
    family: str
    kernels: tuple[Kernel, ...]
    seconds: float | None
    size: int | None

    def share(self, kernel: Kernel) -> float:
        """The part of the file that a kernel is, by what the kernels cost to compile."""
        return kernel.cost / sum(other.cost for other in self.kernels)


@dataclass(frozen=True)
class Compile:
    """What a log says of a file's compile; `seconds` is None if the result was in a cache.

    `runner` is what ran it, or which cache it was in, in the log's words.
    """

    seconds: float | None
    size: int
    runner: str


def read_manifest(path: Path) -> list[Kernel]:
    """Returns the kernels of a manifest.json, in its order.

    Raises:
      InputError: the file is no manifest of this repository's generator.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return [_kernel(entry) for entry in manifest["instantiations"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a manifest.json of this version's kernel generator: {error!r}"
        ) from error


def _kernel(entry: Mapping[str, Any]) -> Kernel:
    tile = _sm90_tile(entry) if "block_rows" in entry else _marlin_tile(entry)
    return Kernel(
        file=Path(entry["file"]).stem,
        family=str(entry["family"]),
        schemes=tuple(map(str, entry["schemes"])),
        types=(entry["a_type"], entry["b_type"], entry["c_type"], entry["s_type"]),
        stages=int(entry["stages"]),
        group_blocks=int(entry["group_blocks"]),
        cost=float(entry["cost"]),
        **tile,
    )


def _marlin_tile(entry: Mapping[str, Any]) -> dict[str, int]:
    return {
        "threads": int(entry["threads"]),
        "rows": 8 if entry["m_block_size_8"] else 16 * int(entry["thread_m_blocks"]),
        "n": 16 * int(entry["thread_n_blocks"]),
        "k": 16 * int(entry["thread_k_blocks"]),
    }


def _sm90_tile(entry: Mapping[str, Any]) -> dict[str, int]:
    """The tile of a kernel of MarlinSm90, as plan/sm90_tile.h has it."""
    return {
        "threads": 384,
        "rows": int(entry["block_rows"]),
        "n": int(entry["thread_n"]),
        "k": 64,
        "blocks_per_sm": int(entry["blocks_per_sm"]),
    }


def compiles(spawns: Iterable[Spawn], target: str) -> dict[str, Compile]:
    """Returns what a log says of the CUDA files that a marlin_moe_kernels target compiles.

    The rule compiles them in targets of its own, named TARGET.SOMETHING.
    """
    found = {}
    for spawn in spawns:
        if spawn.mnemonic == _COMPILE and spawn.label.startswith(f"{target}."):
            objects = {path: file for path, file in spawn.outputs.items() if path.endswith(".o")}
            for path, file in objects.items():
                seconds = None if spawn.cache_hit else spawn.seconds
                found[object_stem(path)] = Compile(seconds, file.size, spawn.runner)
    return found


def caches(compiled: Mapping[str, Compile]) -> list[str]:
    """Returns the caches that results were in, in the log's words, such as `disk cache hit`."""
    return sorted({made.runner for made in compiled.values() if made.seconds is None})


def compiled_targets(spawns: Iterable[Spawn]) -> list[str]:
    """Returns the targets that the log has CUDA compiles for."""
    labels = {spawn.label for spawn in spawns if spawn.mnemonic == _COMPILE}
    return sorted(labels)


def object_stem(path: str) -> str:
    """The name of the source file that an object is of, without suffix."""
    return Path(path).name.removesuffix(".o").removesuffix(".pic")


def source_files(
    kernels: Sequence[Kernel], compiled: Mapping[str, Compile], sizes: Mapping[str, int]
) -> list[SourceFile]:
    """Joins what is known of each file, sorted by family and name.

    Args:
      kernels: those of the manifest.
      compiled: what a log says, by file.
      sizes: bytes of objects, by file; they go before those of the log.
    """
    members = defaultdict(list)
    for kernel in kernels:
        members[kernel.file].append(kernel)
    files = []
    for name in {*members, *compiled, *sizes}:
        made = compiled.get(name)
        size = sizes.get(name, made.size if made else None)
        seconds = made.seconds if made else None
        files.append(SourceFile(name, _family(name), tuple(members[name]), seconds, size))
    return sorted(files, key=lambda file: (file.family, file.name))


def _family(name: str) -> str:
    family, separator, _ = name.partition("_kernel_")
    return family if separator else OTHER_SOURCES


def count_by_scheme(kernels: Iterable[Kernel]) -> dict[str, dict[str, int]]:
    """Returns how many kernels each family has of each scheme, both in the manifest's order.

    A kernel of two schemes counts for both.
    """
    counts: dict[str, dict[str, int]] = {}
    for kernel in kernels:
        family = counts.setdefault(kernel.family, {})
        for scheme in kernel.schemes:
            family[scheme] = family.get(scheme, 0) + 1
    return counts
