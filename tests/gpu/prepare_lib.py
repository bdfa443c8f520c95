"""ctypes binding of libprepare_test.so (prepare_shim.cc), and device memory between guard bytes.

The argument structs are built from the field lists that the library itself returns.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from shim_lib import MESSAGE_BYTES, ShimError, Status, make_struct

_GUARD_BYTES = 4096
_GUARD = 0xA5
# What outputs hold before a call: as a 16-bit number it is a NaN that no kernel makes.
POISON = 0x7F


class PrepareLibrary:
    """The functions of the shared library, with Python types."""

    def __init__(self, path: str) -> None:
        """Loads the library at `path`; raises OSError if it cannot be loaded."""
        self._lib = ctypes.CDLL(path)
        for name in ("fields", "status_name", "error_string"):
            getattr(self._lib, f"prepare_test_{name}").restype = ctypes.c_char_p
        self._lib.prepare_test_size.restype = ctypes.c_size_t
        self._lib.prepare_test_type_id.restype = ctypes.c_int64
        self._lib.prepare_test_align_capacity.restype = ctypes.c_int64
        self._structs: dict[str, type[ctypes.Structure]] = {}

    def struct(self, function: str) -> type[ctypes.Structure]:
        """Returns the argument struct of a function; raises ShimError if there is none."""
        if function not in self._structs:
            fields = self._lib.prepare_test_fields(function.encode())
            if fields is None:
                raise ShimError(f"no function {function}")
            size = self._lib.prepare_test_size(function.encode())
            self._structs[function] = make_struct(function, fields.decode(), size)
        return self._structs[function]

    def arguments(self, function: str, fields: dict[str, Any]) -> Any:
        """Makes the argument struct of a function; types are given by their constants' names."""
        values = {
            name: self.type_id(value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return self.struct(function)(**values)

    def type_id(self, name: str) -> int:
        """Returns the id of a scalar type by its constant's name; raises if there is none."""
        value = int(self._lib.prepare_test_type_id(name.encode()))
        if value == -1:
            raise ShimError(f"unknown scalar type {name}")
        return value

    def _run(self, entry: str, *args: Any) -> Status:
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        code = getattr(self._lib, f"prepare_test_{entry}")(
            *args, message, ctypes.c_size_t(MESSAGE_BYTES)
        )
        name = self._lib.prepare_test_status_name(code).decode()
        return Status(name, message.value.decode(errors="replace"))

    def call(self, function: str, args: Any) -> Status:
        """Calls a function and waits for the device."""
        return self._run("call", function.encode(), ctypes.byref(args))

    def replay(self, function: str, args: Any) -> Status:
        """Captures a call into a CUDA graph, runs that once and waits."""
        return self._run("replay", function.encode(), ctypes.byref(args))

    def time(self, function: str, args: Any, launches: int = 20, repeats: int = 15) -> float:
        """Returns the median device microseconds of one call, out of a graph of `launches`."""
        microseconds = ctypes.c_float()
        status = self._run(
            "time",
            function.encode(),
            ctypes.byref(args),
            launches,
            repeats,
            ctypes.byref(microseconds),
        )
        if not status.ok:
            raise ShimError(f"time {function}: {status.name}: {status.message}")
        return microseconds.value

    def align_capacity(self, num_ids: int, num_experts: int, block_size: int) -> int:
        return int(self._lib.prepare_test_align_capacity(num_ids, num_experts, block_size))

    def align_workspace_size(self, args: Any) -> int:
        """Returns the bytes of scratch memory that moe_align() needs; raises on a refusal."""
        size = ctypes.c_int64()
        status = self._run("align_workspace_size", ctypes.byref(args), ctypes.byref(size))
        if not status.ok:
            raise ShimError(f"align_workspace_size: {status.message}")
        return size.value

    def check(self, error: int, what: str) -> None:
        """Raises ShimError if a CUDA error code is not success."""
        if error != 0:
            text = self._lib.prepare_test_error_string(error).decode()
            raise ShimError(f"{what}: {text}")

    def allocate(self, size: int) -> int:
        memory = ctypes.c_void_p()
        error = self._lib.prepare_test_allocate(ctypes.c_size_t(size), ctypes.byref(memory))
        self.check(error, f"allocate {size} bytes")
        return int(memory.value or 0)

    def free(self, memory: int) -> None:
        self.check(self._lib.prepare_test_free(ctypes.c_void_p(memory)), "free")

    def to_device(self, memory: int, data: np.ndarray) -> None:
        data = np.ascontiguousarray(data)
        source = ctypes.c_void_p(data.ctypes.data)
        size = ctypes.c_size_t(data.nbytes)
        error = self._lib.prepare_test_to_device(ctypes.c_void_p(memory), source, size)
        self.check(error, "copy to the device")

    def to_host(self, memory: int, size: int) -> np.ndarray:
        """Returns `size` bytes of device memory."""
        data = np.empty(size, dtype=np.uint8)
        target = ctypes.c_void_p(data.ctypes.data)
        error = self._lib.prepare_test_to_host(
            target, ctypes.c_void_p(memory), ctypes.c_size_t(size)
        )
        self.check(error, "copy to the host")
        return data


class Buffer:
    """Device memory between two guards; use it as a context manager."""

    def __init__(self, library: PrepareLibrary, size: int) -> None:
        self._library = library
        self.size = size
        self._memory = library.allocate(size + 2 * _GUARD_BYTES)
        self.address = self._memory + _GUARD_BYTES
        self.fill(np.full(size, POISON, dtype=np.uint8))

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *unused: object) -> None:
        self._library.free(self._memory)

    def fill(self, data: np.ndarray) -> None:
        """Writes the buffer's bytes and both guards."""
        guard = np.full(_GUARD_BYTES, _GUARD, dtype=np.uint8)
        middle = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self._library.to_device(self._memory, np.concatenate([guard, middle, guard]))

    def read(self) -> np.ndarray:
        """Returns the buffer's bytes."""
        return self._library.to_host(self.address, self.size)

    def intact(self) -> bool:
        """Whether no byte of either guard has changed."""
        front = self._library.to_host(self._memory, _GUARD_BYTES)
        behind = self._library.to_host(self.address + self.size, _GUARD_BYTES)
        return bool((front == _GUARD).all() and (behind == _GUARD).all())
