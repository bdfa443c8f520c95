"""Quantised experts as checkpoints of each format have them, with the weights that they stand for.

A writer draws codes and scales, packs them as the format says, and multiplies them out in float64.
Nothing here comes from the package that reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
_AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)
# Root mean square of the values that random codes have.
_SIZE = {"int4": 4.6, "int8": 74.0, "e2m1": 2.9, "e4m3": 112.0}


@dataclass(frozen=True)
class Shape:
    """Experts, rows, output columns, and rows that share a scale (-1: all)."""

    experts: int
    k: int
    n: int
    group: int

    @property
    def groups(self) -> int:
        return 1 if self.group == -1 else -(-self.k // self.group)

    @property
    def row_groups(self) -> np.ndarray:
        return np.arange(self.k) // (self.k if self.group == -1 else self.group)


@dataclass(frozen=True)
class Written:
    """Tensors of a projection and what they mean.

    Attributes:
      tensors: by the names of the checkpoint, each [experts, ...].
      weights: float64 [experts, k, n].
      bias: float64 [experts, n]; None: there is none.
    """

    tensors: dict[str, np.ndarray]
    weights: np.ndarray
    bias: np.ndarray | None = None
    options: dict[str, Any] = field(default_factory=dict)


def pack(codes: np.ndarray, bits: int, axis: int, order: tuple[int, ...] | None = None) -> Any:
    """Packs codes along an axis into int32, element i of a word at bit i * bits."""
    per_word = 32 // bits
    moved = np.moveaxis(codes.astype(np.uint32), axis, -1)
    words = np.zeros((*moved.shape[:-1], moved.shape[-1] // per_word), np.uint32)
    for place, element in enumerate(order or range(per_word)):
        words |= moved[..., element::per_word] << np.uint32(bits * place)
    return np.ascontiguousarray(np.moveaxis(words, -1, axis)).view(np.int32)


def float_scales(rng: np.random.Generator, shape: Shape, size: str, dtype: Any) -> np.ndarray:
    """Draws scales [experts, groups, n] that keep the size of what weights are multiplied with."""
    drawn = (rng.random((shape.experts, shape.groups, shape.n)) + 0.5) / shape.k**0.5
    return (drawn / _SIZE[size]).astype(dtype)


def _spread(values: np.ndarray, row_groups: np.ndarray) -> np.ndarray:
    """Gives each row what its group has: [experts, groups, n] to [experts, k, n]."""
    if row_groups.ndim == 1:
        return values[:, row_groups]
    return np.take_along_axis(values, row_groups[:, :, None], axis=1)


def _bias(rng: np.random.Generator, shape: Shape, wanted: bool) -> np.ndarray | None:
    drawn = rng.standard_normal((shape.experts, shape.n)).astype(ml_dtypes.bfloat16)
    return drawn if wanted else None


def _with_bias(tensors: dict[str, Any], weights: Any, bias: Any, **options: Any) -> Written:
    if bias is None:
        return Written(tensors, weights, None, options)
    return Written({**tensors, "bias": bias}, weights, bias.astype(np.float64), options)


def gptq(
    rng: np.random.Generator,
    shape: Shape,
    *,
    bits: int = 4,
    sym: bool = True,
    act_order: bool = False,
    checkpoint_format: str = "gptq",
    row_groups: np.ndarray | None = None,
    bias: bool = False,
) -> Written:
    """Writes GPTQ weights; row_groups: g_idx [experts, k], such as another projection's."""
    codes = rng.integers(0, 1 << bits, (shape.experts, shape.k, shape.n))
    scales = float_scales(rng, shape, f"int{bits}", np.float16)
    zeros = np.full(scales.shape, 1 << (bits - 1))
    if not sym:
        zeros = rng.integers(1, 1 << bits, scales.shape)
    if row_groups is None:
        row_groups = np.broadcast_to(shape.row_groups, (shape.experts, shape.k))
        row_groups = rng.permuted(row_groups, axis=1) if act_order else row_groups
    stored = zeros - (1 if checkpoint_format == "gptq" else 0)
    tensors = {
        "qweight": pack(codes, bits, 1),
        "scales": scales,
        "qzeros": pack(stored, bits, 2),
        "g_idx": row_groups.astype(np.int32, order="C"),
    }
    weights = (codes - _spread(zeros, row_groups)) * _spread(scales.astype(float), row_groups)
    return _with_bias(tensors, weights, _bias(rng, shape, bias))


def awq(rng: np.random.Generator, shape: Shape, *, bias: bool = False) -> Written:
    codes = rng.integers(0, 16, (shape.experts, shape.k, shape.n))
    scales = float_scales(rng, shape, "int4", np.float16)
    zeros = rng.integers(0, 16, scales.shape)
    tensors = {
        "qweight": pack(codes, 4, 2, _AWQ_COLUMNS),
        "qzeros": pack(zeros, 4, 2, _AWQ_COLUMNS),
        "scales": scales,
    }
    weights = (codes - _spread(zeros, shape.row_groups)) * _spread(
        scales.astype(float), shape.row_groups
    )
    return _with_bias(tensors, weights, _bias(rng, shape, bias))


def _e4m3_codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    codes = rng.integers(0, 256, shape).astype(np.uint8)
    return np.where(codes & 0x7F == 0x7F, 0x55, codes).astype(np.uint8)  # no NaN


def fp8(
    rng: np.random.Generator,
    shape: Shape,
    *,
    extent: str,
    scale_name: str = "weight_scale",
    scale_dtype: Any = np.float32,
    bias: bool = False,
) -> Written:
    """Writes e4m3 weights; extent: tensor, channel, group, block, or exponents (MXFP8)."""
    codes = _e4m3_codes(rng, shape.experts, shape.n, shape.k)
    rows, columns = {
        "tensor": (1, 1),
        "channel": (shape.n, 1),
        "group": (shape.n, shape.groups),
        "block": (-(-shape.n // 128), -(-shape.k // 128)),
        "exponents": (shape.n, shape.k // 32),
    }[extent]
    size = (1 / (_SIZE["e4m3"] * shape.k**0.5)) * (0.5 + rng.random((shape.experts, rows, columns)))
    if extent == "exponents":
        stored = np.round(np.log2(size) + 127).astype(np.uint8)
        values = np.exp2(stored.astype(float) - 127)
    else:
        stored = size.astype(scale_dtype)
        values = stored.astype(float)
    row_span = {"tensor": shape.n, "block": 128}.get(extent, 1)
    column_span = {"group": shape.group, "block": 128, "exponents": 32}.get(extent, shape.k)
    of_element = values[:, np.arange(shape.n) // row_span][:, :, np.arange(shape.k) // column_span]
    weights = codes.view(ml_dtypes.float8_e4m3fn).astype(float) * of_element
    if extent == "tensor":
        stored = stored[:, 0, 0]
    tensors = {"weight": codes.view(ml_dtypes.float8_e4m3fn), scale_name: stored}
    return _with_bias(tensors, weights.swapaxes(1, 2), _bias(rng, shape, bias))


def _e2m1_rows(rng: np.random.Generator, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Returns bytes [experts, n, k / 2] and values [experts, n, k]."""
    codes = rng.integers(0, 16, (shape.experts, shape.n, shape.k)).astype(np.uint8)
    return codes[..., 0::2] | codes[..., 1::2] << 4, E2M1[codes]


def mxfp4(
    rng: np.random.Generator, shape: Shape, *, blocks: bool = True, bias: bool = True
) -> Written:
    """Writes MXFP4 weights with the names of gpt-oss, or of compressed-tensors."""
    packed, values = _e2m1_rows(rng, shape)
    base = 127 + round(np.log2(1 / (_SIZE["e2m1"] * shape.k**0.5)))
    scales = (base + rng.integers(-2, 3, (shape.experts, shape.n, shape.k // 32))).astype(np.uint8)
    weights = values * np.exp2(scales.astype(float) - 127).repeat(32, axis=2)
    if blocks:
        packed = packed.reshape(shape.experts, shape.n, shape.k // 32, 16)
        tensors = {"blocks": packed, "scales": scales}
    else:
        tensors = {"weight_packed": packed, "weight_scale": scales}
    return _with_bias(tensors, weights.swapaxes(1, 2), _bias(rng, shape, bias))


def nvfp4(
    rng: np.random.Generator,
    shape: Shape,
    *,
    divides: bool,
    global_scales: np.ndarray | None = None,
    bias: bool = False,
) -> Written:
    """Writes NVFP4 weights of ModelOpt, or, where the scale for all divides, of compressed-tensors.

    global_scales: float32 [experts], what multiplies; powers of two where it divides, so that the
    reciprocal is exact.
    """
    packed, values = _e2m1_rows(rng, shape)
    scales = rng.integers(0x30, 0x78, (shape.experts, shape.n, shape.k // 16)).astype(np.uint8)
    of_block = scales.view(ml_dtypes.float8_e4m3fn).astype(float)
    if global_scales is None:
        size = 1 / (_SIZE["e2m1"] * 40 * shape.k**0.5)
        global_scales = np.exp2(np.round(np.log2(size)) + rng.integers(-1, 2, shape.experts))
        global_scales = global_scales.astype(np.float32)
    weights = values * of_block.repeat(16, axis=2) * global_scales.astype(float)[:, None, None]
    tensors: dict[str, np.ndarray] = {"weight_scale": scales.view(ml_dtypes.float8_e4m3fn)}
    if divides:
        tensors |= {"weight_packed": packed, "weight_global_scale": (1 / global_scales)[:, None]}
        tensors["input_global_scale"] = np.ones((shape.experts, 1), np.float32)
    else:
        tensors |= {"weight": packed, "weight_scale_2": global_scales}
        tensors["input_scale"] = np.ones(shape.experts, np.float32)
    return _with_bias(tensors, weights.swapaxes(1, 2), _bias(rng, shape, bias))


def packed_integers(
    rng: np.random.Generator,
    shape: Shape,
    *,
    bits: int = 4,
    sym: bool = True,
    act_order: bool = False,
) -> Written:
    """Writes integers as compressed-tensors packs them: along k, with half of the range added."""
    half = 1 << (bits - 1)
    signed = rng.integers(-half, half, (shape.experts, shape.n, shape.k))
    scales = float_scales(rng, shape, f"int{bits}", ml_dtypes.bfloat16).swapaxes(1, 2)
    zeros = np.zeros(scales.shape, int) if sym else rng.integers(-half, half, scales.shape)
    row_groups = np.broadcast_to(shape.row_groups, (shape.experts, shape.k))
    if act_order:
        row_groups = rng.permuted(row_groups, axis=1)
    tensors = {
        "weight_packed": pack(signed + half, bits, 2),
        "weight_scale": np.ascontiguousarray(scales),
        "weight_shape": np.tile(np.array([shape.n, shape.k], np.int64), (shape.experts, 1)),
    }
    if not sym:
        tensors["weight_zero_point"] = pack(zeros + half, bits, 1)
    if act_order:
        tensors["weight_g_idx"] = row_groups.astype(np.int32, order="C")
    of_row = _spread(scales.astype(float).swapaxes(1, 2), row_groups)
    weights = (signed.swapaxes(1, 2) - _spread(zeros.swapaxes(1, 2), row_groups)) * of_row
    scheme = {
        "num_bits": bits,
        "type": "int",
        "symmetric": sym,
        "strategy": "channel" if shape.group == -1 else "group",
        "group_size": None if shape.group == -1 else shape.group,
    }
    return Written(tensors, weights, None, {"weights": scheme})


def int8_bytes(rng: np.random.Generator, shape: Shape) -> Written:
    """Writes int8 weights with a scale for each output column, as compressed-tensors does."""
    codes = rng.integers(-128, 128, (shape.experts, shape.n, shape.k)).astype(np.int8)
    scales = float_scales(rng, shape, "int8", ml_dtypes.bfloat16).swapaxes(1, 2)
    weights = codes.astype(float) * scales.astype(float)
    scheme = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    tensors = {"weight": codes, "weight_scale": np.ascontiguousarray(scales)}
    return Written(tensors, weights.swapaxes(1, 2), None, {"weights": scheme})
