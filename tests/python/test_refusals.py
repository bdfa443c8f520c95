"""The real library on a machine without a GPU: what it refuses, up to where it needs a device.

On machines with a GPU the device is hidden.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import marlin_moe
import numpy as np
import pytest
from frameworks import Tensor
from marlin_moe import CudaError, ExpertWeights, InvalidArgumentError

os.environ["CUDA_VISIBLE_DEVICES"] = ""

EXPERTS, K, N, M = 8, 256, 512, 4


def weights(**changes: Any) -> ExpertWeights:
    fields: dict[str, Any] = {
        "b": Tensor((EXPERTS, K // 16, N * 2), "int32"),
        "scales": Tensor((EXPERTS, K // 128, N), "bfloat16"),
        "b_type": "kU4B8",
        "group_size": 128,
    }
    return ExpertWeights(**{**fields, **changes})


def gemm(**changes: Any) -> Any:
    capacity = marlin_moe.alignment_capacity(2 * M, EXPERTS, 16)
    lists = [Tensor((length,), "int32") for length in (capacity, capacity // 16, 1)]
    given: dict[str, Any] = {
        "a": Tensor((M, K), "bfloat16"),
        "weights": weights(),
        "alignment": marlin_moe.Alignment(*lists, block_size=16),
        "top_k": 2,
        "out": Tensor((2 * M, N), "bfloat16"),
    }
    return marlin_moe.moe_gemm(**{**given, **changes})


# Calls whose arguments are fine.
FINE: dict[str, Callable[[], Any]] = {
    "silu_and_mul": lambda: marlin_moe.silu_and_mul(
        Tensor((M, 128), "float16"), out=Tensor((M, 64), "float16")
    ),
    "topk_sum": lambda: marlin_moe.topk_sum(Tensor((M, 64), "float16"), top_k=2),
    "quantize_activations": lambda: marlin_moe.quantize_activations(
        Tensor((M, 64), "bfloat16"), out_type="kS8"
    ),
    "moe_align": lambda: marlin_moe.moe_align(
        Tensor((M, 2), "int32"), num_experts=EXPERTS, block_size=16
    ),
    "repack_gptq": lambda: marlin_moe.repack_gptq(Tensor((8, 16, 64), "int32"), b_type="kU4B8"),
    "moe_gemm": gemm,
    "moe_gemm_choose_config": lambda: marlin_moe.moe_gemm_choose_config(
        Tensor((M, K), "bfloat16"), weights(), top_k=2, block_size=16
    ),
    "MoeLayer": lambda: marlin_moe.MoeLayer(
        weights(),
        weights(
            b=Tensor((EXPERTS, N // 2 // 16, K * 2), "int32"),
            scales=Tensor((EXPERTS, N // 2 // 128, K), "bfloat16"),
        ),
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_gets_as_far_as_the_missing_device(name: str) -> None:
    with pytest.raises(CudaError, match=r"^cudaGetDevice: "):
        FINE[name]()


# Numbers that the C++ API refuses, in its words.
REFUSED: dict[str, Callable[[], Any]] = {
    "block_size = 7 is not allowed; allowed: ": lambda: marlin_moe.alignment_capacity(20, 16, 7),
    "num_experts = 1025 is not allowed; allowed: 1 to 1024": lambda: marlin_moe.moe_align(
        Tensor((M, 2), "int32"), num_experts=1025, block_size=16
    ),
    "out_type = kU4 is not allowed; allowed: kS8, kFE4M3fn": lambda: (
        marlin_moe.quantize_activations(Tensor((M, 64), "bfloat16"), out_type="kU4")
    ),
    "b_type = 'kInt4' is not allowed; allowed: kFloat16, kBFloat16, ": lambda: (
        marlin_moe.repack_rows(Tensor((8, 64, 64), "uint8"), b_type="kInt4")
    ),
    "b_type = kS8 is not allowed; allowed: kU4, ": lambda: weights(b_type="kS8"),
    "m = -1 is not allowed; allowed: 0 or more": lambda: marlin_moe.moe_gemm_block_size(-1, 8, 2),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_arguments_are_refused_without_a_device(message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        REFUSED[message]()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("kind", [marlin_moe.MarlinMoeError, ValueError])
def test_arrays_on_the_cpu_are_refused(kind: type[Exception]) -> None:
    x = np.zeros((M, 128), dtype=np.float16)
    with pytest.raises(kind, match=r"^x = a tensor on the CPU is not allowed; allowed: a tensor"):
        marlin_moe.silu_and_mul(x)
    with pytest.raises(kind, match=r"^out = a tensor on the CPU is not allowed"):
        marlin_moe.silu_and_mul(Tensor((M, 128), "float16"), out=x[:, :64])


def test_numbers_of_the_library() -> None:
    assert marlin_moe.moe_gemm_block_size(1, 128, 8) == 8
    assert marlin_moe.moe_gemm_block_size(1, 128, 8, "kS8") == 16
    assert marlin_moe.moe_gemm_block_size(10_000, 128, 8, marlin_moe.ScalarType.FE4M3FN) == 64
    assert marlin_moe.alignment_capacity(20, 16, 16) == (20 + 16 * 15) // 16 * 16
