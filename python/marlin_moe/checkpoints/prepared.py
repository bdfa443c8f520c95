"""From a Matrix to the tensors of ExpertWeights: padded, repacked and permuted on the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import _arrays, prepare
from ..errors import invalid
from .matrix import Matrix

_DTYPES = {"kFloat16": "float16", "kBFloat16": "bfloat16"}
# More than either 16-bit type rounds by.
_ROUNDING = 2.0**-7


@dataclass(frozen=True)
class Target:
    """What weights are prepared for.

    Attributes:
      a_type: type of the activations; None: c_type.
      c_type: type of results.
      n: output columns; None: as many as there are, filled up.
      k: rows; None: likewise.
    """

    a_type: str | None
    c_type: str
    n: int | None
    k: int | None


def fields_of(matrix: Matrix, target: Target) -> dict[str, Any]:
    """Returns the fields of ExpertWeights.

    Raises:
      InvalidArgumentError: scales do not fit into c_type, or the library refuses something.
    """
    if target.c_type not in _DTYPES:
        raise invalid("c_type", repr(target.c_type), ", ".join(_DTYPES))
    a_type = target.a_type or target.c_type
    padded = _padded(matrix, target, a_type)
    g_idx, perm = _sorted_rows(matrix, padded)
    sizes: dict[str, Any] = {"padded": padded, "column_parts": matrix.column_parts}
    scales, global_scales = _scales(matrix, target, a_type, sizes)
    zeros, bias = matrix.zero_points, matrix.bias
    if zeros is not None:
        zeros = prepare.permute_zero_points(_arrays.contiguous(zeros), a_type=a_type, **sizes)
    if bias is not None:
        bias = prepare.permute_bias(_narrowed("bias", bias, target.c_type), **sizes)
    return {
        "b": _weights(matrix, a_type, sizes, perm),
        "scales": scales,
        "b_type": matrix.b_type,
        "group_size": matrix.group_size,
        "a_type": target.a_type,
        "c_type": target.c_type,
        "s_type": matrix.s_type or target.c_type,
        "zero_points": zeros,
        "global_scales": global_scales,
        "bias": bias,
        "g_idx": g_idx,
        "perm": perm,
        "column_parts": matrix.column_parts,
    }


def _padded(matrix: Matrix, target: Target, a_type: str) -> prepare.PaddedShape:
    """Fills up to what the GEMM takes; each of gate and up to the rows of the down projection."""

    def padded(n: int, k: int) -> prepare.PaddedShape:
        return prepare.padded_shape(
            n, k, b_type=matrix.b_type, group_size=matrix.group_size, a_type=a_type
        )

    shape = padded(matrix.n, matrix.k)
    parts = matrix.column_parts
    n = target.n or (parts * padded(1, matrix.n // parts).k if parts > 1 else shape.n)
    k = target.k or shape.k
    groups = k // matrix.group_size if matrix.group_size > 0 else _num_groups(matrix)
    return prepare.PaddedShape(n, k, groups)


def _num_groups(matrix: Matrix) -> int:
    return int(matrix.scales.shape[2 if matrix.columns_first else 1])


def _sorted_rows(matrix: Matrix, padded: prepare.PaddedShape) -> tuple[Any, Any]:
    """Returns g_idx and perm of act-order; rows that are added join the last row's group."""
    g_idx = matrix.g_idx
    if g_idx is None:
        return None, None
    if padded.k > matrix.k:
        last = _arrays.repeat(g_idx[:, -1:], padded.k - matrix.k, 1)
        g_idx = _arrays.concatenate([g_idx, last], 1)
    rows = prepare.sort_rows_by_group(_arrays.contiguous(g_idx))
    return rows.g_idx, rows.perm


def _weights(matrix: Matrix, a_type: str, sizes: dict[str, Any], perm: Any) -> Any:
    weights = _arrays.contiguous(matrix.weights)
    common: dict[str, Any] = {"b_type": matrix.b_type, "a_type": a_type, **sizes}
    if matrix.packing == "gptq":
        return prepare.repack_gptq(weights, perm=perm, **common)
    if matrix.packing == "rows":
        return prepare.repack_rows(weights, **common)
    # Zero points change how weights are encoded, or say which added ones are 0.
    encoded = a_type == "kFE4M3fn" or sizes["padded"].k > matrix.k
    zeros = _arrays.contiguous(matrix.zero_points) if encoded else None
    return prepare.repack_awq(weights, qzeros=zeros, **common)


def _scales(matrix: Matrix, target: Target, a_type: str, sizes: dict[str, Any]) -> tuple[Any, Any]:
    """Returns scales and global scales."""
    scales = matrix.scales
    if matrix.s_type is None:
        narrowed = _narrowed("scales", scales, target.c_type)
        # Those of 32 bits are rounded once, after the library has multiplied them.
        scales = scales if _arrays.dtype_name(scales) == "float32" else narrowed
    permuted = prepare.permute_scales(
        _arrays.contiguous(scales),
        b_type=matrix.b_type,
        group_size=matrix.group_size,
        a_type=a_type,
        c_type=target.c_type,
        s_type=matrix.s_type or target.c_type,
        columns_first=matrix.columns_first,
        **sizes,
    )
    if matrix.global_scales is None:
        return permuted.scales, permuted.global_scales
    scaled = prepare.scale_global_scales(
        _arrays.contiguous(matrix.global_scales), c_type=target.c_type
    )
    return permuted.scales, scaled


def _narrowed(name: str, values: Any, c_type: str) -> Any:
    """Converts to a 16-bit type; what it would make 0 or infinite is refused."""
    wide = _arrays.cast(values, "float32")
    if not bool((abs(wide) < float("inf")).all()):
        raise invalid(name, "infinity or NaN", "finite values")
    narrow = _arrays.cast(values, _DTYPES[c_type])
    error = abs(_arrays.cast(narrow, "float32") - wide)
    if not bool((error <= abs(wide) * _ROUNDING).all()):
        raise invalid(name, f"values that {_DTYPES[c_type]} cannot hold", "another c_type")
    return _arrays.contiguous(narrow)
