"""What vLLM's operator moe_wna16_marlin_gemm takes, for the operands of a workload.

Its layouts of weights, scales and zero points are those of our kernels; only shapes and types of
tensors have to be told. Nothing here needs PyTorch or a GPU.
"""

from __future__ import annotations

from typing import Any

from bench_points import Layer, Quantisation
from cases import BLOCK_SIZES

# Those of bench_points.QUANTISATIONS that arguments() can describe, and that are compared.
CASES = (
    "bf16_u4b8_g128",
    "fp16_u4awq_g128",
    "bf16_mxfp4_g32",
    "bf16_fp8_ch",
    "bf16_fp8_g128",
)
# Fields of the operator's weight types, from the low end of an id: bits of the exponent, of the
# mantissa, sign, bias, whether all values are finite, kind of NaN.
_TYPE_BITS = (8, 8, 1, 32, 1, 8)
_TYPES = {
    "kU4": (0, 4, 0, 0, 0, 1),
    "kU4B8": (0, 4, 0, 8, 0, 1),
    "kFE4M3fn": (4, 3, 1, 0, 1, 2),
    "kFE2M1f": (2, 1, 1, 0, 1, 0),
}
# Elements of the operator's workspace for each multiprocessor of the device, int32 zeros.
WORKSPACE_PER_SM = 4
# Of thread_k, thread_n and blocks_per_sm: the operator's own choice.
_CHOOSE = -1


def peer_block_size(ids: int, num_experts: int) -> int:
    """Returns the block size that vLLM's Python layer aligns ids with, for 16-bit activations.

    It is the smallest that an expert's ids fill to less than nine tenths on average.
    """
    fitting = (size for size in BLOCK_SIZES if ids / num_experts / size < 0.9)
    return next(fitting, BLOCK_SIZES[-1])


def type_id(name: str) -> int:
    """Returns the operator's id of a weight type, which is not ours."""
    packed = position = 0
    for field, bits in zip(_TYPES[name], _TYPE_BITS, strict=True):
        packed |= field << position
        position += bits
    return packed


def operand_shapes(layer: Layer, case: Quantisation) -> dict[str, tuple[int, ...]]:
    """Returns the shapes that the operator asks of weights, scales and zero points."""
    groups = case.scales_per_expert(layer) // layer.n
    packed = 32 // case.b_bits
    shapes = {
        "b": (layer.num_experts, layer.k // 16, layer.n * 16 // packed),
        "scales": (layer.num_experts, groups, layer.n),
    }
    if case.b_type == "kU4":
        shapes["zero_points"] = (layer.num_experts, groups, layer.n // packed)
    return shapes


def arguments(
    layer: Layer,
    case: Quantisation,
    block_size: int,
    shared: dict[str, Any],
    operands: dict[str, Any],
) -> list[Any]:
    """Returns the operator's arguments, in its order.

    Args:
      layer: the GEMM.
      case: one of CASES.
      block_size: what the routing is aligned to.
      shared: `a` [m, k], `c` [ids, n], `topk_weights` [ids] and the operator's `workspace`.
      operands: of one set, flat, as Workload.operands() has them; `scales` of the scales' type.
    """
    shaped = {
        name: operands[name].reshape(shape) for name, shape in operand_shapes(layer, case).items()
    }
    return [
        shared["a"],
        shared["c"],
        shaped["b"],
        None,  # bias
        shaped["scales"],
        None,  # scales of 8-bit activations
        None,  # global scales
        shaped.get("zero_points"),
        shared["workspace"],
        operands["sorted_token_ids"],
        operands["expert_ids"],
        operands["num_tokens_past_padded"],
        shared["topk_weights"],
        block_size,
        1 if layer.down else layer.top_k,
        layer.down,  # whether to multiply by topk_weights
        type_id(case.b_type),
        shared["a"].shape[0],
        layer.n,
        layer.k,
        False,  # atomic additions
        True,  # sums between thread blocks in float32
        False,  # zero points are floating-point numbers
        _CHOOSE,
        _CHOOSE,
        _CHOOSE,
    ]
