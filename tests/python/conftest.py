"""The package with its binding over a stub of the C++ API and of the CUDA runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import marlin_moe
import pytest
from frameworks import Tensor
from marlin_moe import ExpertWeights, MoeLayer, _library

# Before the package loads its library, which it does once.
if "MARLIN_MOE_STUB" in os.environ:
    os.environ["MARLIN_MOE_LIBRARY"] = str(Path(os.environ["MARLIN_MOE_STUB"]).absolute())


# Of the layer that make_layer() makes.
EXPERTS, HIDDEN, INNER = 16, 256, 128


def weights(k: int, n: int, **changes: Any) -> ExpertWeights:
    """Returns INT4 weights of a layer's GEMM, or what `changes` make of them."""
    fields: dict[str, Any] = {
        "b": Tensor((EXPERTS, k // 16, n * 2), "int32"),
        "scales": Tensor((EXPERTS, k // 128, n), "bfloat16"),
        "b_type": "kU4B8",
        "group_size": 128,
    }
    return ExpertWeights(**{**fields, **changes})


def make_layer(**options: Any) -> MoeLayer:
    return MoeLayer(weights(HIDDEN, 2 * INNER), weights(INNER, HIDDEN), **options)


class Stub:
    """What the stub was called with, and what it is to answer."""

    def __init__(self) -> None:
        self.set()
        self.calls()

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """Returns name and fields of the calls since the last time."""
        found = []
        for line in str(_library.function("stub_calls")()).splitlines():
            name, *fields = line.split(" ")
            pairs = (field.split("=") for field in fields)
            found.append(
                (name, {key: value if value[0] == "k" else int(value) for key, value in pairs})
            )
        return found

    def call(self, name: str) -> dict[str, Any]:
        """Returns the fields of the only call of a function since the last time."""
        [fields] = [fields for called, fields in self.calls() if called == name]
        return fields

    def set(
        self, *, device: int = 0, gemm_bytes: int = 4096, align_bytes: int = 0, capture: int = 0
    ) -> None:
        """Sets the current device, what workspace queries answer, and the stream's capture."""
        _library.function("stub_set")(device, gemm_bytes, align_bytes, capture)

    def device(self) -> int:
        """Returns the current device."""
        return int(_library.function("stub_device")())

    def fail(self, name: str, code: int, message: str, *, after: int = 0) -> None:
        """Makes a call of a function fail, after so many that do not."""
        _library.function("stub_fail")(name, after, code, message)


@pytest.fixture
def stub() -> Iterator[Stub]:
    Tensor.stream = 0
    Tensor.made.clear()
    marlin_moe.clear_workspaces()
    yield Stub()
    marlin_moe.clear_workspaces()
