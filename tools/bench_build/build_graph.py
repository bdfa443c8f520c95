"""Prints what the actions of a cold build cost, and how long it would take on more machines.

    bazel build TARGET --jobs=1 --execution_log_json_file=LOG      (with empty caches)
    build_graph.py LOG [--workers 2,16,64] [--manifest MANIFEST]

Durations are wall-clock seconds of the processes. Those of compilers are CPU seconds as well if the
log was written with --jobs=1 on an idle machine. The makespan is that of a schedule: a free worker
takes, of the actions whose inputs exist, the one with the longest path of actions behind it.
It does not count transfers and Bazel's own work.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from execution_log import LogError, Spawn, read_log


@dataclass(frozen=True)
class Graph:
    """The actions of a build; `behind` has, for each, the actions that read what it writes."""

    spawns: Sequence[Spawn]
    behind: Sequence[Sequence[int]]

    @classmethod
    def of(cls, spawns: Sequence[Spawn]) -> Graph:
        """Finds who reads whose outputs.

        Raises:
          LogError: two actions write one file, or results came from a cache.
        """
        hits = sum(spawn.cache_hit for spawn in spawns)
        if hits or not spawns:
            raise LogError(
                f"{hits} of {len(spawns)} actions took their result from a cache: the log must be "
                "of a cold build"
            )
        writers: dict[str, int] = {}
        for number, spawn in enumerate(spawns):
            for path in spawn.listed_outputs:
                if path in writers:
                    raise LogError(f"two actions write {path}: the log must be of one build")
                writers[path] = number
        behind: list[list[int]] = [[] for _ in spawns]
        for number, spawn in enumerate(spawns):
            for writer in sorted({writers[path] for path in spawn.inputs if path in writers}):
                behind[writer].append(number)
        return cls(spawns, behind)

    def longest_paths(self) -> list[float]:
        """Returns, for each action, the seconds from its start to the end of the last behind it.

        Raises:
          LogError: actions wait for each other in a circle.
        """
        lengths = [-1.0] * len(self.spawns)
        for number in reversed(self._in_order()):
            rest = max((lengths[other] for other in self.behind[number]), default=0.0)
            lengths[number] = self.spawns[number].seconds + rest
        return lengths

    def makespan(self, workers: int) -> float:
        """Returns the seconds that the build takes on workers with one action at a time each.

        Raises:
          LogError: actions wait for each other in a circle.
        """
        priority = self.longest_paths()
        missing = self._missing()
        ready = [(-priority[n], n) for n, count in enumerate(missing) if count == 0]
        heapq.heapify(ready)
        running: list[tuple[float, int]] = []
        now = 0.0
        while ready or running:
            while ready and len(running) < workers:
                _, number = heapq.heappop(ready)
                heapq.heappush(running, (now + self.spawns[number].seconds, number))
            now, number = heapq.heappop(running)
            for other in self.behind[number]:
                missing[other] -= 1
                if missing[other] == 0:
                    heapq.heappush(ready, (-priority[other], other))
        return now

    def _missing(self) -> list[int]:
        """Returns how many actions each waits for."""
        missing = [0] * len(self.spawns)
        for others in self.behind:
            for other in others:
                missing[other] += 1
        return missing

    def _in_order(self) -> list[int]:
        """Returns the actions with each behind those it waits for."""
        missing = self._missing()
        order = [number for number, count in enumerate(missing) if count == 0]
        for number in order:
            for other in self.behind[number]:
                missing[other] -= 1
                if missing[other] == 0:
                    order.append(other)
        if len(order) < len(self.spawns):
            raise LogError("actions wait for each other in a circle")
        return order


def report(graph: Graph, workers: Sequence[int], kernels: int) -> list[str]:
    """Returns lines about the build; `kernels` is how many it compiles, 0 if that is not known."""
    spawns = graph.spawns
    total = sum(spawn.seconds for spawn in spawns)
    kinds = defaultdict(list)
    for spawn in spawns:
        kinds[spawn.mnemonic].append(spawn)
    lines = ["action kind        actions   seconds   share   longest        bytes"]
    for kind in sorted(kinds, key=lambda kind: -sum(spawn.seconds for spawn in kinds[kind])):
        seconds = [spawn.seconds for spawn in kinds[kind]]
        lines.append(
            f"{kind:18} {len(seconds):7} {sum(seconds):9.2f} {_share(sum(seconds), total)} "
            f"{max(seconds):9.2f} {_bytes(kinds[kind]):12}"
        )
    lines.append(
        f"{'all':18} {len(spawns):7} {total:9.2f} {_share(total, total)} "
        f"{max(spawn.seconds for spawn in spawns):9.2f} {_bytes(spawns):12}"
    )
    longest = max(spawns, key=lambda spawn: spawn.seconds)
    lines.append(
        f"longest action: {longest.name}, {longest.seconds:.2f} s, "
        f"{_share(longest.seconds, total).strip()} of all"
    )
    if kernels:
        compiles = kinds["CudaCompile"]
        seconds_each = sum(spawn.seconds for spawn in compiles) / kernels
        lines.append(
            f"{kernels} kernels: {seconds_each:.3f} s and {_bytes(compiles) / kernels:.0f} bytes "
            "of objects each"
        )
    lines.append(f"critical path: {max(graph.longest_paths()):.2f} s")
    lines += [f"makespan, {count:3} workers: {graph.makespan(count):8.2f} s" for count in workers]
    return lines


def _share(seconds: float, total: float) -> str:
    return f"{100 * seconds / total if total else 0:6.1f}%"


def _bytes(spawns: Sequence[Spawn]) -> int:
    return sum(file.size for spawn in spawns for file in spawn.outputs.values())


def _count_kernels(manifest: Path) -> int:
    try:
        return len(json.loads(manifest.read_text(encoding="utf-8"))["instantiations"])
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(
            f"{manifest} is not a manifest.json of kernels: {type(error).__name__}: {error}"
        ) from error


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("log", type=Path, help="what --execution_log_json_file wrote")
    parser.add_argument("--workers", default="2,16,64", help="numbers of workers")
    parser.add_argument("--manifest", type=Path, help="manifest.json of the kernels, to count them")
    options = parser.parse_args()
    numbers = options.workers.split(",")
    if not all(number.isdecimal() and int(number) for number in numbers):
        parser.error(f"--workers is {options.workers}; each number must be 1 or more")
    workers = [int(number) for number in numbers]
    try:
        kernels = _count_kernels(options.manifest) if options.manifest else 0
        print("\n".join(report(Graph.of(read_log(options.log)), workers, kernels)))
    except (LogError, OSError) as error:
        print(f"build_graph: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
