"""compressed-tensors, whose config.json describes the weights of each group of layers.

    weight_packed      int32 [n, k * bits / 32], integers plus half of their range, packed along k
    weight             int8 [n, k], or float8_e4m3fn [n, k]
    weight_scale       float [1], [n, 1], [n, groups], or in blocks
    weight_zero_point  int32 [n * bits / 32, groups], packed along n, plus half of the range
    weight_g_idx       int32 [k], group of each row
    weight_shape       int64 [2], n and k

Four-bit floats are those of mxfp4 and nvfp4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import _arrays
from ..errors import invalid
from . import fp8, gptq, mxfp4, nvfp4
from .matrix import Matrix
from .tensors import FLOATS, Projection


def read(parts: Sequence[Projection], weights: Any, requantize_scales: bool) -> list[Matrix]:
    """Reads one projection, or gate and up.

    Args:
      parts: the projections.
      weights: what the configuration says of them: config_groups.group_0.weights.
      requantize_scales: see nvfp4.
    """
    if not isinstance(weights, Mapping):
        raise invalid(
            "weights",
            f"{type(weights).__name__} object",
            "a mapping, such as the config_groups.group_0.weights of quantization_config",
        )
    bits, kind = weights.get("num_bits"), weights.get("type", "int")
    if kind == "int" and bits in (4, 8):
        return _read_integers(parts, weights)
    group_size = weights.get("group_size")
    if (kind, bits) == ("float", 8):
        return _checked(fp8.read(parts), weights)
    if (kind, bits, group_size) == ("float", 4, 16):
        return nvfp4.read(parts, requantize_scales)
    if (kind, bits, group_size) == ("float", 4, 32):
        return mxfp4.read(parts)
    raise invalid(
        "weights",
        f"type {kind}, num_bits {bits}, group_size {group_size}",
        "int of 4 or 8 bits; float of 8 bits, or of 4 bits in groups of 16 or 32",
    )


def _read_integers(parts: Sequence[Projection], weights: Mapping[str, Any]) -> list[Matrix]:
    if all("weight" in part for part in parts):
        if weights["num_bits"] != 8 or weights.get("symmetric") is False:
            raise invalid("weights", dict(weights), "symmetric, num_bits 8, for int8 tensors")
        return _checked([_read_bytes(part) for part in parts], weights)
    strategy = weights.get("strategy")
    options = gptq.Options(
        bits=weights["num_bits"],
        group_size=weights.get("group_size") if strategy == "group" else -1,
        sym=weights.get("symmetric", True),
    )
    return gptq.matrices([_read_packed(part, options) for part in parts], options)


def _read_packed(part: Projection, options: gptq.Options) -> gptq.RowPacked:
    bits = options.bits
    words = part.take("weight_packed", ["int32"], [None, None], f"[experts, n, k * {bits} / 32]")
    n, k = int(words.shape[1]), int(words.shape[2]) * 32 // bits
    _check_declared(part, n, k)
    scales = part.take("weight_scale", FLOATS, [n, None], "[experts, n, groups]")
    groups = int(scales.shape[2])
    zeros = part.optional(
        "weight_zero_point",
        ["int32"],
        [n * bits // 32, groups],
        f"[experts, n * {bits} / 32, groups]",
    )
    if options.sym is False and zeros is None:
        raise invalid(part.label("weight_zero_point"), "None", "one, for symmetric = False")
    g_idx = part.optional("weight_g_idx", ["int32"], [k], "[experts, k]")
    bias = part.optional("bias", FLOATS, [n], "[experts, n]")
    part.drop(*fp8.UNUSED)
    part.done()
    return gptq.RowPacked(
        _turned(words), scales, True, None if zeros is None else _turned(zeros), g_idx, bias
    )


def _turned(words: Any) -> Any:
    return _arrays.contiguous(words.swapaxes(1, 2))


def _read_bytes(part: Projection) -> Matrix:
    """int8 weights: plus 128 they are unsigned."""
    signed = part.take("weight", ["int8"], [None, None], "[experts, n, k]")
    n, k = int(signed.shape[1]), int(signed.shape[2])
    scales, group_size = fp8.spread_scales(part, "weight_scale", n, k)
    bias = part.optional("bias", FLOATS, [n], "[experts, n]")
    part.drop(*fp8.UNUSED)
    part.done()
    return Matrix(
        "rows",
        _arrays.view(signed, "uint8") ^ 128,
        "kU8B128",
        group_size,
        scales,
        columns_first=True,
        bias=bias,
    )


def _check_declared(part: Projection, n: int, k: int) -> None:
    """Refuses weights that end within a word."""
    declared = part.optional("weight_shape", ["int64", "int32"], [2], "[experts, 2], n and k")
    if declared is not None and not bool(
        (declared[:, 0] == n).all() and (declared[:, 1] == k).all()
    ):
        raise invalid(part.label("weight_shape"), declared[0].tolist(), f"[{n}, {k}], n and k")


def _checked(matrices: list[Matrix], weights: Mapping[str, Any]) -> list[Matrix]:
    """Refuses a group size that is not the tensors'."""
    declared = weights.get("group_size") if weights.get("strategy") == "group" else None
    for matrix in matrices:
        if declared is not None and matrix.group_size not in (declared, -1):
            raise invalid(
                "weights", f"group_size {declared}", f"{matrix.group_size}, as the tensors have"
            )
    return matrices
