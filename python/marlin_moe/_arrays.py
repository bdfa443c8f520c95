"""What loading does with arrays of any framework: the few operations that have several names.

PyTorch, CuPy and NumPy agree on indexing, arithmetic, reshape(), swapaxes(), stack(), concatenate()
and broadcast_to(); with ml_dtypes, NumPy and CuPy have bfloat16 and the float8 types as well.
"""

from __future__ import annotations

import sys
from typing import Any

from .errors import invalid

_FRAMEWORKS = ("torch", "cupy", "numpy")


def framework(name: str, array: Any) -> Any:
    """Returns the module that an array is of.

    Raises:
      InvalidArgumentError: it is of none that is known.
    """
    root = type(array).__module__.partition(".")[0]
    if root in _FRAMEWORKS and hasattr(array, "dtype"):
        return sys.modules[root]
    kind = type(array)
    raise invalid(
        name,
        "None" if array is None else f"{kind.__module__}.{kind.__qualname__} object",
        "a tensor of PyTorch, or an array of CuPy or NumPy",
    )


def dtype_name(array: Any) -> str:
    """Returns the name of the element type, such as `float8_e4m3fn`."""
    return str(array.dtype).rpartition(".")[2]


def _dtype(array: Any, name: str) -> Any:
    module = framework("tensors", array)
    found = getattr(module, name, None)
    if found is not None:
        return found
    try:
        return module.dtype(name)
    except (AttributeError, TypeError):
        raise invalid(
            "c_type", name, f"a type that {module.__name__} has; NumPy and CuPy need ml_dtypes"
        ) from None


def cast(array: Any, name: str) -> Any:
    """Converts to the element type of this name."""
    dtype = _dtype(array, name)
    return array.to(dtype) if hasattr(array, "to") else array.astype(dtype)


def view(array: Any, name: str) -> Any:
    """Returns the same bits as elements of another type."""
    return array.view(_dtype(array, name))


def contiguous(array: Any) -> Any:
    """Returns an array without gaps."""
    if hasattr(array, "contiguous"):
        return array.contiguous()
    return framework("tensors", array).ascontiguousarray(array)


def concatenate(arrays: list[Any], axis: int) -> Any:
    """Joins arrays along an axis."""
    return framework("tensors", arrays[0]).concatenate(arrays, axis)


def repeat(array: Any, times: int, axis: int) -> Any:
    """Repeats each entry of an axis."""
    shape = list(array.shape)
    wider = [*shape[: axis + 1], times, *shape[axis + 1 :]]
    index = (slice(None),) * (axis + 1) + (None,)
    module = framework("tensors", array)
    shape[axis] *= times
    return module.broadcast_to(array[index], tuple(wider)).reshape(shape)
