"""Benchmark results as docs/benchmarks/*.json holds them.

A file has a date, the versions of what was compared, the machine, and points with one figure for
each side. The points are those that tests/gpu/compare_with_vllm.py, a comparison with Humming and
tools/bench_build/compare_with_vllm.py write, without what no chart or table shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VLLM_GEMM = "gemm_vllm.json"
HUMMING_GEMM = "gemm_humming.json"
VLLM_COMPILE = "compile_vllm.json"

Point = Mapping[str, Any]


class ResultsError(Exception):
    """A file of results is missing, or does not hold what it should."""


@dataclass(frozen=True)
class Results:
    """One file: what was measured, when, and on what."""

    date: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    points: Sequence[Point]

    @property
    def source(self) -> str:
        """Machine, date and versions in one line."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.machine['device']}, {self.date}: {versions}"

    def text(self) -> str:
        """The file's text, with a line for each point."""
        head = {"date": self.date, "versions": dict(self.versions), "machine": dict(self.machine)}
        lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
        points = ",\n".join(f"  {json.dumps(point)}" for point in self.points)
        return "\n".join(["{", *lines, ' "points": [', points, " ]", "}", ""])


def _vllm_gemm_point(point: Point) -> Point:
    kept = {key: point[key] for key in ("layer", "case", "m")}
    return {**kept, "us": round(point["us"], 1), "faster": round(point["faster"], 2)}


def _humming_gemm_point(point: Point) -> Point:
    kept = {key: point[key] for key in ("layer", "case", "m")}
    sides = {name: {"us": round(side["us"], 1)} for name, side in point["sides"].items()}
    if not {"ours", "indexed", "grouped"} <= set(sides):
        raise KeyError("sides: ours, indexed and grouped")
    return {**kept, "sides": sides}


def _vllm_compile_point(point: Point) -> Point:
    kept = {key: point[key] for key in ("file", "kernels", "bytes", "peer_bytes")}
    seconds = {key: round(point[key], 3) for key in ("seconds", "peer_seconds")}
    return {**kept, **seconds}


_KEEPERS: Mapping[str, Callable[[Point], Point]] = {
    VLLM_GEMM: _vllm_gemm_point,
    HUMMING_GEMM: _humming_gemm_point,
    VLLM_COMPILE: _vllm_compile_point,
}


def load(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds points.

    Raises:
      ResultsError: it cannot be read, is no JSON, or has no points.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not content["points"]:
            raise ValueError("it has no points")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path} is not a file of results: {error}") from error
    return dict(content)


def kept(name: str, points: Sequence[Point]) -> list[Point]:
    """Returns of each point what the checked-in file `name` holds.

    Raises:
      ResultsError: a point lacks something.
    """
    try:
        return [_KEEPERS[name](point) for point in points]
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"a point of {name} lacks {error}") from error


def read(path: Path) -> Results:
    """Reads a checked-in file.

    Raises:
      ResultsError: it is not what take() writes.
    """
    content = load(path)
    try:
        head = (content["date"], content["versions"], content["machine"])
        device = content["machine"]["device"]
    except (KeyError, TypeError) as error:
        raise ResultsError(f"{path} lacks {error}") from error
    if not (content["date"] and content["versions"] and device):
        raise ResultsError(f"{path} has an empty date, machine or list of versions")
    return Results(*head, points=kept(path.name, content["points"]))


def take(path: Path, date: str, versions: Mapping[str, str]) -> tuple[str, Results]:
    """Reads what a benchmark has written; returns the name of the checked-in file, and its content.

    Raises:
      ResultsError: the file was written by none of the three benchmarks.
    """
    content = load(path)
    first = content["points"][0]
    marks = {"faster": VLLM_GEMM, "sides": HUMMING_GEMM, "peer_seconds": VLLM_COMPILE}
    names = [name for mark, name in marks.items() if mark in first]
    if len(names) != 1:
        raise ResultsError(
            f"{path}: a point has {', '.join(first)}; a benchmark's has one of {', '.join(marks)}"
        )
    machine = content.get("machine") or {}
    if "device" not in machine:
        raise ResultsError(f"{path} does not say on which device it was measured")
    return names[0], Results(date, versions, machine, kept(names[0], content["points"]))


def geometric_mean(values: Iterable[float]) -> float:
    """Returns the geometric mean of one value or more."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def ordered(points: Sequence[Point], key: str) -> list[Any]:
    """Returns the values of a key, each once, in the order of the file."""
    return list(dict.fromkeys(point[key] for point in points))


def humming_best(point: Point) -> float:
    """Microseconds of the faster of Humming's two variants."""
    sides = point["sides"]
    return float(min(sides["indexed"]["us"], sides["grouped"]["us"]))


def vllm_over_ours(point: Point) -> float:
    """Marlin's time over ours: above 1 we are faster."""
    return float(point["faster"])


def humming_over_ours(point: Point) -> float:
    """The time of the better Humming over ours: above 1 we are faster."""
    return humming_best(point) / float(point["sides"]["ours"]["us"])


def means_by_tokens(
    points: Sequence[Point], ratio: Callable[[Point], float], case: str, layers: Sequence[str]
) -> dict[int, float]:
    """Returns the geometric mean of a case's ratios over layers, by number of tokens."""
    chosen = [p for p in points if p["case"] == case and p["layer"] in layers]
    return {
        tokens: geometric_mean(ratio(p) for p in chosen if p["m"] == tokens)
        for tokens in ordered(chosen, "m")
    }
