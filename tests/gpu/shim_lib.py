"""What the ctypes bindings of the test libraries share (shim_support.h on the other side)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_FIELD_TYPES = {
    "int32": ctypes.c_int32,
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "pointer": ctypes.c_void_p,
}
MESSAGE_BYTES = 1024


@dataclass(frozen=True)
class Status:
    """Outcome of a call: the status code's name (`ok`, `invalid_argument`, ...) and the message."""

    name: str
    message: str

    @property
    def ok(self) -> bool:
        return self.name == "ok"


class ShimError(RuntimeError):
    """A call that had to succeed did not."""


def make_struct(name: str, fields: str, size: int) -> type[ctypes.Structure]:
    """Builds a struct from "type name;..." and checks its size against the library's."""
    pairs = [entry.split() for entry in fields.split(";") if entry]
    struct = type(
        name,
        (ctypes.Structure,),
        {"_fields_": [(field, _FIELD_TYPES[kind]) for kind, field in pairs]},
    )
    if ctypes.sizeof(struct) != size:
        raise ShimError(f"{name} has {ctypes.sizeof(struct)} bytes, the library's has {size}")
    return struct
