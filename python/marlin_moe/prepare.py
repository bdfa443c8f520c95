"""Turns the weights of checkpoints into the layouts of the GEMM, on the GPU, once at load time.

`a_type` is the type of the activations that the weights will meet: all 16-bit ones share a layout,
`kS8` and `kFE4M3fn` have layouts of their own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ._function import Function, merged, parts

_repack_gptq = Function("repack_gptq", "qweight", "b_type", "a_type", "perm", "out")
_repack_awq = Function("repack_awq", "qweight", "b_type", "a_type", "qzeros", "out")
_repack_rows = Function("repack_rows", "weights", "b_type", "a_type", "out")
_sort_rows_by_group = Function("sort_rows_by_group", "g_idx", "out.perm", "out.g_idx")
_permute_scales = Function(
    "permute_scales",
    "scales",
    "b_type",
    "group_size",
    "a_type",
    "c_type",
    "s_type",
    "columns_first",
    "out.scales",
    "out.global_scales",
)
_scale_global_scales = Function("scale_global_scales", "global_scales", "c_type", "out")
_permute_bias = Function("permute_bias", "bias", "out")
_permute_zero_points = Function("permute_zero_points", "qzeros", "a_type", "out")


def repack_gptq(
    qweight: Any,
    *,
    b_type: str,
    a_type: str = "kBFloat16",
    perm: Any = None,
    out: Any = None,
) -> Any:
    """Repacks weights that are packed along their rows, as GPTQ stores them.

    Args:
      qweight: int32 [num_experts, k * bits / 32, n]: element i of word r is row r * 32 / bits + i.
      b_type: `kU4B8`, `kU8B128`, or another type of four or eight bits.
      a_type: type of the activations.
      perm: int32 [num_experts, k], act-order: row i of the result is row perm[i] of the source.
      out: int32 [num_experts, k / 16, n * bits / 2].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _repack_gptq(qweight, b_type, a_type, perm, out)
    return out if made is None else made


def repack_awq(
    qweight: Any,
    *,
    b_type: str,
    a_type: str = "kBFloat16",
    qzeros: Any = None,
    out: Any = None,
) -> Any:
    """Repacks integer weights that are packed along their columns, as AWQ stores them.

    Args:
      qweight: int32 [num_experts, k, n * bits / 32]: a word holds eight columns in the order
        [0, 2, 4, 6, 1, 3, 5, 7], or four in the order [0, 2, 1, 3].
      b_type: `kU4`, `kU4B8` or `kU8B128`.
      a_type: type of the activations.
      qzeros: int32 [num_experts, num_groups, n / 8] in AWQ's order, needed for kU4 beside kFE4M3fn:
        there zero points change how weights are encoded.
      out: int32 [num_experts, k / 16, n * bits / 2].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _repack_awq(qweight, b_type, a_type, qzeros, out)
    return out if made is None else made


def repack_rows(
    weights: Any,
    *,
    b_type: str,
    a_type: str = "kBFloat16",
    out: Any = None,
) -> Any:
    """Repacks weights whose output columns are rows, as FP8, MXFP4 and NVFP4 checkpoints do.

    Args:
      weights: bytes [num_experts, n, k * bits / 8]; of two elements in a byte, the low nibble has
        the even row.
      b_type: `kFE4M3fn`, `kFE2M1f`, or another type of four or eight bits.
      a_type: type of the activations.
      out: int32 [num_experts, k / 16, n * bits / 2].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _repack_rows(weights, b_type, a_type, out)
    return out if made is None else made


class SortedRows(NamedTuple):
    """What sort_rows_by_group() writes, both int32 [num_experts, k].

    Attributes:
      perm: row of the checkpoint for each sorted row, for repack_gptq() and ExpertWeights.
      g_idx: group of each sorted row, ascending, for ExpertWeights.
    """

    perm: Any
    g_idx: Any


def sort_rows_by_group(
    g_idx: Any,
    *,
    out: SortedRows | None = None,
) -> SortedRows:
    """Sorts the rows of GPTQ weights with act-order by group, keeping the order within a group.

    Args:
      g_idx: int32 [num_experts, k], group of each row, in any order.
      out: where the results go.
    """
    given = parts("out", out, SortedRows)
    return SortedRows(*merged(given, _sort_rows_by_group(g_idx, *given)))


class PermutedScales(NamedTuple):
    """What permute_scales() writes.

    Attributes:
      scales: s_type [num_experts, num_groups, n].
      global_scales: float32 [num_experts], of which an expert's scales are multiples. None unless
        a_type is kS8 and scales are in several groups.
    """

    scales: Any
    global_scales: Any


def permute_scales(
    scales: Any,
    *,
    b_type: str,
    group_size: int,
    a_type: str = "kBFloat16",
    c_type: str | None = None,
    s_type: str | None = None,
    columns_first: bool = False,
    out: PermutedScales | None = None,
) -> PermutedScales:
    """Permutes the scales of weights, and multiplies them by the weights' exponent deficit.

    That is the power of two by which the kernels' dequantised weights are too small.

    Args:
      scales: s_type [num_experts, num_groups, n].
      b_type: type of the weights.
      group_size: as the GEMM will be given it.
      a_type: type of the activations.
      c_type: type of the GEMM's result; None: the type of 16-bit scales, otherwise kBFloat16.
      s_type: type of the scales; None: the dtype of the tensor. NVFP4: kFE4M3fn, MXFP4: kFE8M0fnu.
      columns_first: whether the source is [num_experts, n, num_groups].
      out: where the results go.
    """
    given = parts("out", out, PermutedScales)
    made = _permute_scales(
        scales, b_type, group_size, a_type, c_type, s_type, columns_first, *given
    )
    return PermutedScales(*merged(given, made))


def scale_global_scales(
    global_scales: Any,
    *,
    c_type: str,
    out: Any = None,
) -> Any:
    """Multiplies the global scales of NVFP4 weights by the power of two that the kernels expect.

    Args:
      global_scales: float32 [num_experts].
      c_type: type of the GEMM's result, `kFloat16` or `kBFloat16`.
      out: float32 [num_experts].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _scale_global_scales(global_scales, c_type, out)
    return out if made is None else made


def permute_bias(bias: Any, *, out: Any = None) -> Any:
    """Permutes a bias.

    Args:
      bias: [num_experts, n] of a 16-bit type.
      out: the same shape and dtype.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _permute_bias(bias, out)
    return out if made is None else made


def permute_zero_points(
    qzeros: Any,
    *,
    a_type: str = "kBFloat16",
    out: Any = None,
) -> Any:
    """Permutes the zero points of kU4 weights, packed as AWQ does it.

    Args:
      qzeros: int32 [num_experts, num_groups, n / 8], in AWQ's order.
      a_type: type of the activations.
      out: the same shape.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _permute_zero_points(qzeros, a_type, out)
    return out if made is None else made
