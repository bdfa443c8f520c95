"""The library's scalar types.

A tensor's element type tells its scalar type. What a framework has no element type for, it can hold
in plain integers of the same width: `uint8` for one-byte types, `int16` or `uint16` for two-byte
ones. The type then has to be named, because it cannot be told from the tensor.
"""

from __future__ import annotations

import enum


class ScalarType(str, enum.Enum):
    """Element types, by the names of the C++ constants; calls take the names as well."""

    FLOAT16 = "kFloat16"
    BFLOAT16 = "kBFloat16"
    S8 = "kS8"
    FE4M3FN = "kFE4M3fn"
    U4 = "kU4"
    U4B8 = "kU4B8"
    U8B128 = "kU8B128"
    FE2M1F = "kFE2M1f"
    FE8M0FNU = "kFE8M0fnu"
