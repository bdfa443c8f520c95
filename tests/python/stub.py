"""The stub library: what it was called with, and what it is to answer."""

from __future__ import annotations

import ctypes
from pathlib import Path


class Stub:
    """Handle of the loaded stub, which the package has loaded as well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.stub_calls.restype = ctypes.c_char_p
        self._library.stub_set.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
        self.set_bytes(4096, 0)
        self.set_device(0)
        self.set_init_status(0)
        self.calls()

    def calls(self) -> list[tuple[str, dict[str, int]]]:
        """Returns name and fields of the calls since the last time."""
        found = []
        for line in self._library.stub_calls().decode().splitlines():
            name, *fields = line.split(" ")
            pairs = (field.split("=") for field in fields)
            found.append((name, {key: int(value) for key, value in pairs}))
        return found

    def call(self, name: str) -> dict[str, int]:
        """Returns the fields of the only call of a function since the last time."""
        [fields] = [fields for called, fields in self.calls() if called == name]
        return fields

    def fail(self, status: int, message: str, having: str = "") -> None:
        """Makes the next call return a status and leave a message.

        Args:
          status: what the call returns.
          message: what the library says then.
          having: a part of the call's line, name=value, that others do not have; empty: any call.
        """
        self._library.stub_fail(status, message.encode(), having.encode())

    def set_bytes(self, gemm: int, align: int) -> None:
        """Sets what the workspace queries answer."""
        self._library.stub_set(gemm, align)

    def set_device(self, device: int) -> None:
        """Sets the current device; -1: none."""
        self._library.stub_set_device(device)

    def set_init_status(self, status: int) -> None:
        """Sets what cuInit() returns."""
        self._library.stub_set_init_status(status)
