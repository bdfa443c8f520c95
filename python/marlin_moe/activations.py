"""What a MoE layer does to activations around its two GEMMs."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._function import Function, merged, parts
from .errors import invalid


class QuantizedActivations(NamedTuple):
    """What quantize_activations() writes.

    Attributes:
      values: [m, k], int8 for kS8; for kFE4M3fn bytes (uint8) unless the caller gave e4m3 ones.
      scales: float32 [m], the a_scales of moe_gemm().
    """

    values: Any
    scales: Any


_quantize = Function("quantize_activations", "x", "out_type", "factor", "out.values", "out.scales")
_act_and_mul = Function("act_and_mul", "x", "activation", "interleaved", "alpha", "limit", "out")
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


# Our names of the two forms of GELU, by what PyTorch calls them.
_GELU = {"none": "gelu", "tanh": "gelu_tanh"}


def silu_and_mul(x: Any, *, interleaved: bool = False, out: Any = None) -> Any:
    """out[i, c] = silu(g) * u with g = x[i, c], u = x[i, n + c], rounded once.

    silu(g) = g / (1 + exp(-g)).

    Args:
      x: float16 or bfloat16 [m, 2 * n], n a multiple of 8.
      interleaved: whether g = x[i, 2 * c] and u = x[i, 2 * c + 1] instead.
      out: the same dtype, [m, n].

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _act_and_mul(x, "silu", interleaved, None, None, out)
    return out if made is None else made


def gelu_and_mul(
    x: Any, *, approximate: str = "none", interleaved: bool = False, out: Any = None
) -> Any:
    """out[i, c] = gelu(g) * u, with g and u as silu_and_mul() takes them.

    gelu(g) = g * (1 + erf(g / sqrt(2))) / 2; with `tanh`, erf(g / sqrt(2)) is approximated by
    tanh(sqrt(2 / pi) * (g + 0.044715 * g^3)).

    Args:
      x: as silu_and_mul() takes it, as are interleaved and out.
      approximate: `none` or `tanh`, as torch.nn.functional.gelu() takes it.
      interleaved: where gates are.
      out: where the result goes.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    if not isinstance(approximate, str) or approximate not in _GELU:
        raise invalid("approximate", approximate, ", ".join(_GELU))
    made = _act_and_mul(x, _GELU[approximate], interleaved, None, None, out)
    return out if made is None else made


def swigluoai_and_mul(
    x: Any, *, alpha: float = 1.702, limit: float = 7.0, interleaved: bool = False, out: Any = None
) -> Any:
    """out[i, c] = g / (1 + exp(-alpha * g)) * (u + 1), the activation of gpt-oss.

    g and u are taken as silu_and_mul() does, g cut off at `limit` and u at both -limit and limit.

    Args:
      x: as silu_and_mul() takes it, as are interleaved and out.
      alpha: a positive number.
      limit: a positive number.
      interleaved: where gates are; checkpoints of gpt-oss have them interleaved.
      out: where the result goes.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    made = _act_and_mul(x, "swigluoai", interleaved, alpha, limit, out)
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
