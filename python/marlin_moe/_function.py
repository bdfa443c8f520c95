"""Calls of the library's functions, and what they need to know of the caller's framework.

tvm-ffi knows the current stream and the allocator of frameworks that offer DLPack's exchange
interface for C, as PyTorch does. CuPy is asked for both here. Others have the legacy default
stream, and give the outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ._library import function
from .errors import MarlinMoeError, invalid


class Function:
    """A function of the library whose first argument decides device, stream and framework."""

    def __init__(self, called: Any, *arguments: str) -> None:
        """Names the arguments.

        Args:
          called: the function, or its name in the library, which the first call loads.
          arguments: their names, for messages.
        """
        self._name = self._called = called
        self._traced = of_jax(called)
        self._arguments = arguments

    def __call__(self, *given: Any) -> Any:
        """Calls it.

        Raises:
          MarlinMoeError: an argument is refused, or the call failed.
        """
        first = given[0]
        exchanges = hasattr(type(first), "__dlpack_c_exchange_api__")
        if self._traced or (not exchanges and of_jax(first)):
            from . import _jax

            return _jax.call(self._name, self._arguments, given)
        if isinstance(self._called, str):
            self._called = function(self._called)
        if getattr(first, "requires_grad", False):
            _check_gradient(self._arguments[0])
        try:
            if exchanges:
                return self._called(*given)
            with _framework(first) as convert:
                return convert(self._called(*given))
        except MarlinMoeError:
            raise
        except Exception as error:
            raise self._explained(given, error) from error

    def _explained(self, given: tuple[Any, ...], error: Exception) -> Exception:
        """Returns which argument tvm-ffi could not take; the error itself if it took all."""
        import tvm_ffi

        for name, value in zip(self._arguments, given, strict=True):
            try:
                if hasattr(type(value), "__dlpack__"):
                    tvm_ffi.from_dlpack(value)
                else:
                    tvm_ffi.convert(value)
            except Exception as cause:
                return invalid(
                    name,
                    f"{_type_name(value)} object",
                    f"what exports its memory by DLPack; this does not ({cause}). A type that "
                    "DLPack does not know can be viewed as integers of the same width",
                )
        return error


def _root(value: object) -> str:
    """Returns the package that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def of_jax(value: object) -> bool:
    """Whether a value is an array of JAX, or made of some."""
    return _root(value) in ("jax", "jaxlib") or type(value).__module__ == "marlin_moe._jax"


def _check_gradient(name: str) -> None:
    """Refuses a tensor of torch whose gradient the call would lose."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.is_grad_enabled():
        raise invalid(
            name,
            "a tensor that requires a gradient",
            "one that does not, or a call under torch.no_grad(): these functions have no gradient",
        )


@contextmanager
def _framework(like: Any) -> Iterator[Any]:
    """Tells tvm-ffi the stream and the allocator of a tensor's framework.

    Yields:
      what turns results into its tensors.
    """
    cupy: Any = sys.modules.get("cupy") if _root(like) == "cupy" else None
    if cupy is None:
        yield lambda result: result
        return
    import tvm_ffi

    def empty(shape: Any, dtype: str, device: int) -> Any:
        with cupy.cuda.Device(device):
            return cupy.empty(tuple(shape), dtype=dtype)

    def convert(result: Any) -> Any:
        if isinstance(result, tvm_ffi.Tensor):
            return cupy.from_dlpack(result)
        return [convert(part) for part in result] if isinstance(result, tvm_ffi.Array) else result

    set_empty = function("set_empty")
    with cupy.cuda.Device(like.device.id):
        stream = cupy.cuda.get_current_stream().ptr
    with tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", like.device.id), stream):
        set_empty(empty)
        try:
            yield convert
        finally:
            set_empty(None)


def parts(name: str, given: Any, kind: Any) -> Any:
    """Returns a named tuple of results that the caller gave, or one of Nones.

    Raises:
      InvalidArgumentError: it is of another kind.
    """
    if given is None:
        return kind(*[None] * len(kind._fields))
    if isinstance(given, kind):
        return given
    raise invalid(name, f"{_type_name(given)} object", f"None or {_kind(kind)}")


def needed(name: str, given: Any, kind: type) -> Any:
    """Returns an argument that has to be of a kind.

    Raises:
      InvalidArgumentError: it is not.
    """
    if isinstance(given, kind):
        return given
    raise invalid(name, f"{_type_name(given)} object", _kind(kind))


def merged(given: Iterable[Any], made: Iterable[Any]) -> list[Any]:
    """Returns what was made, and where there is none, what was given."""
    return [old if new is None else new for old, new in zip(given, made, strict=True)]


def _kind(kind: type) -> str:
    return f"a marlin_moe.{kind.__name__}"


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    )
