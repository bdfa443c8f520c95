"""Turns the weights of checkpoints into the layouts of the GEMM, on the GPU, once at load time.

`a_type` is the type of the activations that the weights will meet: all 16-bit ones share a layout,
`kS8` and `kFE4M3fn` have layouts of their own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _abi
from ._call import Call, Empty, pointer
from .errors import invalid
from .scalar_type import SIXTEEN_BITS, ScalarType, to_scalar_type, type_of_tensor
from .tensor import Tensor

_INT32 = ("int32", "uint32")
_INDICES = ("int32",)
_BYTES = ("uint8", "int8", "float8_e4m3fn", "float4_e2m1fn_x2", "bits8")
_PACKED = "[num_experts, k / 16, n * bits / 2]"


def repack_gptq(
    qweight: Tensor,
    *,
    b_type: ScalarType | str,
    a_type: ScalarType | str = ScalarType.BFLOAT16,
    perm: Tensor | None = None,
    out: Tensor | None = None,
    stream: Any = None,
    empty: Empty | None = None,
) -> Any:
    """Repacks weights that are packed along their rows, as GPTQ stores them.

    Args:
      qweight: int32 [num_experts, k * bits / 32, n]: element i of word r is row r * 32 / bits + i.
      b_type: `kU4B8`, `kU8B128`, or another type of four or eight bits.
      a_type: type of the activations.
      perm: int32 [num_experts, k], act-order: row i of the result is row perm[i] of the source.
      out: int32 [num_experts, k / 16, n * bits / 2].
      stream: see the package's description, as for `empty`.
      empty: what makes the result.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    types = _types(a_type, b_type)
    bits = types["b_type"].bits
    with Call(stream, qweight, empty) as call:
        source = call.tensor(
            "qweight", qweight, _INT32, (None, None, None), "[num_experts, k * bits / 32, n]"
        )
        experts, words, n = source.shape
        k = words * 32 // bits
        order = call.optional("perm", perm, _INDICES, (experts, k), "[num_experts, k]")
        result, view = call.output("out", out, _INT32, (experts, k // 16, n * bits // 2), _PACKED)
        args = _abi.RepackGptqArgs(
            num_experts=experts,
            n=n,
            k=k,
            qweight=source.pointer,
            perm=pointer(order),
            out=view.pointer,
            stream=call.stream,
            **types,
        )
        call.run("repack_gptq", args)
        return result


def repack_awq(
    qweight: Tensor,
    *,
    b_type: ScalarType | str,
    a_type: ScalarType | str = ScalarType.BFLOAT16,
    qzeros: Tensor | None = None,
    out: Tensor | None = None,
    stream: Any = None,
    empty: Empty | None = None,
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
      stream: see the package's description, as for `empty`.
      empty: what makes the result.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    types = _types(a_type, b_type)
    bits = types["b_type"].bits
    with Call(stream, qweight, empty) as call:
        source = call.tensor(
            "qweight", qweight, _INT32, (None, None, None), "[num_experts, k, n * bits / 32]"
        )
        experts, k, words = source.shape
        n = words * 32 // bits
        zeros = call.optional(
            "qzeros", qzeros, _INT32, (experts, None, n // 8), "[num_experts, num_groups, n / 8]"
        )
        result, view = call.output("out", out, _INT32, (experts, k // 16, n * bits // 2), _PACKED)
        args = _abi.RepackAwqArgs(
            num_experts=experts,
            n=n,
            k=k,
            num_groups=0 if zeros is None else zeros.shape[1],
            qweight=source.pointer,
            qzeros=pointer(zeros),
            out=view.pointer,
            stream=call.stream,
            **types,
        )
        call.run("repack_awq", args)
        return result


def repack_rows(
    weights: Tensor,
    *,
    b_type: ScalarType | str,
    a_type: ScalarType | str = ScalarType.BFLOAT16,
    out: Tensor | None = None,
    stream: Any = None,
    empty: Empty | None = None,
) -> Any:
    """Repacks weights whose output columns are rows, as FP8, MXFP4 and NVFP4 checkpoints do.

    Args:
      weights: bytes [num_experts, n, k * bits / 8]; of two elements in a byte, the low nibble has
        the even row.
      b_type: `kFE4M3fn`, `kFE2M1f`, or another type of four or eight bits.
      a_type: type of the activations.
      out: int32 [num_experts, k / 16, n * bits / 2].
      stream: see the package's description, as for `empty`.
      empty: what makes the result.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    types = _types(a_type, b_type)
    bits = types["b_type"].bits
    with Call(stream, weights, empty) as call:
        source = call.tensor(
            "weights", weights, _BYTES, (None, None, None), "[num_experts, n, k * bits / 8]"
        )
        experts, n, row_bytes = source.shape
        k = row_bytes * 8 // bits
        result, view = call.output("out", out, _INT32, (experts, k // 16, n * bits // 2), _PACKED)
        args = _abi.RepackRowsArgs(
            num_experts=experts,
            n=n,
            k=k,
            weights=source.pointer,
            out=view.pointer,
            stream=call.stream,
            **types,
        )
        call.run("repack_rows", args)
        return result


class SortedRows(NamedTuple):
    """What sort_rows_by_group() writes, both int32 [num_experts, k].

    Attributes:
      perm: row of the checkpoint for each sorted row, for repack_gptq() and ExpertWeights.
      g_idx: group of each sorted row, ascending, for ExpertWeights.
    """

    perm: Any
    g_idx: Any


def sort_rows_by_group(
    g_idx: Tensor,
    *,
    out: SortedRows | None = None,
    stream: Any = None,
    empty: Empty | None = None,
) -> SortedRows:
    """Sorts the rows of GPTQ weights with act-order by group, keeping the order within a group.

    Args:
      g_idx: int32 [num_experts, k], group of each row, in any order.
      out: where the results go.
      stream: see the package's description, as for `empty`.
      empty: what makes the results.
    """
    with Call(stream, g_idx, empty) as call:
        source = call.tensor("g_idx", g_idx, _INDICES, (None, None), "[num_experts, k]")
        given = out or SortedRows(None, None)
        layout = "[num_experts, k], as g_idx has"
        perm, perm_view = call.output("out.perm", given.perm, _INDICES, source.shape, layout)
        groups, group_view = call.output("out.g_idx", given.g_idx, _INDICES, source.shape, layout)
        args = _abi.SortRowsByGroupArgs(
            num_experts=source.shape[0],
            k=source.shape[1],
            g_idx=source.pointer,
            perm=perm_view.pointer,
            sorted_g_idx=group_view.pointer,
            stream=call.stream,
        )
        call.run("sort_rows_by_group", args)
        return SortedRows(perm, groups)


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
    scales: Tensor,
    *,
    b_type: ScalarType | str,
    group_size: int,
    a_type: ScalarType | str = ScalarType.BFLOAT16,
    c_type: ScalarType | str | None = None,
    s_type: ScalarType | str | None = None,
    columns_first: bool = False,
    out: PermutedScales | None = None,
    stream: Any = None,
    empty: Empty | None = None,
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
      stream: see the package's description, as for `empty`.
      empty: what makes the results.
    """
    types = _types(a_type, b_type)
    with Call(stream, scales, empty) as call:
        layout = "[num_experts, n, num_groups]" if columns_first else "[num_experts, num_groups, n]"
        source = call.tensor("scales", scales, None, (None, None, None), layout)
        scale_type = type_of_tensor("s_type", s_type, "scales", source.dtype)
        if source.dtype not in scale_type.dtypes:
            raise invalid("scales", f"dtype {source.dtype}", ", ".join(scale_type.dtypes))
        experts, groups, n = source.shape
        if columns_first:
            groups, n = n, groups
        given = out or PermutedScales(None, None)
        dtypes = (source.dtype, *(d for d in scale_type.dtypes if d != source.dtype))
        result, view = call.output(
            "out.scales", given.scales, dtypes, (experts, groups, n), "[num_experts, num_groups, n]"
        )
        args = _abi.PermuteScalesArgs(
            num_experts=experts,
            num_groups=groups,
            n=n,
            c_type=_c_type(c_type, scale_type),
            s_type=scale_type,
            group_size=group_size,
            columns_first=columns_first,
            scales=source.pointer,
            out=view.pointer,
            stream=call.stream,
            **types,
        )
        units = None
        if types["a_type"] is ScalarType.S8 and group_size > 0 and groups > 1:
            units, units_view = call.output(
                "out.global_scales",
                given.global_scales,
                ("float32",),
                (experts,),
                "(num_experts,)",
            )
            args.global_scales = units_view.pointer
        call.run("permute_scales", args)
        return PermutedScales(result, units)


def scale_global_scales(
    global_scales: Tensor,
    *,
    c_type: ScalarType | str,
    out: Tensor | None = None,
    stream: Any = None,
    empty: Empty | None = None,
) -> Any:
    """Multiplies the global scales of NVFP4 weights by the power of two that the kernels expect.

    Args:
      global_scales: float32 [num_experts].
      c_type: type of the GEMM's result, `kFloat16` or `kBFloat16`.
      out: float32 [num_experts].
      stream: see the package's description, as for `empty`.
      empty: what makes the result.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    with Call(stream, global_scales, empty) as call:
        float32 = ("float32",)
        source = call.tensor("global_scales", global_scales, float32, (None,), "(num_experts,)")
        result, view = call.output("out", out, float32, source.shape, "(num_experts,)")
        args = _abi.ScaleGlobalScalesArgs(
            num_experts=source.shape[0],
            c_type=to_scalar_type("c_type", c_type),
            global_scales=source.pointer,
            out=view.pointer,
            stream=call.stream,
        )
        call.run("scale_global_scales", args)
        return result


def permute_bias(
    bias: Tensor, *, out: Tensor | None = None, stream: Any = None, empty: Empty | None = None
) -> Any:
    """Permutes a bias.

    Args:
      bias: [num_experts, n] of a 16-bit type.
      out: the same shape and dtype.
      stream: see the package's description, as for `empty`.
      empty: what makes the result.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    with Call(stream, bias, empty) as call:
        dtypes = tuple(dict.fromkeys(d for kind in SIXTEEN_BITS for d in kind.dtypes))
        source = call.tensor("bias", bias, dtypes, (None, None), "[num_experts, n]")
        result, view = call.output("out", out, (source.dtype,), source.shape, "[num_experts, n]")
        args = _abi.PermuteBiasArgs(
            num_experts=source.shape[0],
            n=source.shape[1],
            bias=source.pointer,
            out=view.pointer,
            stream=call.stream,
        )
        call.run("permute_bias", args)
        return result


def permute_zero_points(
    qzeros: Tensor,
    *,
    a_type: ScalarType | str = ScalarType.BFLOAT16,
    out: Tensor | None = None,
    stream: Any = None,
    empty: Empty | None = None,
) -> Any:
    """Permutes the zero points of kU4 weights, packed as AWQ does it.

    Args:
      qzeros: int32 [num_experts, num_groups, n / 8], in AWQ's order.
      a_type: type of the activations.
      out: the same shape.
      stream: see the package's description, as for `empty`.
      empty: what makes the result.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    layout = "[num_experts, num_groups, n / 8]"
    with Call(stream, qzeros, empty) as call:
        source = call.tensor("qzeros", qzeros, _INT32, (None, None, None), layout)
        result, view = call.output("out", out, _INT32, source.shape, layout)
        experts, groups, words = source.shape
        args = _abi.PermuteZeroPointsArgs(
            num_experts=experts,
            num_groups=groups,
            n=words * 8,
            a_type=to_scalar_type("a_type", a_type),
            qzeros=source.pointer,
            out=view.pointer,
            stream=call.stream,
        )
        call.run("permute_zero_points", args)
        return result


def _types(a_type: ScalarType | str, b_type: ScalarType | str) -> dict[str, ScalarType]:
    return {
        "a_type": to_scalar_type("a_type", a_type),
        "b_type": to_scalar_type("b_type", b_type),
    }


def _c_type(given: ScalarType | str | None, s_type: ScalarType) -> ScalarType:
    if given is not None:
        return to_scalar_type("c_type", given)
    return s_type if s_type in SIXTEEN_BITS else ScalarType.BFLOAT16
