"""A fresh clone that builds with a cache which another checkout has filled."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from checkout import Checkout
from execution_log import Spawn, executed
from subject import OPTIONS, TARGETS

_KINDS = ("MarlinGenerate", "CudaCompile", "CppCompile", "CppArchive", "CppLink")


class Clone:
    """A checkout that builds the subject from nothing but a copy of the full cache, each time.

    `first` is what its very first build did. `table` has, for each change that was recorded, all
    the processes of the build and those that ran.
    """

    def __init__(self, checkout: Checkout, full_cache: Path) -> None:
        self.checkout = checkout
        self._full_cache = full_cache
        self._cache = full_cache.with_name("cache_of_one_test")
        self.table: dict[str, tuple[Sequence[Spawn], Sequence[Spawn]]] = {}
        self.refill()
        self.first = self._build(())

    def refill(self) -> None:
        """Takes a new copy of the full cache, which holds nothing of later builds."""
        if self._cache.exists():
            shutil.rmtree(self._cache)
        shutil.copytree(self._full_cache, self._cache, copy_function=os.link)

    def build(self, *options: str, targets: Sequence[str] = TARGETS) -> list[Spawn]:
        """Builds the subject, or some targets, with no outputs of earlier builds but the cache."""
        self.checkout.clean()
        return self._build(options, targets)

    def build_again(self) -> list[Spawn]:
        """Builds the subject on top of the outputs that are there."""
        return self._build(())

    def change(self, title: str, *options: str, targets: Sequence[str] = TARGETS) -> set[str]:
        """Does what build() does, and notes it in the table; returns the names of what ran."""
        spawns = self.build(*options, targets=targets)
        ran = executed(spawns)
        self.table[title] = (spawns, ran)
        return {spawn.name for spawn in ran}

    def _build(self, options: Sequence[str], targets: Sequence[str] = TARGETS) -> list[Spawn]:
        return self.checkout.build(targets, *OPTIONS, f"--disk_cache={self._cache}", *options)


def markdown(table: Mapping[str, tuple[Sequence[Spawn], Sequence[Spawn]]]) -> str:
    """Returns a table of how many actions of each kind ran for each change."""
    lines = ["| change | " + " | ".join(_KINDS) + " | other | seconds | from the cache |"]
    lines.append("|---" * (len(_KINDS) + 4) + "|")
    for title, (spawns, ran) in table.items():
        counts = Counter(spawn.mnemonic for spawn in ran)
        cells = [str(counts.pop(kind, 0)) for kind in _KINDS]
        cells += [str(counts.total()), f"{sum(spawn.seconds for spawn in ran):.1f}"]
        cells.append(str(len(spawns) - len(ran)))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
