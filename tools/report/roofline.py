"""The points of a GPU benchmark for a roofline: what tests/gpu/bench_moe_gemm.py writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import InputError


@dataclass(frozen=True)
class Point:
    """A measurement. `intensity` is in operations per byte of weights that were read."""

    case: str
    layer: str
    m: int
    microseconds: float
    tflop_s: float
    intensity: float
    peer_microseconds: float | None


@dataclass(frozen=True)
class Benchmark:
    """All measurements on a device, and what it reaches at most where that was measured."""

    device: str
    copy_gb_s: float | None
    matmul_tflop_s: float | None
    points: tuple[Point, ...]

    def cases(self) -> dict[str, list[Point]]:
        """The points of each case, by intensity; the cases in the file's order."""
        cases: dict[str, list[Point]] = {}
        for point in self.points:
            cases.setdefault(point.case, []).append(point)
        return {
            case: sorted(points, key=lambda point: (point.intensity, point.layer))
            for case, points in cases.items()
        }


def read_benchmark(path: Path) -> Benchmark:
    """Reads a file that bench_moe_gemm.py --out wrote.

    Raises:
      InputError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        machine = content["machine"]
        return Benchmark(
            device=str(machine["device"]),
            copy_gb_s=_optional(machine, "copy_gb_s"),
            matmul_tflop_s=_optional(machine, "matmul_tflop_s"),
            points=tuple(_point(entry) for entry in content["points"]),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise InputError(
            f"{path} is not a benchmark that tests/gpu/bench_moe_gemm.py writes: {error!r}"
        ) from error


def _point(entry: Mapping[str, Any]) -> Point:
    tflop_s = _positive(entry, "tflop_s")
    return Point(
        case=str(entry["case"]),
        layer=str(entry["layer"]),
        m=int(entry["m"]),
        microseconds=_positive(entry, "us"),
        tflop_s=tflop_s,
        intensity=tflop_s * 1e3 / _positive(entry, "weight_gb_s"),
        peer_microseconds=_optional(entry, "peer_us"),
    )


def _positive(entry: Mapping[str, Any], name: str) -> float:
    value = float(entry[name])
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value}; it must be above 0")
    return value


def _optional(entry: Mapping[str, Any], name: str) -> float | None:
    return None if entry.get(name) is None else _positive(entry, name)
