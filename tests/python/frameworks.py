"""Frameworks on unreal GPUs, made from DLPack's specification: memory that nobody reads.

`Tensor` speaks DLPack's exchange interface for C, as PyTorch's do: it has a current stream and an
allocator. `PlainTensor` speaks the Python protocol only.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13

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
_NAMES = {code: name for name, code in CODES.items()}

_release = ctypes.CDLL(str(Path(os.environ["MARLIN_MOE_RELEASE"]).absolute()))
# These may be called without the interpreter's lock, which they take.
_ALLOCATOR = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_void_p
)
_FROM_OBJECT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
_TO_OBJECT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p))
_STREAM = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
)
_new_capsule = ctypes.pythonapi["PyCapsule_New"]
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_new_capsule.restype = ctypes.py_object
_new_reference = ctypes.pythonapi["Py_IncRef"]
_new_reference.argtypes = [ctypes.py_object]

# data, device type and id, ndim, code, bits, lanes, shape, strides, byte_offset.
_DLTENSOR = struct.Struct("=QiiiBBHQQQ")
# All that was ever exported: it has to stay while somebody may give it back.
_exported: list[Any] = []
_addresses = itertools.count(0x7F0000001000, 1 << 24)


class Memory:
    """Memory with a shape and a type."""

    def __init__(
        self,
        shape: Sequence[int],
        dtype: str,
        *,
        pointer: int | None = None,
        device: tuple[int, int] = (CUDA, 0),
        strides: Sequence[int] | None = None,
        byte_offset: int = 0,
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self.device = device
        self.pointer = next(_addresses) if pointer is None else pointer
        self._exports = ctypes.c_int64(0)
        dense = list(itertools.accumulate(reversed((*self.shape[1:], 1)), lambda a, b: a * b))
        steps = list(reversed(dense)) if strides is None else list(strides)
        rank = len(self.shape)
        self._shape = (ctypes.c_int64 * rank)(*self.shape)
        self._strides = (ctypes.c_int64 * rank)(*steps[:rank])
        self._tensor = _DLTENSOR.pack(
            self.pointer,
            *device,
            rank,
            *CODES[dtype],
            ctypes.addressof(self._shape),
            ctypes.addressof(self._strides),
            byte_offset,
        )

    @property
    def exports(self) -> int:
        """How often it is exported and not given back."""
        return self._exports.value

    def export(self, *, versioned: bool) -> int:
        """Returns the address of a new DLManagedTensor, or of a DLManagedTensorVersioned."""
        context = ctypes.addressof(self._exports)
        deleter = _address_of(_release.release_versioned if versioned else _release.release)
        if versioned:
            data = struct.pack("=IIQQQ", 1, 3, context, deleter, 0) + self._tensor
        else:
            data = self._tensor + struct.pack("=QQ", context, deleter)
        buffer = ctypes.create_string_buffer(data, len(data))
        _exported.append((self, buffer))
        self._exports.value += 1
        return ctypes.addressof(buffer)


def _address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class PlainTensor:
    """A tensor that speaks the Python protocol of DLPack."""

    def __init__(self, shape: Sequence[int], dtype: str, **options: Any) -> None:
        self.memory = Memory(shape, dtype, **options)
        self.shape = self.memory.shape
        self.dtype = dtype

    @property
    def pointer(self) -> int:
        return self.memory.pointer

    def __dlpack__(self, **options: Any) -> Any:
        return _new_capsule(self.memory.export(versioned=False), b"dltensor", None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.device


class Tensor(PlainTensor):
    """A tensor whose framework has a current stream and an allocator.

    Attributes:
      stream: the current stream of all devices.
      made: what the framework has made, in order.
    """

    stream: ClassVar[int] = 0
    made: ClassVar[list[Tensor]] = []
    __dlpack_c_exchange_api__: ClassVar[int]


@_ALLOCATOR
def _allocate(prototype: int, out: Any, context: int, set_error: int) -> int:
    del context, set_error
    _, device_type, device, rank, *code, shape, _, _ = _DLTENSOR.unpack(
        ctypes.string_at(prototype, _DLTENSOR.size)
    )
    lengths = (ctypes.c_int64 * rank).from_address(shape)
    made = Tensor(tuple(lengths), _NAMES[tuple(code)], device=(device_type, device))
    Tensor.made.append(made)
    out[0] = made.memory.export(versioned=True)
    return 0


@_FROM_OBJECT
def _from_object(value: int, out: Any) -> int:
    tensor = ctypes.cast(value, ctypes.py_object).value
    out[0] = tensor.memory.export(versioned=True)
    return 0


@_TO_OBJECT
def _to_object(managed: int, out: Any) -> int:
    # After two numbers of the version, the context, the deleter and the flags.
    address = struct.unpack("=Q", ctypes.string_at(managed + 32, 8))[0]
    [tensor] = [made for made in Tensor.made if made.pointer == address]
    _new_reference(tensor)
    out[0] = id(tensor)
    _release.release_versioned(ctypes.c_void_p(managed))
    return 0


@_STREAM
def _current_stream(device_type: int, device: int, out: Any) -> int:
    del device_type, device
    out[0] = Tensor.stream
    return 0


# Version 1.3 and no older table, then the functions.
_api = ctypes.create_string_buffer(
    struct.pack(
        "=IIQQQQQQ",
        1,
        3,
        0,
        _address_of(_allocate),
        _address_of(_from_object),
        _address_of(_to_object),
        0,
        _address_of(_current_stream),
    )
)
Tensor.__dlpack_c_exchange_api__ = ctypes.addressof(_api)
