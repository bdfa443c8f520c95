"""Reads DLPack capsules (https://dmlc.github.io/dlpack), versioned and unversioned ones.

A capsule is consumed as the protocol says: it is renamed, so that its destructor leaves the tensor
alone, and the tensor's deleter is called once, by release().
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any

CPU = 1
CUDA = 2
CUDA_HOST = 3
CUDA_MANAGED = 13

_READ_ONLY = 1  # a bit of DLManagedTensorVersioned.flags
_MAJOR_VERSION = 1  # with another one only the version and the deleter are where they were

# With the GIL: deleters of extension modules may count references.
_DELETER = ctypes.PYFUNCTYPE(None, c_void_p)


class _DataType(ctypes.Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("manager_ctx", c_void_p), ("deleter", c_void_p)]


class _ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager_ctx", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    ]


# Capsules keep pointers to their names, which therefore live as long as the module.
_KINDS: tuple[tuple[bytes, bytes, type[_Managed] | type[_ManagedVersioned]], ...] = (
    (b"dltensor_versioned", b"used_dltensor_versioned", _ManagedVersioned),
    (b"dltensor", b"used_dltensor", _Managed),
)

_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_is_valid.restype = ctypes.c_int
_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_get_pointer.restype = c_void_p
_set_name = ctypes.pythonapi.PyCapsule_SetName
_set_name.argtypes = [ctypes.py_object, ctypes.c_char_p]
_set_name.restype = ctypes.c_int

_KIND_OF_NUMBER = {0: "int", 1: "uint", 2: "float", 5: "complex"}
_NAMES = {
    (4, 16, 1): "bfloat16",
    (6, 8, 1): "bool",
    (10, 8, 1): "float8_e4m3fn",
    (12, 8, 1): "float8_e5m2",
    (14, 8, 1): "float8_e8m0fnu",
    (17, 4, 2): "float4_e2m1fn_x2",
}


class DlpackTensor:
    """A tensor whose capsule was consumed.

    Attributes:
      pointer: address of the first element, 0 where there is none.
      shape: its dimensions.
      strides: elements between neighbours of each dimension, None if rows follow each other.
      dtype: name of the element type.
      device_type: CPU, CUDA or another number of DLPack's.
      device: number of the device among those of its type.
      read_only: whether the producer forbids writing.
    """

    def __init__(self, capsule: Any) -> None:
        """Consumes a capsule; raises ValueError, and leaves it alone, if that cannot be done."""
        kinds = [kind for kind in _KINDS if _is_valid(capsule, kind[0])]
        if not kinds:
            raise ValueError(f"{capsule!r} is no DLPack capsule, or was consumed before")
        name, used_name, struct = kinds[0]
        managed = struct.from_address(_get_pointer(capsule, name))
        self.read_only = False
        if isinstance(managed, _ManagedVersioned):
            if managed.major != _MAJOR_VERSION:
                raise ValueError(f"DLPack {managed.major}.{managed.minor}, not {_MAJOR_VERSION}.x")
            self.read_only = bool(managed.flags & _READ_ONLY)
        _set_name(capsule, used_name)
        self._managed: _Managed | _ManagedVersioned | None = managed
        self._read(managed.tensor)

    def _read(self, tensor: _Tensor) -> None:
        dimensions = range(tensor.ndim)
        self.pointer = (tensor.data or 0) + (tensor.byte_offset if tensor.data else 0)
        self.shape = tuple(tensor.shape[i] for i in dimensions)
        self.strides = tuple(tensor.strides[i] for i in dimensions) if tensor.strides else None
        self.dtype = _dtype_name(tensor.dtype)
        self.device_type: int = tensor.device_type
        self.device: int = tensor.device_id

    def release(self) -> None:
        """Gives the tensor back to its producer; more calls do nothing."""
        managed, self._managed = self._managed, None
        if managed is not None and managed.deleter:
            _DELETER(managed.deleter)(ctypes.addressof(managed))


def _dtype_name(dtype: _DataType) -> str:
    key = (dtype.code, dtype.bits, dtype.lanes)
    if key in _NAMES:
        return _NAMES[key]
    if dtype.code in _KIND_OF_NUMBER and dtype.lanes == 1:
        return f"{_KIND_OF_NUMBER[dtype.code]}{dtype.bits}"
    return f"DLPack's (code {dtype.code}, {dtype.bits} bits, {dtype.lanes} lanes)"
