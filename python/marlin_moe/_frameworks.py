"""What a call takes from the framework of its first tensor: its current stream, and new tensors.

Frameworks are never imported: who hands over a tensor of torch has imported torch. CuPy and torch
are known; with others (JAX, whose arrays are not to be written to) callers give outputs, or a
function that makes them, and a stream.
"""

from __future__ import annotations

import sys
from typing import Any

from .errors import invalid


def framework_of(kind: type) -> str:
    """Returns `torch` or `cupy`, if a class of tensors comes from there, else an empty name."""
    for base in kind.__mro__:
        name = base.__module__.partition(".")[0]
        if name in ("torch", "cupy"):
            return name
    return ""


def current_stream(tensor: Any) -> int | None:
    """Returns the handle of the stream that the tensor's framework uses now; None: unknown."""
    name = framework_of(type(tensor))
    module: Any = sys.modules.get(name)
    if name == "torch" and module and tensor.is_cuda:
        return int(module.cuda.current_stream(tensor.device).cuda_stream)
    if name == "cupy" and module:
        with module.cuda.Device(tensor.device.id):
            return int(module.cuda.get_current_stream().ptr)
    return None


def empty(argument: str, like: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Returns a new tensor of the framework and on the device of another one.

    Args:
      argument: name of the argument that the caller could have given instead.
      like: a tensor on the right device.
      shape: the new one's dimensions.
      dtype: name of its element type.

    Raises:
      InvalidArgumentError: the framework is unknown, or does not have the type.
    """
    name = framework_of(type(like))
    module: Any = sys.modules.get(name)
    try:
        if name == "torch" and module:
            return like.new_empty(shape, dtype=getattr(module, dtype), requires_grad=False)
        if name == "cupy" and module:
            with module.cuda.Device(like.device.id):
                return module.empty(shape, dtype=dtype)
    except (AttributeError, TypeError) as error:
        raise invalid(argument, "None", f"a tensor, as {name} makes none of {dtype}") from error
    raise invalid(
        argument,
        "None",
        f"a tensor of shape {shape} and dtype {dtype}, or empty=, a function that makes one: "
        f"{type(like).__module__}.{type(like).__name__} is of no framework known here",
    )
