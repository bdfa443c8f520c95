"""What vLLM's Marlin MoE layers call, with vLLM's names and arguments, by this package's kernels.

    import marlin_moe.vllm

    marlin_moe.vllm.install()  # before vLLM loads a model

The signatures are those of vllm/_custom_ops.py in vLLM 0.33. Weights, scales, zero points and the
lists of an alignment have the same layouts in both.
"""

from __future__ import annotations

import importlib
from typing import Any

from .align import Alignment
from .errors import invalid
from .gemm import moe_gemm
from .prepare import repack_awq, repack_gptq
from .weights import GROUP_SIZE_CHANNEL, ExpertWeights

# Our names of the weight types, by what vLLM's print as.
_B_TYPES = {
    "uint4": "kU4",
    "uint4b8": "kU4B8",
    "uint8b128": "kU8B128",
    "float8_e4m3fn": "kFE4M3fn",
    "float4_e2m1f": "kFE2M1f",
}
_A_TYPES = {
    "float16": "kFloat16",
    "bfloat16": "kBFloat16",
    "int8": "kS8",
    "float8_e4m3fn": "kFE4M3fn",
}


def moe_wna16_marlin_gemm(
    input: Any,
    output: Any,
    b_qweight: Any,
    b_bias: Any,
    b_scales: Any,
    a_scales: Any,
    global_scale: Any,
    b_qzeros: Any,
    workspace: Any,
    sorted_token_ids: Any,
    expert_ids: Any,
    num_tokens_past_padded: Any,
    topk_weights: Any,
    moe_block_size: int,
    top_k: int,
    mul_topk_weights: bool,
    b_q_type: Any,
    size_m: int,
    size_n: int,
    size_k: int,
    use_atomic_add: bool,
    use_fp32_reduce: bool,
    is_zp_float: bool,
    thread_k: int = -1,
    thread_n: int = -1,
    blocks_per_sm: int = -1,
) -> Any:
    """Multiplies each token with the weights of its experts, as moe_gemm() does.

    The package keeps its own workspace, chooses its own tiles and sums in float32: `workspace` and
    `use_fp32_reduce` change nothing.

    Args:
      input: [size_m, size_k] float16, bfloat16, int8 or float8_e4m3fn.
      output: [size_m * top_k, size_n] of the result's type, or None.
      b_qweight: int32 [num_experts, size_k / 16, size_n * bits / 2].
      b_bias: [num_experts, size_n], or None.
      b_scales: [num_experts, num_groups, size_n]; its dtype tells the scales of MXFP4 and NVFP4.
      a_scales: float32 [size_m] or [size_m, 1] beside 8-bit input.
      global_scale: float32 [num_experts], NVFP4 only.
      b_qzeros: int32 [num_experts, num_groups, size_n / 8], `uint4` only.
      workspace: not used.
      sorted_token_ids: int32, from moe_align_block_size(), as are the next two.
      expert_ids: int32, -1 for blocks to skip.
      num_tokens_past_padded: int32 [1].
      topk_weights: float32, size_m * top_k of them.
      moe_block_size: ids of a block.
      top_k: experts per row of `input`.
      mul_topk_weights: whether to multiply by topk_weights.
      b_q_type: vLLM's ScalarType of the weights.
      size_m: rows of `input`.
      size_n: output columns.
      size_k: columns of `input`.
      use_atomic_add: sum by atomic additions.
      use_fp32_reduce: not used.
      is_zp_float: must be false.
      thread_k: must be -1, as must be the next two.
      thread_n: likewise.
      blocks_per_sm: likewise.

    Returns:
      `output`, or the tensor that was made in its place.
    """
    if is_zp_float:
        raise invalid("is_zp_float", is_zp_float, "False: zero points are integers")
    for name, given in (
        ("thread_k", thread_k),
        ("thread_n", thread_n),
        ("blocks_per_sm", blocks_per_sm),
    ):
        if given != -1:
            raise invalid(name, given, "-1: tiles are chosen by the library")
    _check_sizes(input, b_scales, size_m, size_n, size_k)
    a_type = _named("input: dtype", _dtype(input), _A_TYPES)
    eight_bit = a_type in ("kS8", "kFE4M3fn")
    groups = b_scales.shape[1]
    weights = ExpertWeights(
        b=b_qweight,
        scales=b_scales,
        b_type=_named("b_q_type", str(b_q_type), _B_TYPES),
        group_size=GROUP_SIZE_CHANNEL if groups == 1 else size_k // groups,
        a_type=a_type,
        c_type=_result_type(input, output, b_scales),
        zero_points=b_qzeros,
        global_scales=global_scale,
        bias=b_bias,
        # Beside int8 vLLM multiplies a_scales by what the weights' scales are multiples of.
        a_factor=a_scales.view(-1)[:1] if a_type == "kS8" and groups > 1 else None,
    )
    return moe_gemm(
        input,
        weights,
        Alignment(sorted_token_ids, expert_ids, num_tokens_past_padded, moe_block_size),
        top_k=top_k,
        a_scales=a_scales.view(-1) if eight_bit and a_scales is not None else a_scales,
        topk_weights=topk_weights if mul_topk_weights else None,
        expert_parallel=True,
        atomic_reduce=use_atomic_add,
        out=output,
    )


def gptq_marlin_moe_repack(
    b_q_weight: Any, size_k: int, size_n: int, num_bits: int, is_a_8bit: bool = False
) -> Any:
    """Repacks weights that are packed along their rows, as repack_gptq() does.

    Args:
      b_q_weight: int32 [num_experts, size_k * num_bits / 32, size_n].
      size_k: rows.
      size_n: columns.
      num_bits: 4 or 8.
      is_a_8bit: whether they will meet 8-bit activations.

    Returns:
      int32 [num_experts, size_k / 16, size_n * num_bits / 2].
    """
    _check_shape(b_q_weight, (size_k * num_bits // 32, size_n))
    return repack_gptq(b_q_weight, **_layout({4: "kU4B8", 8: "kU8B128"}, num_bits, is_a_8bit))


def awq_marlin_moe_repack(
    b_q_weight: Any, size_k: int, size_n: int, num_bits: int, is_a_8bit: bool = False
) -> Any:
    """Repacks weights that are packed along their columns, as repack_awq() does.

    Args:
      b_q_weight: int32 [num_experts, size_k, size_n * num_bits / 32].
      size_k: rows.
      size_n: columns.
      num_bits: 4 or 8.
      is_a_8bit: whether they will meet 8-bit activations.

    Returns:
      int32 [num_experts, size_k / 16, size_n * num_bits / 2].
    """
    _check_shape(b_q_weight, (size_k, size_n * num_bits // 32))
    return repack_awq(b_q_weight, **_layout({4: "kU4", 8: "kU8B128"}, num_bits, is_a_8bit))


def install() -> None:
    """Puts the three functions in the place of those of vllm._custom_ops.

    vLLM's layers look them up there at each call. Call it in each process that runs a model.
    """
    operators = importlib.import_module("vllm._custom_ops")
    for function in (moe_wna16_marlin_gemm, gptq_marlin_moe_repack, awq_marlin_moe_repack):
        if not hasattr(operators, function.__name__):
            raise invalid(
                "vllm._custom_ops",
                f"a module without {function.__name__}",
                "that of vLLM 0.33, or another that has the function",
            )
    for function in (moe_wna16_marlin_gemm, gptq_marlin_moe_repack, awq_marlin_moe_repack):
        setattr(operators, function.__name__, function)


def _layout(b_types: dict[int, str], num_bits: int, is_a_8bit: bool) -> dict[str, Any]:
    """Returns the types whose layout weights of so many bits have.

    For FP8 activations vLLM has re-encoded the weights before: what is left is int8's layout.
    """
    if num_bits not in b_types:
        raise invalid("num_bits", num_bits, "4, 8")
    if not is_a_8bit:
        return {"b_type": b_types[num_bits], "a_type": "kBFloat16"}
    if num_bits == 8:  # only FP8 activations have weights of eight bits
        return {"b_type": "kFE4M3fn", "a_type": "kFE4M3fn"}
    return {"b_type": b_types[num_bits], "a_type": "kS8"}


def _named(argument: str, name: str, names: dict[str, str]) -> str:
    if name not in names:
        raise invalid(argument, name, ", ".join(names))
    return names[name]


def _dtype(tensor: Any) -> str:
    """Returns the name of a dtype, without the module that PyTorch's has."""
    return str(tensor.dtype).rpartition(".")[2]


def _result_type(input: Any, output: Any, scales: Any) -> str:
    """Returns the type of the result: that of 16-bit input, of `output`, or of 16-bit scales."""
    for tensor in (input, output, scales):
        name = "" if tensor is None else _dtype(tensor)
        if name in ("float16", "bfloat16"):
            return _A_TYPES[name]
    return "kBFloat16"


def _check_sizes(input: Any, scales: Any, size_m: int, size_n: int, size_k: int) -> None:
    if tuple(input.shape) != (size_m, size_k):
        raise invalid(
            "input", f"shape {tuple(input.shape)}", f"({size_m}, {size_k}), (size_m, size_k)"
        )
    if len(scales.shape) != 3 or scales.shape[2] != size_n:
        raise invalid(
            "b_scales", f"shape {tuple(scales.shape)}", f"(num_experts, num_groups, {size_n})"
        )


def _check_shape(weights: Any, shape: tuple[int, int]) -> None:
    if tuple(weights.shape[1:]) != shape:
        raise invalid(
            "b_q_weight", f"shape {tuple(weights.shape)}", f"(num_experts, {shape[0]}, {shape[1]})"
        )
