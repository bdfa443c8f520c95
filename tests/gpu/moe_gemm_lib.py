"""ctypes binding of libmoe_gemm_test.so (moe_gemm_shim.cc).

The structs are built from the field lists that the library itself returns, so a field added to the
shim needs no change here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from shim_lib import MESSAGE_BYTES, ShimError, Status, make_struct

# Ways to launch a kernel that does nothing, by the numbers that moe_gemm_shim.cc knows them by.
EMPTY_LAUNCHES = (
    "no parameters, one block",
    "the GEMM's parameters, one block",
    "the GEMM's parameters, grid and shared memory",
    "the same through the driver's cuLaunchKernel",
)


class MoeGemmLibrary:
    """The functions of the shared library, with Python types."""

    def __init__(self, path: str) -> None:
        """Loads the library at `path`; raises OSError if it cannot be loaded."""
        self._lib = ctypes.CDLL(path)
        for name in ("args_fields", "config_fields", "status_name"):
            getattr(self._lib, f"moe_gemm_test_{name}").restype = ctypes.c_char_p
        for name in ("args_size", "config_size"):
            getattr(self._lib, f"moe_gemm_test_{name}").restype = ctypes.c_size_t
        self._lib.moe_gemm_test_type_id.restype = ctypes.c_int64
        self.Args = self._load_struct("args")
        self.Config = self._load_struct("config")

    def _load_struct(self, name: str) -> Any:
        fields = getattr(self._lib, f"moe_gemm_test_{name}_fields")().decode()
        size = getattr(self._lib, f"moe_gemm_test_{name}_size")()
        return make_struct(name.capitalize(), fields, size)

    def _call(self, function: str, *args: Any) -> Status:
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        entry = getattr(self._lib, f"moe_gemm_test_{function}")
        code = entry(*args, message, ctypes.c_size_t(MESSAGE_BYTES))
        name = self._lib.moe_gemm_test_status_name(code).decode()
        return Status(name, message.value.decode(errors="replace"))

    def type_id(self, name: str) -> int:
        """Returns the id of a scalar type by its constant's name; raises if there is none."""
        value = int(self._lib.moe_gemm_test_type_id(name.encode()))
        if value == -1:
            raise ShimError(f"unknown scalar type {name}")
        return value

    def config(self, **fields: int) -> Any:
        return self.Config(**{"stripe_slack": -1, "gather_first": -1, **fields})

    def config_dict(self, config: Any) -> dict[str, int]:
        return {name: getattr(config, name) for name, _ in self.Config._fields_}

    def gemm(self, args: Any, config: Any = None) -> Status:
        """Launches the GEMM; `config` None takes the library's choice."""
        forced = None if config is None else ctypes.byref(config)
        return self._call("gemm", ctypes.byref(args), forced)

    def workspace_size(self, args: Any, config: Any = None) -> tuple[Status, int]:
        """Returns the status and the bytes of scratch memory that gemm() needs."""
        size = ctypes.c_int64()
        forced = None if config is None else ctypes.byref(config)
        status = self._call("workspace_size", ctypes.byref(args), forced, ctypes.byref(size))
        return status, size.value

    def max_workspace_size(self, args: Any) -> tuple[Status, int]:
        """Returns the status and the bytes that suffice for every configuration and block size."""
        size = ctypes.c_int64()
        status = self._call("max_workspace_size", ctypes.byref(args), ctypes.byref(size))
        return status, size.value

    def choose_config(self, args: Any) -> tuple[Status, Any]:
        """Returns the status and the configuration that gemm() takes for the arguments."""
        config = self.Config()
        return self._call("choose_config", ctypes.byref(args), ctypes.byref(config)), config

    def block_size(self, args: Any) -> int:
        """Returns the block size to align tokens with; addresses are not looked at.

        Raises ShimError on any refusal.
        """
        size = ctypes.c_int32()
        status = self._call("block_size", ctypes.byref(args), ctypes.byref(size))
        if not status.ok:
            raise ShimError(f"block_size: {status.name}: {status.message}")
        return size.value

    def _timed(self, function: str, sets: list[Any], config: Any, *numbers: int) -> float:
        microseconds = ctypes.c_float()
        array = (self.Args * len(sets))(*sets)
        forced = None if config is None else ctypes.byref(config)
        status = self._call(
            function, array, len(sets), forced, *numbers, ctypes.byref(microseconds)
        )
        if not status.ok:
            raise ShimError(f"{function}: {status.name}: {status.message}")
        return microseconds.value

    def time(self, sets: list[Any], config: Any, launches: int, repeats: int, graph: bool) -> float:
        """Returns the median device microseconds of one launch.

        `repeats` batches of `launches` go round the argument sets, each batch between two CUDA
        events, as one CUDA graph or as plain launches. Raises ShimError on any refusal.
        """
        return self._timed("time", sets, config, launches, repeats, int(graph))

    def empty_launch_time(self, kind: int, calls: int, repeats: int) -> float:
        """Returns the median wall microseconds that launching an empty kernel takes on the host.

        The kinds are those of EMPTY_LAUNCHES. Raises ShimError on any failure.
        """
        microseconds = ctypes.c_float()
        status = self._call("empty_launch_time", kind, calls, repeats, ctypes.byref(microseconds))
        if not status.ok:
            raise ShimError(f"empty_launch_time: {status.name}: {status.message}")
        return microseconds.value

    def read_ways(self) -> int:
        """Returns how many ways to read() there are."""
        return int(self._lib.moe_gemm_test_read_ways())

    def read(
        self,
        operands: Sequence[tuple[int, int]],
        experts: tuple[int, int],
        sink: int,
        way: int,
        stream: int,
    ) -> None:
        """Launches a kernel that reads the parts of some experts of operands, and nothing else.

        Args:
          operands: up to three; address, and bytes of an expert's part, a multiple of 16.
          experts: address of their numbers on the device, and how many.
          sink: address of an int on the device.
          way: below read_ways().
          stream: the CUDA stream.
        """
        addresses, sizes = zip(*operands, strict=True)
        status = self._call(
            "read",
            (ctypes.c_void_p * len(operands))(*addresses),
            (ctypes.c_int64 * len(operands))(*sizes),
            len(operands),
            ctypes.c_void_p(experts[0]),
            experts[1],
            ctypes.c_void_p(sink),
            way,
            ctypes.c_void_p(stream),
        )
        if not status.ok:
            raise ShimError(f"read: {status.name}: {status.message}")

    def host_time(
        self, sets: list[Any], config: Any, calls: int, repeats: int, launch: bool = True
    ) -> float:
        """Returns the median wall microseconds that one call takes on the host.

        Without `launch` it is workspace_size() instead, which checks and chooses as a call does.
        Raises ShimError on any refusal.
        """
        return self._timed("host_time", sets, config, calls, repeats, int(launch))
