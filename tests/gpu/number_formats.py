"""What the codes of the quantised types mean: value tables, and how to look codes up in them.

The tables are computed from the formats' definitions, so that they also check what a library's own
conversions give.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


def _float_values(exponent_bits: int, mantissa_bits: int, bias: int) -> np.ndarray:
    """Returns the values of all codes (sign, exponent, mantissa) of a format with subnormals."""
    codes = np.arange(1 << (1 + exponent_bits + mantissa_bits))
    mantissa = codes & ((1 << mantissa_bits) - 1)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    sign = np.where(codes >> (exponent_bits + mantissa_bits), -1.0, 1.0)
    significand = np.where(exponent > 0, 1 << mantissa_bits, 0) + mantissa
    return sign * np.ldexp(significand, np.maximum(exponent, 1) - bias - mantissa_bits)


def _e4m3_values() -> np.ndarray:
    values = _float_values(4, 3, 7)
    values[[0x7F, 0xFF]] = np.nan
    return values


def _e8m0_values() -> np.ndarray:
    values = np.ldexp(1.0, np.arange(256) - 127)
    values[255] = np.nan
    return values


# Values by code, float64. kU4's are before the zero point is taken away.
VALUES = {
    "kU4": np.arange(16.0),
    "kU4B8": np.arange(16.0) - 8,
    "kU8B128": np.arange(256.0) - 128,
    "kS8": np.arange(256).astype(np.int8).astype(np.float64),
    "kFE4M3fn": _e4m3_values(),
    "kFE2M1f": _float_values(2, 1, 1),
    "kFE8M0fnu": _e8m0_values(),
}
# The code of zero. kU4's stands for zero where the zero point is that.
ZERO_CODES = {
    name: int(np.flatnonzero(values == 0)[0]) for name, values in VALUES.items() if 0 in values
}
# The code of the largest magnitude.
EXTREME_CODES = {
    "kU4": 15,
    "kU4B8": 0,
    "kU8B128": 0,
    "kS8": 127,
    "kFE4M3fn": 0xFE,
    "kFE2M1f": 0xF,
}


def decode(codes: Any, type_name: str) -> Any:
    """Returns the float64 values of uint8 codes, a NumPy array or a PyTorch tensor."""
    if isinstance(codes, np.ndarray):
        return VALUES[type_name][codes]
    return _torch_values(type_name, codes.device)[codes.int()]


@functools.lru_cache(maxsize=32)
def _torch_values(type_name: str, device: Any) -> Any:
    import torch

    return torch.from_numpy(VALUES[type_name]).to(device)
