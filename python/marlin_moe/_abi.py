"""The structs and functions of marlin_moe.h for ctypes.

A test compares them with the header. The library refuses structs of another size than its own.
"""

from __future__ import annotations

import ctypes
import operator
from ctypes import POINTER, c_int32, c_int64, c_size_t, c_void_p
from typing import Any

from .errors import invalid

# Values of marlin_moe_status.
OK = 0
INVALID_ARGUMENT = 1
INSUFFICIENT_WORKSPACE = 2
NO_KERNEL = 3
CUDA_ERROR = 4


def check_int32(name: str, given: int) -> None:
    """Refuses a number that ctypes would cut to 32 bits without a word.

    Raises:
      InvalidArgumentError: it has more.
    """
    if not -(2**31) <= given < 2**31:
        raise invalid(name, given, "-2147483648 to 2147483647")


class Args(ctypes.Structure):
    """A struct of arguments, which knows its own size."""

    # Kept for each struct, as every call sets some 30 fields.
    _names: frozenset[str]
    _numbers: frozenset[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._names = frozenset(field[0] for field in cls._fields_)
        cls._numbers = frozenset(field[0] for field in cls._fields_ if field[1] is c_int32)

    def __init__(self, **fields: Any) -> None:
        unknown = fields.keys() - self._names
        if unknown:
            raise TypeError(f"{type(self).__name__} has no fields {sorted(unknown)}")
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)

    # The constructor comes by here too.
    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._numbers:
            check_int32(name, operator.index(value))
        super().__setattr__(name, value)


def _fields(numbers: str = "", pointers: str = "", **others: Any) -> list[tuple[str, Any]]:
    """Lists `struct_size`, int32 fields, other ones and pointers, in this order."""
    return [
        ("struct_size", c_size_t),
        *((name, c_int32) for name in numbers.split()),
        *others.items(),
        *((name, c_void_p) for name in pointers.split()),
    ]


class GemmArgs(Args):
    _fields_ = [
        *_fields(
            "m n k num_experts top_k block_size a_type b_type c_type s_type group_size num_groups "
            "expert_parallel atomic_reduce",
            "a a_scales b scales zero_points global_scales bias g_idx perm topk_weights "
            "sorted_token_ids expert_ids num_tokens_past_padded c workspace",
            a_stride=c_int64,
        ),
        ("workspace_bytes", c_size_t),
        ("stream", c_void_p),
    ]


class GemmConfig(Args):
    _fields_ = _fields("thread_k thread_n threads blocks_per_sm stripe_slack")


class PaddedShapeArgs(Args):
    _fields_ = _fields("n k a_type b_type group_size", "")


class RepackGptqArgs(Args):
    _fields_ = _fields(
        "num_experts n k a_type b_type source_n source_k column_parts", "qweight perm out stream"
    )


class RepackAwqArgs(Args):
    _fields_ = _fields(
        "num_experts n k a_type b_type num_groups source_n source_k column_parts",
        "qweight qzeros out stream",
    )


class RepackRowsArgs(Args):
    _fields_ = _fields(
        "num_experts n k a_type b_type source_n source_k column_parts", "weights out stream"
    )


class SortRowsByGroupArgs(Args):
    _fields_ = _fields("num_experts k", "g_idx perm sorted_g_idx stream")


class PermuteScalesArgs(Args):
    _fields_ = _fields(
        "num_experts num_groups n a_type b_type c_type s_type group_size columns_first "
        "source_n source_groups column_parts",
        "scales out global_scales stream",
    )


class ScaleGlobalScalesArgs(Args):
    _fields_ = _fields("num_experts c_type", "global_scales out stream")


class PermuteBiasArgs(Args):
    _fields_ = _fields("num_experts n source_n column_parts", "bias out stream")


class PermuteZeroPointsArgs(Args):
    _fields_ = _fields(
        "num_experts num_groups n a_type source_n source_groups column_parts", "qzeros out stream"
    )


class AlignArgs(Args):
    _fields_ = [
        *_fields(
            "num_ids num_experts block_size drop_remote",
            "topk_ids expert_map sorted_token_ids expert_ids num_tokens_past_padded workspace",
        ),
        ("workspace_bytes", c_size_t),
        ("stream", c_void_p),
    ]


class QuantizeActivationsArgs(Args):
    _fields_ = _fields("m k x_type out_type", "x out scales factor stream", x_stride=c_int64)


class SiluAndMulArgs(Args):
    _fields_ = _fields("m n type", "x out stream")


class TopkSumArgs(Args):
    _fields_ = _fields(
        "m n top_k type num_experts",
        "x out topk_ids expert_map stream",
    )


# Parameters of the functions that return a status, by name without `marlin_moe_`.
FUNCTIONS: dict[str, list[Any]] = {
    "gemm": [POINTER(GemmArgs), POINTER(GemmConfig)],
    "gemm_workspace_size": [POINTER(GemmArgs), POINTER(GemmConfig), POINTER(c_size_t)],
    "gemm_max_workspace_size": [POINTER(GemmArgs), POINTER(c_size_t)],
    "gemm_choose_block_size": [POINTER(GemmArgs), POINTER(c_int32)],
    "gemm_choose_config": [POINTER(GemmArgs), POINTER(GemmConfig)],
    "padded_shape": [POINTER(PaddedShapeArgs), *[POINTER(c_int32)] * 3],
    "repack_gptq": [POINTER(RepackGptqArgs)],
    "repack_awq": [POINTER(RepackAwqArgs)],
    "repack_rows": [POINTER(RepackRowsArgs)],
    "sort_rows_by_group": [POINTER(SortRowsByGroupArgs)],
    "permute_scales": [POINTER(PermuteScalesArgs)],
    "scale_global_scales": [POINTER(ScaleGlobalScalesArgs)],
    "permute_bias": [POINTER(PermuteBiasArgs)],
    "permute_zero_points": [POINTER(PermuteZeroPointsArgs)],
    "align": [POINTER(AlignArgs)],
    "align_capacity": [POINTER(AlignArgs), POINTER(c_int64)],
    "align_workspace_size": [POINTER(AlignArgs), POINTER(c_size_t)],
    "quantize_activations": [POINTER(QuantizeActivationsArgs)],
    "silu_and_mul": [POINTER(SiluAndMulArgs)],
    "topk_sum": [POINTER(TopkSumArgs)],
}
