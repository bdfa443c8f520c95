"""The functions around the GEMM through the C interface, in the place of the test library's."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from c_api import CApi
from prepare_lib import PrepareLibrary
from shim_lib import ShimError, Status

_HEADER = Path(__file__).resolve().parents[2] / "csrc" / "marlin_moe" / "marlin_moe.h"


class PrepareCApi(PrepareLibrary):
    """Calls go to libmarlin_moe.so, device memory still comes from the test library."""

    def __init__(self, memory: PrepareLibrary, path: str) -> None:
        """Loads the library at `path`; raises OSError if it cannot be loaded."""
        self._lib = memory._lib
        self._api = CApi(path, str(_HEADER))

    def arguments(self, function: str, fields: dict[str, Any]) -> Any:
        values = {
            name: self.type_id(value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return self._api.arguments(_c_name(function), values)

    def type_id(self, name: str) -> int:
        return self._api.types[name.removeprefix("k").upper()]

    def call(self, function: str, args: Any) -> Status:
        """Calls a function; copies from the device wait for it, on the same stream."""
        return _status(*self._api.call(_c_name(function), args))

    def align_workspace_size(self, args: Any) -> int:
        size = ctypes.c_size_t()
        status = _status(*self._api.call("align_workspace_size", args, size))
        if not status.ok:
            raise ShimError(f"align_workspace_size: {status.message}")
        return size.value


def _c_name(function: str) -> str:
    return function.removeprefix("moe_")


def _status(name: str, message: str) -> Status:
    return Status(name, "" if name == "ok" else message)
