"""MXFP4: pairs of e2m1 values, and one e8m0 scale for 32 of them along k.

gpt-oss names its tensors gate_up_proj_blocks and so on; its gate and up projections alternate:

    blocks  uint8 [n, k / 32, 16], the low nibble has the even row
    scales  uint8 [n, k / 32]
    bias    bfloat16 [n]

compressed-tensors and others:

    weight_packed or weight  uint8 [n, k / 2]
    weight_scale             uint8 [n, k / 32]
"""

from __future__ import annotations

from collections.abc import Sequence

from .fp8 import UNUSED, take_exponents
from .matrix import Matrix
from .tensors import FLOATS, Projection

_GROUP = 32


def read(parts: Sequence[Projection]) -> list[Matrix]:
    """Reads one projection, or gate and up."""
    return [_read(part) for part in parts]


def _read(part: Projection) -> Matrix:
    name = part.one_of("blocks", "weight_packed", "weight")
    if name == "blocks":
        blocks = part.take(name, ["uint8"], [None, None, _GROUP // 2], "[experts, n, k / 32, 16]")
        weights = blocks.reshape(blocks.shape[0], blocks.shape[1], -1)
    else:
        weights = part.take(name, ["uint8"], [None, None], "[experts, n, k / 2]")
    n, k = int(weights.shape[1]), 2 * int(weights.shape[2])
    scales = take_exponents(part, "scales" if name == "blocks" else "weight_scale", n, k)
    bias = part.optional("bias", FLOATS, [n], "[experts, n]")
    part.drop(*UNUSED)
    part.done()
    return Matrix(
        "rows",
        weights,
        "kFE2M1f",
        _GROUP,
        scales,
        columns_first=True,
        s_type="kFE8M0fnu",
        bias=bias,
    )
