"""GPTQ, as AutoGPTQ and GPTQModel store it.

    qweight  int32 [k * bits / 32, n], element i of word r is row r * 32 / bits + i
    scales   float [groups, n]
    qzeros   int32 [groups, n * bits / 32], packed along n in plain order
    g_idx    int32 [k], group of each row
    weight[r, c] = (qweight[r, c] - zero[g_idx[r], c]) * scales[g_idx[r], c]

`checkpoint_format` says what qzeros hold: `gptq` (version 1) zero - 1, `gptq_v2` the zero itself.
Version 1 was made by subtracting one from each element of the word as a whole, with borrows, so it
is added likewise here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import invalid
from . import nibbles
from .matrix import Matrix
from .tensors import FLOATS, Projection

_ONES = {4: 0x11111111, 8: 0x01010101}
# Half of the range in each element, as an int32: the zero of symmetric weights.
_HALF = {4: 0x88888888 - (1 << 32), 8: 0x80808080 - (1 << 32)}
_SYMMETRIC_TYPE = {4: "kU4B8", 8: "kU8B128"}
_FORMATS = ("gptq", "gptq_v2")


@dataclass(frozen=True)
class Options:
    """What the quantization_config of a checkpoint says; None: what the tensors say.

    Attributes:
      bits: 4 or 8.
      group_size: rows of a group; -1: all.
      sym: whether zeros are half of the range.
      desc_act: whether rows were sorted before they were grouped.
      checkpoint_format: `gptq` or `gptq_v2`.
    """

    bits: int = 4
    group_size: int | None = None
    sym: bool | None = None
    desc_act: bool | None = None
    checkpoint_format: str = "gptq"


@dataclass(frozen=True)
class RowPacked:
    """Integers packed along the rows, before it is known what their zeros mean.

    Attributes:
      weights: int32 [experts, k * bits / 32, n].
      scales: floats.
      columns_first: whether they are [experts, n, groups] rather than [experts, groups, n].
      zeros: int32 [experts, groups, n * bits / 32] in plain order, the zeros themselves.
      g_idx: int32 [experts, k].
      bias: floats [experts, n].
    """

    weights: Any
    scales: Any
    columns_first: bool
    zeros: Any
    g_idx: Any
    bias: Any


def read(parts: Sequence[Projection], options: Options) -> list[Matrix]:
    """Reads one projection, or gate and up."""
    if options.bits not in _ONES:
        raise invalid("bits", options.bits, "4, 8")
    if options.checkpoint_format not in _FORMATS:
        raise invalid("checkpoint_format", repr(options.checkpoint_format), ", ".join(_FORMATS))
    return matrices([_take(part, options) for part in parts], options)


def matrices(packed: Sequence[RowPacked], options: Options) -> list[Matrix]:
    """Tells symmetric from asymmetric weights, and true act-order from rows in order.

    All projections are of one kind: where one is asymmetric, all are treated so.
    """
    symmetric = all(_symmetric(part, options.bits) for part in packed)
    if options.sym is not None and options.sym != symmetric:
        raise invalid("sym", options.sym, f"{symmetric}: that is what the zero points say")
    if not symmetric and options.bits == 8:
        raise invalid("bits", 8, "4: 8-bit weights with zero points have no kernels")
    return [_matrix(part, options, symmetric) for part in packed]


def _take(part: Projection, options: Options) -> RowPacked:
    bits = options.bits
    weights = part.take(
        "qweight", ["int32"], [None, None], f"[experts, k * {bits} / 32, n], packed along k"
    )
    k, n = int(weights.shape[1]) * 32 // bits, int(weights.shape[2])
    scales = part.take("scales", FLOATS, [None, n], "[experts, groups, n]")
    groups = int(scales.shape[1])
    words = f"[experts, groups, n * {bits} / 32]"
    zeros = part.optional("qzeros", ["int32"], [groups, n * bits // 32], words)
    g_idx = part.optional("g_idx", ["int32"], [k], "[experts, k]")
    bias = part.optional("bias", FLOATS, [n], "[experts, n]")
    part.done()
    if zeros is not None:
        zeros = _plain_zeros(part, zeros, options)
    return RowPacked(weights, scales, False, zeros, g_idx, bias)


def _plain_zeros(part: Projection, stored: Any, options: Options) -> Any:
    """Returns the zeros themselves, and refuses what only the other format explains."""
    first = options.checkpoint_format == "gptq"
    plus_one = stored + _ONES[options.bits]
    zeros, other = (plus_one, stored) if first else (stored, plus_one)
    half = _HALF[options.bits]
    if bool((other == half).all()):
        right = _FORMATS[1 if first else 0]
        raise invalid(
            "checkpoint_format",
            options.checkpoint_format,
            f"{right}: {part.label('qzeros')} are those of symmetric weights in that format",
        )
    return zeros


def _symmetric(part: RowPacked, bits: int) -> bool:
    return part.zeros is None or bool((part.zeros == _HALF[bits]).all())


def _matrix(part: RowPacked, options: Options, symmetric: bool) -> Matrix:
    k = int(part.weights.shape[1]) * 32 // options.bits
    groups = int(part.scales.shape[2 if part.columns_first else 1])
    group_size = _group_size(k, groups, options)
    g_idx = part.g_idx
    if g_idx is not None and _in_order(g_idx, groups):
        g_idx = None
    if options.desc_act is False and g_idx is not None:
        raise invalid("desc_act", False, "True: g_idx is not in order")
    if options.desc_act and part.g_idx is None:
        raise invalid("desc_act", True, "False: there is no g_idx")
    if g_idx is not None:
        _check_groups(g_idx, groups)
        group_size = 0
    if symmetric:
        return Matrix(
            "gptq",
            part.weights,
            _SYMMETRIC_TYPE[options.bits],
            group_size,
            part.scales,
            columns_first=part.columns_first,
            bias=part.bias,
            g_idx=g_idx,
        )
    return _asymmetric(part, group_size, g_idx)


def _asymmetric(part: RowPacked, group_size: int, g_idx: Any) -> Matrix:
    """Packs weights with zero points as AWQ does: they have the same kernels."""
    if g_idx is not None:
        raise invalid("desc_act", True, "False where sym is False: that has no kernels")
    if part.zeros is None:
        raise invalid("tensors", "symmetric weights of one projection", "both alike")
    return Matrix(
        "awq",
        nibbles.rows_to_awq(part.weights),
        "kU4",
        group_size,
        part.scales,
        columns_first=part.columns_first,
        zero_points=nibbles.to_awq_order(part.zeros),
        bias=part.bias,
    )


def _group_size(k: int, groups: int, options: Options) -> int:
    """Returns the rows of a group, -1 if there is one."""
    given = options.group_size
    if groups == 1 and given in (None, -1, k):
        return -1
    if given is None:
        if k % groups != 0:
            raise invalid(
                "group_size", "None", f"the one of the checkpoint: k = {k}, {groups} groups"
            )
        return k // groups
    if given < 1 or -(-k // given) != groups:
        raise invalid(
            "group_size", given, f"{k // groups}, from k = {k} and {groups} rows of scales"
        )
    return given


def _in_order(g_idx: Any, groups: int) -> bool:
    """Whether row r is in group r * groups / k for all r: then g_idx says nothing."""
    experts, k = g_idx.shape
    if k % groups != 0:
        return False
    split = g_idx.reshape(experts, groups, k // groups)
    first = split[:, :, 0]
    return (
        bool((split == split[:, :, :1]).all())
        and bool((first[:, 0] == 0).all())
        and bool((first[:, 1:] == first[:, :-1] + 1).all())
    )


def _check_groups(g_idx: Any, groups: int) -> None:
    """Refuses groups that have no scales: kernels would read past their end."""
    least, most = int(g_idx.min()), int(g_idx.max())
    if least < 0 or most >= groups:
        raise invalid("g_idx", f"groups {least} to {most}", f"0 to {groups - 1}, rows of scales")
