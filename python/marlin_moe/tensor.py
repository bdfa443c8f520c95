"""Tensors of any framework, seen through the protocols they speak.

DLPack (`__dlpack__`, `__dlpack_device__`) is asked first, then `__cuda_array_interface__`. No
framework is imported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from . import _dlpack
from ._driver import driver
from .errors import InvalidArgumentError, invalid

# DLPack's numbers in the place of a stream's handle.
_LEGACY_STREAM = 1
_NO_WAIT = -1


class SupportsDLPack(Protocol):
    """A tensor that exports itself as a DLPack capsule."""

    def __dlpack__(self, *, stream: Any = None) -> Any:
        """Returns a capsule whose memory is ready on `stream`."""

    def __dlpack_device__(self) -> tuple[Any, int]:
        """Returns the type and the number of the device."""


class SupportsCudaArrayInterface(Protocol):
    """A tensor that describes itself in a dictionary."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Shape, typestr, data, strides, version and stream."""


@dataclass(frozen=True)
class TensorView:
    """Device memory with a shape and a type; calls take it wherever they take a tensor.

    It owns nothing: the memory has to outlive the work that uses it.

    Attributes:
      pointer: address of the first element on the device.
      shape: its dimensions.
      dtype: name of the element type, such as `bfloat16` or `int32`.
      device: number of the CUDA device.
      strides: elements between neighbours of each dimension; None: row-major without gaps.
      read_only: whether it may only be an input.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    device: int
    strides: tuple[int, ...] | None = None
    read_only: bool = False

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def dtype_bytes(self) -> int:
        """Bytes of an element."""
        bits = re.search(r"(\d+)", self.dtype)
        return 1 if bits is None or "x2" in self.dtype else (int(bits.group()) + 7) // 8

    def is_contiguous(self) -> bool:
        """Whether elements follow each other, rows first, without gaps."""
        return self._gapless(self.shape, self.strides)

    def has_contiguous_rows(self) -> bool:
        """Whether elements of the last dimension follow each other."""
        if self.strides is None:
            return True
        return self._gapless(self.shape[-1:], self.strides[-1:])

    @staticmethod
    def _gapless(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
        if strides is None or 0 in shape:
            return True
        expected = 1
        for length, stride in zip(reversed(shape), reversed(strides), strict=True):
            if length != 1 and stride != expected:
                return False
            expected *= length
        return True

    def row_stride(self) -> int:
        """Elements between the rows of a matrix."""
        rows, columns = self.shape
        # What is in the stride of a single row is the producer's whim.
        return columns if self.strides is None or rows <= 1 else self.strides[0]


Tensor = SupportsDLPack | SupportsCudaArrayInterface | TensorView


@dataclass(frozen=True)
class Export:
    """A tensor's view while a call uses it.

    Attributes:
      view: the memory.
      release: gives it back to the framework; to be called once.
      awaited: handle of a stream that the call's stream has to wait for, None if there is none.
    """

    view: TensorView
    release: Callable[[], None]
    awaited: int | None = None


def export(name: str, tensor: Any, stream: int, in_order: bool) -> Export:
    """Returns what a tensor tells about itself.

    Args:
      name: of the argument, for error messages.
      tensor: the argument.
      stream: handle of the stream that will use the memory.
      in_order: whether that is the stream that the tensor's framework uses.

    Raises:
      InvalidArgumentError: it is no tensor, is on another kind of device, or is not exported.
    """
    if isinstance(tensor, TensorView):
        return Export(tensor, _nothing)
    if hasattr(tensor, "__dlpack__") and hasattr(tensor, "__dlpack_device__"):
        return _from_dlpack(name, tensor, _NO_WAIT if in_order else stream or _LEGACY_STREAM)
    interface = getattr(tensor, "__cuda_array_interface__", None)
    if isinstance(interface, dict):
        return _from_interface(name, interface, stream)
    raise invalid(
        name,
        f"{_type_name(tensor)} object",
        "a tensor on a CUDA device with __dlpack__() or __cuda_array_interface__",
    )


def _nothing() -> None:
    pass


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    )


def _from_dlpack(name: str, tensor: Any, stream: int) -> Export:
    device_type, device = map(int, tensor.__dlpack_device__())
    if device_type not in (_dlpack.CUDA, _dlpack.CUDA_MANAGED):
        known = {_dlpack.CPU: "a tensor on the CPU", _dlpack.CUDA_HOST: "a tensor in pinned memory"}
        given = known.get(device_type, f"a tensor on DLPack device type {device_type}")
        raise invalid(name, given, "a tensor on a CUDA device")
    with driver().device(device):  # torch exports from the current device only
        try:
            found = _dlpack.DlpackTensor(_capsule(tensor, stream))
        except _EXPORT_ERRORS as error:
            raise InvalidArgumentError(
                f"{name} = {_type_name(tensor)} object is not allowed: it does not export its "
                f"memory ({error}); allowed: a tensor that does. A type that DLPack does not know "
                "can be viewed as integers of the same width"
            ) from error
    view = TensorView(
        found.pointer, found.shape, found.dtype, found.device, found.strides, found.read_only
    )
    return Export(view, found.release)


_EXPORT_ERRORS = (
    AssertionError,
    BufferError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _capsule(tensor: Any, stream: int) -> Any:
    """Exports a tensor for a stream of DLPack's, which waits for what the producer still does."""
    try:
        return tensor.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # from before DLPack 1.0
        return tensor.__dlpack__(stream=stream)


_INTERFACE_KINDS = {"f": "float", "i": "int", "u": "uint", "V": "bits", "b": "bool", "c": "complex"}


def _from_interface(name: str, interface: dict[str, Any], stream: int) -> Export:
    pointer, read_only = interface["data"]
    shape = tuple(int(length) for length in interface["shape"])
    kind, item_bytes = _parse_typestr(name, interface["typestr"])
    byte_strides = interface.get("strides")
    strides = None
    if byte_strides is not None:
        if any(stride % item_bytes for stride in byte_strides):
            raise invalid(name, f"strides {tuple(byte_strides)} in bytes", "whole elements")
        strides = tuple(stride // item_bytes for stride in byte_strides)
    dtype = "bool" if kind == "b" else f"{_INTERFACE_KINDS[kind]}{8 * item_bytes}"
    device = driver().device_of(pointer) if pointer else -1
    awaited = interface.get("stream")
    view = TensorView(pointer or 0, shape, dtype, device, strides, bool(read_only))
    return Export(
        view, _nothing, None if awaited in (None, stream or _LEGACY_STREAM) else int(awaited)
    )


def _parse_typestr(name: str, typestr: str) -> tuple[str, int]:
    """Returns the kind and the bytes of an element, of a typestr such as `<f2`."""
    found = re.fullmatch(r"[<|=]([a-zA-Z])(\d+)", typestr)
    if found is None or found[1] not in _INTERFACE_KINDS or int(found[2]) == 0:
        raise invalid(name, f"typestr {typestr!r}", "little-endian numbers, such as '<f2'")
    return found[1], int(found[2])
