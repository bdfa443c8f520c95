"""AWQ, as AutoAWQ's "gemm" version stores it.

qweight  int32 [k, n / 8], eight columns of a word in the order 0, 2, 4, 6, 1, 3, 5, 7
qzeros   int32 [groups, n / 8], likewise
scales   float [groups, n]
weight[r, c] = (qweight[r, c] - qzeros[r / group, c]) * scales[r / group, c]
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid
from .matrix import Matrix
from .tensors import FLOATS, Projection


def read(parts: Sequence[Projection], group_size: int | None) -> list[Matrix]:
    """Reads one projection, or gate and up."""
    return [_read(part, group_size) for part in parts]


def _read(part: Projection, group_size: int | None) -> Matrix:
    weights = part.take("qweight", ["int32"], [None, None], "[experts, k, n / 8], packed along n")
    k, words = int(weights.shape[1]), int(weights.shape[2])
    scales = part.take("scales", FLOATS, [None, words * 8], "[experts, groups, n]")
    groups = int(scales.shape[1])
    zeros = part.take("qzeros", ["int32"], [groups, words], "[experts, groups, n / 8]")
    bias = part.optional("bias", FLOATS, [words * 8], "[experts, n]")
    part.done()
    if k % groups != 0 or group_size not in (None, k // groups, *([-1] if groups == 1 else [])):
        raise invalid(
            "group_size", group_size, f"{k / groups:g}, k = {k} / {groups} rows of scales"
        )
    return Matrix(
        "awq",
        weights,
        "kU4",
        -1 if groups == 1 else k // groups,
        scales,
        zero_points=zeros,
        bias=bias,
    )
