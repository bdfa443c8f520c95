"""What a MoE layer does to activations around its two GEMMs."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._function import Function, merged, parts


class QuantizedActivations(NamedTuple):
    """What quantize_activations() writes.

    Attributes:
      values: [m, k], int8 for kS8; for kFE4M3fn bytes (uint8) unless the caller gave e4m3 ones.
      scales: float32 [m], the a_scales of moe_gemm().
    """

    values: Any
    scales: Any


_quantize = Function("quantize_activations", "x", "out_type", "factor", "out.values", "out.scales")
_silu_and_mul = Function("silu_and_mul", "x", "out")
_topk_sum = Function("topk_sum", "x", "top_k", "topk_ids", "num_experts", "expert_map", "out")


def quantize_activations(
    x: Any,
    *,
    out_type: str,
    factor: Any = None,
    out: QuantizedActivations | None = None,
) -> QuantizedActivations:
    """Quantises each row to eight bits with a scale of its own.

    Args:
      x: float16 or bfloat16 [m, k], k a multiple of 16; rows may have gaps, of multiples of 8.
      out_type: `kS8` (scale = largest magnitude / 127) or `kFE4M3fn` (likewise / 448).
      factor: float32 [1], multiplies all scales: the a_factor of weights packed elsewhere.
      out: where the results go.
    """
    given = parts("out", out, QuantizedActivations)
    return QuantizedActivations(*merged(given, _quantize(x, out_type, factor, *given)))


def silu_and_mul(x: Any, *, out: Any = None) -> Any:
    """out[i, c] = silu(x[i, c]) * x[i, n + c], with silu(x) = x / (1 + exp(-x)), rounded once.

    Args:
      x: float16 or bfloat16 [m, 2 * n], n a multiple of 8.
      out: the same dtype, [m, n].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _silu_and_mul(x, out)
    return out if made is None else made


def topk_sum(
    x: Any,
    *,
    top_k: int,
    topk_ids: Any = None,
    num_experts: int = 0,
    expert_map: Any = None,
    out: Any = None,
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

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _topk_sum(x, top_k, topk_ids, num_experts, expert_map, out)
    return out if made is None else made
