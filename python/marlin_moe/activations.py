"""What a MoE layer does to activations around its two GEMMs."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _abi
from ._call import Call, Empty, pointer
from .errors import invalid
from .scalar_type import ScalarType, to_scalar_type, type_of_tensor
from .tensor import Tensor

_FLOATS = ("float16", "bfloat16")
_FLOAT32 = ("float32",)
_INT32 = ("int32",)


class QuantizedActivations(NamedTuple):
    """What quantize_activations() writes.

    Attributes:
      values: [m, k], int8 for kS8; for kFE4M3fn bytes (uint8) unless the caller gave e4m3 ones.
      scales: float32 [m], the a_scales of moe_gemm().
    """

    values: Any
    scales: Any


def quantize_activations(
    x: Tensor,
    *,
    out_type: ScalarType | str,
    factor: Tensor | None = None,
    out: QuantizedActivations | None = None,
    stream: Any = None,
    empty: Empty | None = None,
) -> QuantizedActivations:
    """Quantises each row to eight bits with a scale of its own.

    Args:
      x: float16 or bfloat16 [m, k], k a multiple of 16; rows may have gaps, of multiples of 8.
      out_type: `kS8` (scale = largest magnitude / 127) or `kFE4M3fn` (likewise / 448).
      factor: float32 [1], multiplies all scales: the a_factor of weights packed elsewhere.
      out: where the results go.
      stream: see the package's description, as for `empty`.
      empty: what makes the results.
    """
    kind = to_scalar_type("out_type", out_type)
    if kind not in (ScalarType.S8, ScalarType.FE4M3FN):
        raise invalid("out_type", kind.name, "S8, FE4M3FN")
    with Call(stream, x, empty) as call:
        source = call.tensor("x", x, _FLOATS, (None, None), "[m, k]", rows=True)
        m, k = source.shape
        given = out or QuantizedActivations(None, None)
        # Not every framework can export a float8 tensor.
        dtypes = kind.dtypes if kind is ScalarType.S8 else ("uint8", "float8_e4m3fn", "bits8")
        values, values_view = call.output("out.values", given.values, dtypes, (m, k), "[m, k]")
        scales, scales_view = call.output("out.scales", given.scales, _FLOAT32, (m,), "(m,)")
        args = _abi.QuantizeActivationsArgs(
            m=m,
            k=k,
            x_type=type_of_tensor("x_type", None, "x", source.dtype),
            out_type=kind,
            x_stride=source.row_stride(),
            out=values_view.pointer,
            scales=scales_view.pointer,
            factor=pointer(call.optional("factor", factor, _FLOAT32, (1,), "(1,)")),
            x=source.pointer,
            stream=call.stream,
        )
        call.run("quantize_activations", args)
        return QuantizedActivations(values, scales)


def silu_and_mul(
    x: Tensor, *, out: Tensor | None = None, stream: Any = None, empty: Empty | None = None
) -> Any:
    """out[i, c] = silu(x[i, c]) * x[i, n + c], with silu(x) = x / (1 + exp(-x)), rounded once.

    Args:
      x: float16 or bfloat16 [m, 2 * n], n a multiple of 8.
      out: the same dtype, [m, n].
      stream: see the package's description, as for `empty`.
      empty: what makes the result.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    with Call(stream, x, empty) as call:
        source = call.tensor("x", x, _FLOATS, (None, None), "[m, 2 * n]")
        m, columns = source.shape
        if columns % 2:
            raise invalid("x", f"shape {source.shape}", "[m, 2 * n], an even number of columns")
        result, view = call.output("out", out, (source.dtype,), (m, columns // 2), "[m, n]")
        args = _abi.SiluAndMulArgs(
            m=m,
            n=columns // 2,
            type=type_of_tensor("type", None, "x", source.dtype),
            out=view.pointer,
            x=source.pointer,
            stream=call.stream,
        )
        call.run("silu_and_mul", args)
        return result


def topk_sum(
    x: Tensor,
    *,
    top_k: int,
    topk_ids: Tensor | None = None,
    num_experts: int = 0,
    expert_map: Tensor | None = None,
    out: Tensor | None = None,
    stream: Any = None,
    empty: Empty | None = None,
) -> Any:
    """out[t, :] = sum over j < top_k of x[t * top_k + j, :], in float32, in the order of j.

    Args:
      x: float16 or bfloat16 [m * top_k, n], n a multiple of 8.
      top_k: rows of a token.
      topk_ids: int32 [m, top_k] or [m * top_k]; leaves out rows that moe_gemm() did not write:
        those whose expert is not from 0 to num_experts - 1 or is elsewhere.
      num_experts: experts of all devices, needed with topk_ids only.
      expert_map: int32 [num_experts], -1 for experts elsewhere.
      out: the same dtype, [m, n].
      stream: see the package's description, as for `empty`.
      empty: what makes the result.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    with Call(stream, x, empty) as call:
        source = call.tensor("x", x, _FLOATS, (None, None), "[m * top_k, n]")
        rows, n = source.shape
        if top_k < 1 or rows % top_k:
            raise invalid("top_k", top_k, f"a divisor of the {rows} rows of x")
        ids = call.optional("topk_ids", topk_ids, _INT32, None, "[m, top_k]")
        if ids is not None and ids.size != rows:
            raise invalid("topk_ids", f"shape {ids.shape}", f"{rows} elements, one for a row of x")
        local = call.optional("expert_map", expert_map, _INT32, (num_experts,), "(num_experts,)")
        result, view = call.output("out", out, (source.dtype,), (rows // top_k, n), "[m, n]")
        args = _abi.TopkSumArgs(
            m=rows // top_k,
            n=n,
            top_k=top_k,
            type=type_of_tensor("type", None, "x", source.dtype),
            num_experts=num_experts,
            out=view.pointer,
            topk_ids=pointer(ids),
            expert_map=pointer(local),
            x=source.pointer,
            stream=call.stream,
        )
        call.run("topk_sum", args)
        return result
