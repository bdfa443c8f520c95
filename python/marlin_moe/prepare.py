"""Turns the weights of checkpoints into the layouts of the GEMM, on the GPU, once at load time.

`a_type` is the type of the activations that the weights will meet: all 16-bit ones share a layout,
`kS8` and `kFE4M3fn` have layouts of their own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ._function import Function, merged, parts

_padded_shape = Function("padded_shape", "n", "k", "b_type", "group_size", "a_type")
_repack_gptq = Function(
    "repack_gptq",
    "qweight",
    "b_type",
    "a_type",
    "perm",
    "padded.n",
    "padded.k",
    "column_parts",
    "out",
)
_repack_awq = Function(
    "repack_awq",
    "qweight",
    "b_type",
    "a_type",
    "qzeros",
    "padded.n",
    "padded.k",
    "padded.num_groups",
    "column_parts",
    "out",
)
_repack_rows = Function(
    "repack_rows", "weights", "b_type", "a_type", "padded.n", "padded.k", "column_parts", "out"
)
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
    "columns_per_scale",
    "n",
    "padded.n",
    "padded.num_groups",
    "column_parts",
    "out.scales",
    "out.global_scales",
)
_scale_global_scales = Function("scale_global_scales", "global_scales", "c_type", "out")
_permute_bias = Function("permute_bias", "bias", "padded.n", "column_parts", "out")
_permute_zero_points = Function(
    "permute_zero_points",
    "qzeros",
    "a_type",
    "padded.n",
    "padded.num_groups",
    "column_parts",
    "out",
)


class PaddedShape(NamedTuple):
    """What the GEMM takes in the place of a layer, or a shard of one, of any size.

    Attributes:
      n: output columns.
      k: rows.
      num_groups: k / group_size; 1 for a scale per column and act-order.
    """

    n: Any
    k: Any
    num_groups: Any


def padded_shape(
    n: int, k: int, *, b_type: str, group_size: int, a_type: str = "kBFloat16"
) -> PaddedShape:
    """Returns the smallest shape with kernels that holds n columns and k rows.

    Give it to the functions below as `padded`: they add weights of 0. Activations must have
    `padded.k` columns, those behind the k-th with finite numbers. Gate and up side by side need
    `column_parts=2`, and n = 2 * the padded k of the down projection.

    Args:
      n: output columns, from 1 on.
      k: rows, from 1 on.
      b_type: type of the weights.
      group_size: as the GEMM will be given it.
      a_type: type of the activations.
    """
    return PaddedShape(*map(int, _padded_shape(n, k, b_type, group_size, a_type)))


def repack_gptq(
    qweight: Any,
    *,
    b_type: str,
    a_type: str = "kBFloat16",
    perm: Any = None,
    padded: PaddedShape | None = None,
    column_parts: int = 1,
    out: Any = None,
) -> Any:
    """Repacks weights that are packed along their rows, as GPTQ stores them.

    Args:
      qweight: int32 [num_experts, k * bits / 32, n]: element i of word r is row r * 32 / bits + i.
      b_type: `kU4B8`, `kU8B128`, or another type of four or eight bits.
      a_type: type of the activations.
      perm: int32 [num_experts, k], act-order: row i of the result is row perm[i] of the source.
      padded: shape of the result, k that of `perm` as well; None: n and k of the source.
      column_parts: matrices side by side in n, as gate and up are. Each is padded on its own.
      out: int32 [num_experts, k / 16, n * bits / 2].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    n, k, _ = parts("padded", padded, PaddedShape)
    made = _repack_gptq(qweight, b_type, a_type, perm, n, k, column_parts, out)
    return out if made is None else made


def repack_awq(
    qweight: Any,
    *,
    b_type: str,
    a_type: str = "kBFloat16",
    qzeros: Any = None,
    padded: PaddedShape | None = None,
    column_parts: int = 1,
    out: Any = None,
) -> Any:
    """Repacks integer weights that are packed along their columns, as AWQ stores them.

    Args:
      qweight: int32 [num_experts, k, n * bits / 32]: a word holds eight columns in the order
        [0, 2, 4, 6, 1, 3, 5, 7], or four in the order [0, 2, 1, 3].
      b_type: `kU4`, `kU4B8` or `kU8B128`.
      a_type: type of the activations.
      qzeros: int32 [num_experts, num_groups, n / 8] in AWQ's order, needed for kU4 beside kFE4M3fn,
        where zero points change how weights are encoded, and with padded rows, which take them.
      padded: shape of the result; None: n and k of the source.
      column_parts: as in repack_gptq().
      out: int32 [num_experts, k / 16, n * bits / 2].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    sizes = parts("padded", padded, PaddedShape)
    made = _repack_awq(qweight, b_type, a_type, qzeros, *sizes, column_parts, out)
    return out if made is None else made


def repack_rows(
    weights: Any,
    *,
    b_type: str,
    a_type: str = "kBFloat16",
    padded: PaddedShape | None = None,
    column_parts: int = 1,
    out: Any = None,
) -> Any:
    """Repacks weights whose output columns are rows, as FP8, MXFP4 and NVFP4 checkpoints do.

    Args:
      weights: bytes [num_experts, n, k * bits / 8]; of two elements in a byte, the low nibble has
        the even row.
      b_type: `kFE4M3fn`, `kFE2M1f`, or another type of four or eight bits.
      a_type: type of the activations.
      padded: shape of the result; None: n and k of the source.
      column_parts: as in repack_gptq().
      out: int32 [num_experts, k / 16, n * bits / 2].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    n, k, _ = parts("padded", padded, PaddedShape)
    made = _repack_rows(weights, b_type, a_type, n, k, column_parts, out)
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
    columns_per_scale: int = 1,
    n: int | None = None,
    padded: PaddedShape | None = None,
    column_parts: int = 1,
    out: PermutedScales | None = None,
) -> PermutedScales:
    """Permutes the scales of weights, and multiplies them by the weights' exponent deficit.

    That is the power of two by which the kernels' dequantised weights are too small. Products are
    rounded to s_type; prepare.h says what becomes of those out of its range.

    DeepSeek-V3's `weight_scale_inv`, one scale for 128 x 128 weights, is taken as it is:

        permute_scales(scale_inv, b_type="kFE4M3fn", group_size=128, columns_first=True,
                       columns_per_scale=128, n=n)

    Args:
      scales: s_type, or float32 where that has 16 bits, [num_experts, num_groups, n].
      b_type: type of the weights.
      group_size: as the GEMM will be given it.
      a_type: type of the activations.
      c_type: type of the GEMM's result; None: the type of 16-bit scales, otherwise kBFloat16.
      s_type: type of the result; None: the dtype of the tensor, of float32 ones c_type. NVFP4:
        kFE4M3fn, MXFP4: kFE8M0fnu.
      columns_first: whether the source is [num_experts, n, num_groups].
      columns_per_scale: columns that share a scale of the source, which has so many times fewer in
        a row, rounded up in each of the column_parts.
      n: columns of the source's weights; None: columns_per_scale for each scale in a row.
      padded: shape of the result; None: that of the source.
      column_parts: as in repack_gptq().
      out: where the results go.
    """
    given = parts("out", out, PermutedScales)
    padded_n, _, num_groups = parts("padded", padded, PaddedShape)
    made = _permute_scales(
        scales,
        b_type,
        group_size,
        a_type,
        c_type,
        s_type,
        columns_first,
        columns_per_scale,
        n,
        padded_n,
        num_groups,
        column_parts,
        *given,
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


def permute_bias(
    bias: Any, *, padded: PaddedShape | None = None, column_parts: int = 1, out: Any = None
) -> Any:
    """Permutes a bias.

    Args:
      bias: [num_experts, n] of a 16-bit type.
      padded: shape of the result; None: n of the source.
      column_parts: as in repack_gptq().
      out: [num_experts, n], with the dtype of `bias`.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    n = parts("padded", padded, PaddedShape).n
    made = _permute_bias(bias, n, column_parts, out)
    return out if made is None else made


def permute_zero_points(
    qzeros: Any,
    *,
    a_type: str = "kBFloat16",
    padded: PaddedShape | None = None,
    column_parts: int = 1,
    out: Any = None,
) -> Any:
    """Permutes the zero points of kU4 weights, packed as AWQ does it.

    Args:
      qzeros: int32 [num_experts, num_groups, n / 8], in AWQ's order.
      a_type: type of the activations.
      padded: shape of the result; None: num_groups and n of the source.
      column_parts: as in repack_gptq().
      out: int32 [num_experts, num_groups, n / 8].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    n, _, num_groups = parts("padded", padded, PaddedShape)
    made = _permute_zero_points(qzeros, a_type, n, num_groups, column_parts, out)
    return out if made is None else made
