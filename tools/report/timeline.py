"""When the processes of a build ran, and on which of its workers."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from execution_log import Spawn


@dataclass(frozen=True)
class Bar:
    """A process: seconds from the first one's start, and its worker, counted from 1."""

    name: str
    mnemonic: str
    runner: str
    start: float
    seconds: float
    worker: int


def timeline(spawns: Iterable[Spawn]) -> list[Bar]:
    """Returns the processes that ran, by start, on as few workers as could have run them.

    A log does not name workers. A process gets the one with the lowest number out of those that are
    free when it starts. Processes whose start the log does not tell are left out.
    """
    timed: list[tuple[datetime, Spawn]] = [
        (spawn.started, spawn) for spawn in spawns if spawn.started and not spawn.cache_hit
    ]
    timed.sort(key=lambda item: (item[0], item[1].name, item[1].listed_outputs))
    bars: list[Bar] = []
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    for started, spawn in timed:
        # The log counts in milliseconds, which are no exact binary fractions.
        start = round((started - timed[0][0]).total_seconds(), 3)
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        worker = heapq.heappop(free) if free else len(busy) + 1
        heapq.heappush(busy, (round(start + spawn.seconds, 3), worker))
        bars.append(Bar(spawn.name, spawn.mnemonic, spawn.runner, start, spawn.seconds, worker))
    return bars
