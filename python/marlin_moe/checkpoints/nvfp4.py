"""NVFP4: pairs of e2m1 values, an e4m3 scale for 16 of them along k, and a scale for all.

weight or weight_packed  uint8 [n, k / 2], the low nibble has the even row
weight_scale             float8_e4m3fn [n, k / 16]
weight_scale_2           float32 [], ModelOpt: multiplies
weight_global_scale      float32 [1], compressed-tensors: divides
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .. import _arrays
from ..errors import invalid
from .fp8 import UNUSED
from .matrix import Matrix
from .tensors import FLOATS, Projection

_GROUP = 16
_MULTIPLIES, _DIVIDES = "weight_scale_2", "weight_global_scale"


def read(parts: Sequence[Projection], requantize_scales: bool) -> list[Matrix]:
    """Reads one projection, or gate and up.

    Args:
      parts: the projections.
      requantize_scales: whether gate and up may have different scales for all. The kernels have
        one, so the scales of 16 rows of the smaller are rounded anew, to e4m3.
    """
    matrices = [_read(part) for part in parts]
    globals_ = [matrix.global_scales for matrix in matrices]
    if len(matrices) == 1 or bool((globals_[0] == globals_[1]).all()):
        return matrices
    if not requantize_scales:
        raise invalid(
            "tensors",
            "gate and up with different scales for all",
            "the same one, or requantize_scales = True, which rounds scales of 16 rows anew",
        )
    larger = _larger(*globals_)
    return [_rescaled(matrix, larger) for matrix in matrices]


def _read(part: Projection) -> Matrix:
    name = part.one_of("weight_packed", "weight")
    weights = part.take(name, ["uint8"], [None, None], "[experts, n, k / 2]")
    n, k = int(weights.shape[1]), 2 * int(weights.shape[2])
    if k % _GROUP != 0:
        raise invalid(part.label(name), f"k = {k}", f"k a multiple of {_GROUP}")
    scales = part.take("weight_scale", ["float8_e4m3fn"], [n, k // _GROUP], "[experts, n, k / 16]")
    if int(scales.max()) >= 0x7F:
        raise invalid(part.label("weight_scale"), "a negative scale or NaN", "0 and more")
    global_scales = _take_global(part)
    bias = part.optional("bias", FLOATS, [n], "[experts, n]")
    part.drop("input_global_scale", *UNUSED)
    part.done()
    return Matrix(
        "rows",
        weights,
        "kFE2M1f",
        _GROUP,
        scales,
        columns_first=True,
        s_type="kFE4M3fn",
        global_scales=global_scales,
        bias=bias,
    )


def _take_global(part: Projection) -> Any:
    """Takes the scale for all of each expert; returns what multiplies, float32 [experts]."""
    name = part.one_of(_MULTIPLIES, _DIVIDES)
    rank = part.rank(name)
    given = part.take(name, ["float32"], [1] * min(rank, 1), "[experts] or [experts, 1]")
    scales = given.reshape(-1)
    if not bool(((scales > 0) & (scales < float("inf"))).all()):
        raise invalid(part.label(name), "a scale that is not positive and finite", "others")
    return scales if name == _MULTIPLIES else 1 / scales


def _larger(first: Any, second: Any) -> Any:
    return _arrays.framework("tensors", first).where(first > second, first, second)


def _rescaled(matrix: Matrix, larger: Any) -> Matrix:
    ratio = (matrix.global_scales / larger)[:, None, None]
    scales = _arrays.cast(_arrays.view(matrix.scales, "float8_e4m3fn"), "float32") * ratio
    rounded = _arrays.view(_arrays.cast(scales, "float8_e4m3fn"), "uint8")
    return replace(matrix, scales=rounded, global_scales=larger)
