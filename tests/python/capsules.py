"""DLPack tensors made by hand, from the protocol's specification, not from the package's code."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
READ_ONLY = 1

# Code, bits and lanes of DLDataType.
CODES = {
    "bool": (6, 8, 1),
    "int8": (0, 8, 1),
    "int16": (0, 16, 1),
    "int32": (0, 32, 1),
    "int64": (0, 64, 1),
    "uint8": (1, 8, 1),
    "uint16": (1, 16, 1),
    "uint32": (1, 32, 1),
    "float16": (2, 16, 1),
    "float32": (2, 32, 1),
    "bfloat16": (4, 16, 1),
    "float8_e4m3fn": (10, 8, 1),
    "float8_e8m0fnu": (14, 8, 1),
    "float4_e2m1fn_x2": (17, 4, 2),
}

_DELETER = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.pythonapi["PyCapsule_New"]
_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_new.restype = ctypes.py_object
# For a capsule that is being destroyed, which must not be counted again.
_raw_is_valid = ctypes.pythonapi["PyCapsule_IsValid"]
_raw_is_valid.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
_name = ctypes.pythonapi["PyCapsule_GetName"]
_name.argtypes = [ctypes.py_object]
_name.restype = ctypes.c_char_p


def name_of(capsule: Any) -> str:
    """Returns a capsule's name."""
    return str(_name(capsule).decode())


class Producer:
    """A tensor's memory, exported any number of times; counts what consumers do with it.

    Attributes:
      deleted: calls of the deleter.
      destroyed: capsules that were destroyed before anybody consumed them.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: str | tuple[int, int, int],
        *,
        pointer: int = 0x7F0000001000,
        device: tuple[int, int] = (CUDA, 0),
        strides: Sequence[int] | None = None,
        byte_offset: int = 0,
        version: tuple[int, int] | None = None,
        flags: int = 0,
        has_deleter: bool = True,
    ) -> None:
        self.deleted = 0
        self.destroyed = 0
        self._version = version
        self._deleter = _DELETER(self._delete)
        self._destructor = _DESTRUCTOR(self._destroy)
        rank = len(shape)
        self._shape = (ctypes.c_int64 * rank)(*shape)
        self._strides = None if strides is None else (ctypes.c_int64 * rank)(*strides)
        code = CODES[dtype] if isinstance(dtype, str) else dtype
        # DLTensor: data, device type and id, ndim, code, bits, lanes, shape, strides, byte_offset.
        tensor = struct.pack(
            "=QiiiBBHQQQ",
            pointer,
            *device,
            rank,
            *code,
            ctypes.addressof(self._shape),
            0 if self._strides is None else ctypes.addressof(self._strides),
            byte_offset,
        )
        deleter = ctypes.cast(self._deleter, ctypes.c_void_p).value if has_deleter else 0
        if version is None:
            managed = tensor + struct.pack("=QQ", 0xC0, deleter)
        else:
            managed = struct.pack("=IIQQQ", *version, 0xC0, deleter, flags) + tensor
        self.managed = ctypes.create_string_buffer(managed, len(managed))

    @property
    def capsule_name(self) -> bytes:
        return b"dltensor" if self._version is None else b"dltensor_versioned"

    def capsule(self) -> Any:
        """Returns a new capsule."""
        destructor = ctypes.cast(self._destructor, ctypes.c_void_p)
        self._kept_name = self.capsule_name
        return _new(ctypes.addressof(self.managed), self._kept_name, destructor)

    def _delete(self, managed: int) -> None:
        assert managed == ctypes.addressof(self.managed)
        self.deleted += 1

    def _destroy(self, capsule: int) -> None:
        if _raw_is_valid(capsule, self.capsule_name):
            self.destroyed += 1


class FakeTensor:
    """A tensor of an unknown framework on an unreal GPU, which speaks DLPack.

    Attributes:
      producer: its memory.
      streams: those that it was exported for.
    """

    def __init__(self, shape: Sequence[int], dtype: str, **options: Any) -> None:
        self.producer = Producer(shape, dtype, **options)
        self.shape = tuple(shape)
        self.dtype = dtype
        self.pointer = options.get("pointer", 0x7F0000001000)
        self._device = options.get("device", (CUDA, 0))
        self.streams: list[Any] = []

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        self.streams.append(stream)
        return self.producer.capsule()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


class Memory:
    """Makes fake tensors that do not overlap, and is an `empty` function.

    Attributes:
      made: all tensors, in order.
    """

    def __init__(self) -> None:
        self.made: list[FakeTensor] = []
        self._next = 0x7F0000001000

    def __call__(self, shape: Sequence[int], dtype: str, device: int = 0) -> FakeTensor:
        pointer = self._next + (device << 32)
        self._next += 1 << 24
        tensor = FakeTensor(shape, dtype, pointer=pointer, device=(CUDA, device))
        self.made.append(tensor)
        return tensor
