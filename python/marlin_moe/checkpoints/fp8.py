"""FP8 (e4m3), as DeepSeek, Qwen, ModelOpt and compressed-tensors store it.

    weight            float8_e4m3fn [n, k]
    weight_scale      float: [], [1]: for all; [n], [n, 1]: for each output column; [n, k / g]: for
                      each group of g rows; [n / 128, k / 128], rounded up: for each block
    weight_scale_inv  the same as blocks; despite its name it multiplies
    weight[c, r] = weight[c, r] * scale of (c, r)

MXFP8 has weight_scale in e8m0, as such or as uint8, [n, k / 32].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import _arrays
from ..errors import invalid
from .matrix import Matrix
from .tensors import FLOATS, Projection

BLOCK = 128
_EXPONENTS = ("float8_e8m0fnu", "uint8")
_MX_GROUP = 32
# Of activations: the layer quantises its own by rows, or not at all.
UNUSED = ("input_scale", "input_zero_point")


def read(parts: Sequence[Projection]) -> list[Matrix]:
    """Reads one projection, or gate and up."""
    return [_read(part) for part in parts]


def _read(part: Projection) -> Matrix:
    weights = part.take("weight", ["float8_e4m3fn"], [None, None], "[experts, n, k]")
    n, k = int(weights.shape[1]), int(weights.shape[2])
    name = part.one_of("weight_scale", "weight_scale_inv")
    exponents = part.dtype(name) in _EXPONENTS
    if exponents:
        scales, group_size = take_exponents(part, name, n, k), _MX_GROUP
    else:
        scales, group_size = spread_scales(part, name, n, k)
    bias = part.optional("bias", FLOATS, [n], "[experts, n]")
    part.drop(*UNUSED)
    part.done()
    return Matrix(
        "rows",
        weights,
        "kFE4M3fn",
        group_size,
        scales,
        columns_first=True,
        s_type="kFE8M0fnu" if exponents else None,
        bias=bias,
    )


def take_exponents(part: Projection, name: str, n: int, k: int) -> Any:
    """Takes e8m0 scales of 32 rows each; returns bytes [experts, n, k / 32].

    Byte b is 2 ** (b - 127); the kernels read up to 2 ** 64.
    """
    if k % _MX_GROUP != 0:
        raise invalid(part.label(name), f"k = {k}", f"k a multiple of {_MX_GROUP}")
    scales = part.take(name, _EXPONENTS, [n, k // _MX_GROUP], "[experts, n, k / 32]")
    most = int(scales.max())
    if most > 127 + 64:
        what = "NaN" if most == 255 else f"2^{most - 127}"
        raise invalid(part.label(name), f"a scale of {what}", "scales up to 2^64")
    return scales


def spread_scales(part: Projection, name: str, n: int, k: int) -> tuple[Any, int]:
    """Takes float scales of any extent.

    Returns:
      floats [experts, n, groups], and the rows of a group, -1 for all.
    """
    layout = (
        f"[experts] or [experts, 1] for all, [experts, n, 1], [experts, n, groups], or "
        f"[experts, n / {BLOCK}, k / {BLOCK}]"
    )
    rank = part.rank(name)
    scales = part.take(name, FLOATS, [None] * min(rank, 2), layout)
    experts = int(scales.shape[0])
    if rank < 2 and (rank == 0 or int(scales.shape[1]) in (1, n)):
        scales = scales.reshape(experts, -1, 1)
    if len(scales.shape) != 3:
        raise invalid(part.label(name), f"shape {tuple(scales.shape)}", layout)
    rows, groups = int(scales.shape[1]), int(scales.shape[2])
    if (rows, groups) == (-(-n // BLOCK), -(-k // BLOCK)) and (groups > 1 or rows > 1):
        return _arrays.repeat(scales, BLOCK, 1)[:, :n], BLOCK if groups > 1 else -1
    if rows == 1 and groups == 1:
        return _arrays.repeat(scales, n, 1), -1
    if rows == n and k % groups == 0:
        return scales, k // groups if groups > 1 else -1
    raise invalid(part.label(name), f"shape {tuple(scales.shape)}", f"{layout}; n = {n}, k = {k}")
