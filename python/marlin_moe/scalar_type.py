"""The library's scalar types, and the tensor dtypes that hold them.

A dtype is a name that all frameworks share: `bfloat16`, `int32`, `float8_e4m3fn`. What a framework
has no dtype for, it can hold in plain integers of the same width: `uint8` for one-byte types,
`int16` or `uint16` for two-byte ones. The type then has to be named, because it cannot be told from
the tensor.
"""

from __future__ import annotations

import enum

from .errors import invalid


class ScalarType(enum.IntEnum):
    """Element types; the numbers are those of `marlin_moe_type` in marlin_moe.h."""

    FLOAT16 = 1
    BFLOAT16 = 2
    S8 = 3
    FE4M3FN = 4
    U4 = 5
    U4B8 = 6
    U8B128 = 7
    FE2M1F = 8
    FE8M0FNU = 9

    @property
    def bits(self) -> int:
        """Bits of an element."""
        if self in _FOUR_BITS:
            return 4
        return 16 if self in SIXTEEN_BITS else 8

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Dtypes of tensors whose elements are of this type, its own first."""
        own = (_DTYPES[self],) if self in _DTYPES else ()
        if self is ScalarType.S8:
            return own
        return own + (("int16", "uint16", "bits16") if self.bits == 16 else ("uint8", "bits8"))


_FOUR_BITS = frozenset({ScalarType.U4, ScalarType.U4B8, ScalarType.FE2M1F})
SIXTEEN_BITS = (ScalarType.FLOAT16, ScalarType.BFLOAT16)

_DTYPES = {
    ScalarType.FLOAT16: "float16",
    ScalarType.BFLOAT16: "bfloat16",
    ScalarType.S8: "int8",
    ScalarType.FE4M3FN: "float8_e4m3fn",
    ScalarType.FE8M0FNU: "float8_e8m0fnu",
}
_BY_DTYPE = {dtype: scalar_type for scalar_type, dtype in _DTYPES.items()}
_BY_NAME = {scalar_type.name: scalar_type for scalar_type in ScalarType}


def to_scalar_type(argument: str, given: ScalarType | str) -> ScalarType:
    """Returns the type that a ScalarType, or a name such as `kU4B8` or `u4b8`, stands for."""
    if isinstance(given, ScalarType):
        return given
    if isinstance(given, str):
        found = _BY_NAME.get(given.removeprefix("k").upper())
        if found is not None:
            return found
    raise invalid(argument, repr(given), "a ScalarType or its name: " + ", ".join(_BY_NAME))


def type_of_tensor(
    argument: str, given: ScalarType | str | None, tensor: str, dtype: str
) -> ScalarType:
    """Returns the type named, or the one that the tensor's dtype is.

    Args:
      argument: name of the argument that holds the type.
      given: the type, None for the tensor's own.
      tensor: name of the argument that holds the tensor.
      dtype: dtype of the tensor.
    """
    if given is not None:
        return to_scalar_type(argument, given)
    if dtype in _BY_DTYPE:
        return _BY_DTYPE[dtype]
    raise invalid(
        tensor,
        f"dtype {dtype}",
        ", ".join(_BY_DTYPE) + f", or integers of the same width with {argument} given",
    )
