"""One call of the library: its stream, its device, and its tensors while they are in use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from . import _frameworks
from ._driver import driver
from ._library import library
from .errors import invalid
from .tensor import TensorView, export

# Makes an uninitialised tensor: shape, dtype's name and number of the CUDA device.
Empty = Callable[[tuple[int, ...], str, int], Any]


def stream_handle(stream: Any) -> int:
    """Returns the cudaStream_t of a stream as a number.

    Args:
      stream: the number itself, or an object with `cuda_stream` (torch), `__cuda_stream__()` (the
        protocol of cuda.core) or `ptr` (CuPy).

    Raises:
      InvalidArgumentError: it is none of these.
    """
    handle = stream
    if not isinstance(stream, int):
        if hasattr(stream, "cuda_stream"):
            handle = stream.cuda_stream
        elif hasattr(stream, "__cuda_stream__"):
            handle = stream.__cuda_stream__()[1]
        elif hasattr(stream, "ptr"):
            handle = stream.ptr
    if isinstance(handle, int) and not isinstance(handle, bool) and handle >= 0:
        return handle
    raise invalid(
        "stream",
        repr(stream),
        "None, a cudaStream_t as an int, or an object with cuda_stream, __cuda_stream__() or ptr",
    )


class Call:
    """Takes a call's tensors and gives them back at the end of the `with` block.

    Attributes:
      stream: handle of the stream.
      device: number of the CUDA device that all tensors are on.
    """

    def __init__(self, stream: Any, like: Any, empty: Empty | None = None) -> None:
        """Loads library and driver, so that their absence is told before anything else.

        Args:
          stream: as the caller gave it; None: the current one of `like`'s framework.
          like: the tensor whose framework makes new ones.
          empty: what makes new ones instead.
        """
        self._library = library()
        self._driver = driver()
        self._like = like
        self._empty = empty
        current = _frameworks.current_stream(like)
        self.stream = (current or 0) if stream is None else stream_handle(stream)
        # Tensors of this framework are ready for the call's stream, which is its own.
        self._in_order = _frameworks.framework_of(type(like)) if current == self.stream else ""
        self.device = -1
        self._first = ""
        self._exports = ExitStack()
        self._awaited: list[int] = []

    def __enter__(self) -> Call:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exports.close()

    def tensor(
        self,
        name: str,
        tensor: Any,
        dtypes: Sequence[str] | None,
        shape: Sequence[int | None] | None,
        layout: str,
        *,
        rows: bool = False,
        output: bool = False,
    ) -> TensorView:
        """Takes a tensor and checks it.

        Args:
          name: of the argument.
          tensor: the argument.
          dtypes: those allowed, None: all.
          shape: the dimensions, None for those that may have any length; None: any shape.
          layout: what the dimensions are, for messages.
          rows: whether there may be gaps between rows.
          output: whether the call writes it.

        Raises:
          InvalidArgumentError: it is not as it should be.
        """
        framework = _frameworks.framework_of(type(tensor))
        in_order = bool(framework) and framework == self._in_order
        found = export(name, tensor, self.stream, in_order)
        self._exports.callback(found.release)
        view = found.view
        if dtypes is not None and view.dtype not in dtypes:
            raise invalid(name, f"dtype {view.dtype}", ", ".join(dtypes))
        _check_shape(name, view, shape, layout)
        if not (view.has_contiguous_rows() if rows else view.is_contiguous()):
            allowed = "contiguous rows" if rows else "row-major without gaps; see contiguous()"
            raise invalid(name, f"strides {view.strides} of shape {view.shape}", allowed)
        if output and view.read_only:
            raise invalid(name, "a read-only tensor", "one that may be written to")
        self._check_device(name, view)
        if found.awaited is not None:
            self._awaited.append(found.awaited)
        return view

    def optional(
        self, name: str, tensor: Any, *arguments: Any, **options: Any
    ) -> TensorView | None:
        """Takes a tensor as tensor() does; None stays None."""
        return None if tensor is None else self.tensor(name, tensor, *arguments, **options)

    def output(
        self, name: str, tensor: Any, dtypes: Sequence[str], shape: tuple[int, ...], layout: str
    ) -> tuple[Any, TensorView]:
        """Takes the caller's output, or makes one of the first of the dtypes.

        Returns:
          the tensor itself and its view.
        """
        given = self.new(name, shape, dtypes[0]) if tensor is None else tensor
        return given, self.tensor(name, given, dtypes, shape, layout, output=True)

    def new(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        """Makes a tensor on the call's device, in the place of the argument `name`."""
        if self._empty is not None:
            return self._empty(shape, dtype, max(self.device, 0))
        return _frameworks.empty(name, self._like, shape, dtype)

    def zero(self, view: TensorView) -> None:
        """Enqueues zeroing a tensor."""
        with self._driver.device(self.device):
            self._driver.zero(view.pointer, view.size * view.dtype_bytes, self.stream)

    def run(self, function: str, *arguments: Any) -> None:
        """Calls a function of the library on the tensors' device; raises what it refuses."""
        with self._driver.device(max(self.device, 0)):
            for awaited in self._awaited:
                self._driver.wait(self.stream, awaited)
            self._awaited.clear()
            self._library.call(function, *arguments)

    def query(self, function: str, *arguments: Any) -> int:
        """Calls a function whose last parameter is a size; returns that."""
        size = ctypes.c_int64() if function.endswith("capacity") else ctypes.c_size_t()
        self.run(function, *arguments, size)
        return int(size.value)

    def _check_device(self, name: str, view: TensorView) -> None:
        if view.device < 0:  # an empty tensor that does not tell
            return
        if self.device < 0:
            self.device, self._first = view.device, name
        elif view.device != self.device:
            raise invalid(
                name, f"a tensor on cuda:{view.device}", f"cuda:{self.device}, as {self._first} is"
            )


def _check_shape(
    name: str, view: TensorView, shape: Sequence[int | None] | None, layout: str
) -> None:
    if shape is None:
        return
    fits = len(view.shape) == len(shape) and all(
        length in (None, given) for length, given in zip(shape, view.shape, strict=True)
    )
    if not fits:
        allowed = ", ".join("any" if length is None else str(length) for length in shape)
        raise invalid(name, f"shape {view.shape}", f"shape ({allowed}), which is {layout}")


def check_alignment(name: str, address: int, alignment: int) -> None:
    """Refuses a pointer that is no multiple of so many bytes.

    Raises:
      InvalidArgumentError: it is none.
    """
    if address % alignment:
        allowed = f"a device pointer aligned to {alignment} bytes"
        raise invalid(name, "a misaligned pointer", allowed)


def pointer(view: TensorView | None) -> int | None:
    """Returns the address of a tensor, None if there is none."""
    return None if view is None else view.pointer
