"""Reads the log that `bazel build --execution_log_json_file=FILE` writes.

The log holds one JSON object after the other, one for each process that the build ran or whose
result it took from a cache. Actions that Bazel does itself, such as writing a parameter file, are
not in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


class LogError(Exception):
    """The file is not an execution log, or not of the build that is asked for."""


@dataclass(frozen=True)
class File:
    """Digest and size of an input or an output."""

    digest: str
    size: int


@dataclass(frozen=True)
class Spawn:
    """One process of the build.

    `label` is that of the target, `//a:b` for targets of the main repository. `inputs` and
    `outputs` go from path to File. `seconds` is the wall-clock time of the process, without what
    Bazel does before and after it; `started` is when that began, None where the log does not say.
    """

    mnemonic: str
    label: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    platform: tuple[tuple[str, str], ...]
    inputs: Mapping[str, File]
    listed_outputs: tuple[str, ...]
    outputs: Mapping[str, File]
    cache_hit: bool
    runner: str
    seconds: float
    started: datetime | None = None

    @property
    def name(self) -> str:
        """Says what the process makes: its mnemonic and its file, or its target if it has many."""
        files = [path for path in self.listed_outputs if not path.endswith(".d")]
        made = files[0].rpartition("/")[2] if len(files) == 1 else self.label.rpartition(":")[2]
        return f"{self.mnemonic} {made}"

    @property
    def is_ours(self) -> bool:
        """Whether the target belongs to the main repository."""
        return self.label.startswith("//")


def read_log(path: Path) -> list[Spawn]:
    """Returns the processes in a log.

    Raises:
      LogError: the file is not an execution log in JSON.
    """
    try:
        return [_spawn(entry) for entry in _objects(path.read_text(encoding="utf-8"))]
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(
            f"{path} is not a log that --execution_log_json_file writes: {error!r}"
        ) from error


def executed(spawns: Sequence[Spawn]) -> list[Spawn]:
    """Returns the processes that really ran."""
    return [spawn for spawn in spawns if not spawn.cache_hit]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    white_space = re.compile(r"\s*")
    position = _end(white_space, text, 0)
    while position < len(text):
        entry, position = decoder.raw_decode(text, position)
        yield entry
        position = _end(white_space, text, position)


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _spawn(entry: Mapping[str, Any]) -> Spawn:
    platform = entry["platform"] or {}
    metrics = entry.get("metrics", {})
    return Spawn(
        mnemonic=entry["mnemonic"],
        label=re.sub(r"^@@?(?=//)", "", entry["targetLabel"]),
        arguments=tuple(entry["commandArgs"]),
        environment={item["name"]: item["value"] for item in entry["environmentVariables"]},
        platform=tuple((item["name"], item["value"]) for item in platform.get("properties", [])),
        inputs=_files(entry["inputs"]),
        listed_outputs=tuple(sorted(entry["listedOutputs"])),
        outputs=_files(entry["actualOutputs"]),
        cache_hit=entry["cacheHit"],
        runner=entry["runner"],
        seconds=_seconds(metrics.get("executionWallTime", "0s")),
        started=datetime.fromisoformat(metrics["startTime"]) if "startTime" in metrics else None,
    )


def _files(entries: Sequence[Mapping[str, Any]]) -> dict[str, File]:
    files = {}
    for entry in entries:
        digest = entry.get("digest") or {"hash": entry.get("symlinkTargetPath", ""), "sizeBytes": 0}
        files[entry["path"]] = File(digest["hash"], int(digest["sizeBytes"]))
    return files


def _seconds(duration: str) -> float:
    if not duration.endswith("s"):
        raise ValueError(f"no duration: {duration}")
    return float(duration[:-1])
