"""The package with the stub in the place of its library and of the CUDA driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import marlin_moe
import pytest
from capsules import Memory
from marlin_moe import _driver, _library
from stub import Stub


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    path = Path(os.environ["MARLIN_MOE_STUB"]).absolute()
    monkeypatch.setenv("MARLIN_MOE_LIBRARY", str(path))
    monkeypatch.setattr(_library, "_loaded", None)
    monkeypatch.setattr(_driver, "_loaded", None)
    monkeypatch.setattr(_driver, "_NAME", str(path))
    yield Stub(path)
    marlin_moe.clear_workspaces()


@pytest.fixture
def memory() -> Memory:
    return Memory()
