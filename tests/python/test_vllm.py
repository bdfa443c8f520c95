"""marlin_moe.vllm: what vLLM's arguments become."""

from __future__ import annotations

import sys
import types
from typing import Any

import marlin_moe.vllm as front
import pytest
from conftest import Stub
from frameworks import Tensor
from marlin_moe import InvalidArgumentError

EXPERTS, K, N, M, TOP_K = 16, 256, 512, 5, 4
CAPACITY = M * TOP_K + EXPERTS * 15


class Viewed(Tensor):
    """A column whose view is a list, as torch's is."""

    def view(self, size: int) -> Tensor:
        assert size == -1
        return Tensor((self.shape[0],), self.dtype, pointer=self.pointer)


def arguments(**changes: Any) -> dict[str, Any]:
    """A call of vLLM's: GPTQ weights and bfloat16 activations."""
    given: dict[str, Any] = {
        "input": Tensor((M, K), "bfloat16"),
        "output": Tensor((M * TOP_K, N), "bfloat16"),
        "b_qweight": Tensor((EXPERTS, K // 16, N * 2), "int32"),
        "b_bias": None,
        "b_scales": Tensor((EXPERTS, K // 128, N), "bfloat16"),
        "a_scales": None,
        "global_scale": None,
        "b_qzeros": None,
        "workspace": Tensor((528,), "int32"),
        "sorted_token_ids": Tensor((CAPACITY,), "int32"),
        "expert_ids": Tensor((CAPACITY // 16 + 1,), "int32"),
        "num_tokens_past_padded": Tensor((1,), "int32"),
        "topk_weights": Tensor((M, TOP_K), "float32"),
        "moe_block_size": 16,
        "top_k": TOP_K,
        "mul_topk_weights": True,
        "b_q_type": "uint4b8",
        "size_m": M,
        "size_n": N,
        "size_k": K,
        "use_atomic_add": False,
        "use_fp32_reduce": True,
        "is_zp_float": False,
    }
    return given | changes


def test_each_argument_arrives(stub: Stub) -> None:
    given = arguments(b_bias=Tensor((EXPERTS, N), "bfloat16"))
    assert front.moe_wna16_marlin_gemm(*given.values()) is given["output"]
    fields = stub.call("moe_gemm")
    for name, ours in (
        ("input", "a"),
        ("output", "c"),
        ("b_qweight", "b"),
        ("b_bias", "bias"),
        ("b_scales", "scales"),
        ("sorted_token_ids", "sorted_token_ids"),
        ("expert_ids", "expert_ids"),
        ("num_tokens_past_padded", "num_tokens_past_padded"),
        ("topk_weights", "topk_weights"),
    ):
        assert fields[ours] == given[name].pointer, name
    assert (fields["m"], fields["n"], fields["k"], fields["top_k"]) == (M, N, K, TOP_K)
    assert (fields["block_size"], fields["group_size"]) == (16, 128)
    assert (fields["a_type"], fields["b_type"], fields["c_type"]) == (
        "kBFloat16",
        "kU4B8",
        "kBFloat16",
    )
    assert (fields["expert_parallel"], fields["atomic_reduce"]) == (1, 0)


def test_weights_of_tokens_atomics_and_output_are_the_callers_choice(stub: Stub) -> None:
    given = arguments(mul_topk_weights=False, use_atomic_add=True, output=None)
    made = front.moe_wna16_marlin_gemm(**given)
    fields = stub.call("moe_gemm")
    assert (fields["topk_weights"], fields["atomic_reduce"]) == (0, 1)
    assert (fields["c"], made.shape) == (made.pointer, (M * TOP_K, N))


def test_a_single_group_is_a_scale_for_each_column(stub: Stub) -> None:
    front.moe_wna16_marlin_gemm(**arguments(b_scales=Tensor((EXPERTS, 1, N), "bfloat16")))
    assert stub.call("moe_gemm")["group_size"] == -1


@pytest.mark.parametrize(("dtype", "a_type"), [("int8", "kS8"), ("float8_e4m3fn", "kFE4M3fn")])
def test_eight_bit_input_brings_its_scales(stub: Stub, dtype: str, a_type: str) -> None:
    rows = Viewed((M, 1), "float32")
    given = arguments(input=Tensor((M, K), dtype), a_scales=rows)
    if dtype == "int8":
        given["b_scales"] = Tensor((EXPERTS, 1, N), "bfloat16")
    front.moe_wna16_marlin_gemm(**given)
    fields = stub.call("moe_gemm")
    assert (fields["a_type"], fields["a_scales"]) == (a_type, rows.pointer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_zp_float": True}, "is_zp_float = True"),
        ({"thread_k": 64}, "thread_k = 64"),
        ({"thread_n": 128}, "thread_n = 128"),
        ({"blocks_per_sm": 2}, "blocks_per_sm = 2"),
        ({"size_m": M + 1}, "input = shape (5, 256)"),
        ({"size_k": K // 2}, "input = shape (5, 256)"),
        ({"size_n": N // 2}, "b_scales = shape (16, 2, 512)"),
        ({"b_q_type": "uint3b4"}, "b_q_type = uint3b4"),
        ({"input": Tensor((M, K), "float32")}, "input: dtype = float32"),
        ({"b_qzeros": Tensor((EXPERTS, 2, N // 8), "int32")}, "zero_points = a tensor"),
        ({"a_scales": Viewed((M, 1), "float32")}, "a_scales = "),
    ],
)
def test_what_is_not_served_is_refused(stub: Stub, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        front.moe_wna16_marlin_gemm(**arguments(**changes))
    assert str(caught.value).startswith(message)
    assert "moe_gemm" not in [name for name, _ in stub.calls()]


@pytest.mark.parametrize(
    ("bits", "is_a_8bit", "types"),
    [
        (4, False, ("kU4B8", "kBFloat16")),
        (8, False, ("kU8B128", "kBFloat16")),
        (4, True, ("kU4B8", "kS8")),
        (8, True, ("kFE4M3fn", "kFE4M3fn")),
    ],
)
def test_gptq_weights(stub: Stub, bits: int, is_a_8bit: bool, types: tuple[str, str]) -> None:
    weights = Tensor((EXPERTS, K * bits // 32, N), "int32")
    made = front.gptq_marlin_moe_repack(weights, K, N, bits, is_a_8bit)
    fields = stub.call("repack_gptq")
    assert (fields["qweight"], fields["out"]) == (weights.pointer, made.pointer)
    assert (fields["b_type"], fields["a_type"]) == types
    assert made.shape == (EXPERTS, K // 16, N * bits // 2)


def test_awq_weights(stub: Stub) -> None:
    weights = Tensor((EXPERTS, K, N // 8), "int32")
    made = front.awq_marlin_moe_repack(weights, K, N, 4)
    fields = stub.call("repack_awq")
    assert (fields["qweight"], fields["b_type"], fields["a_type"]) == (
        weights.pointer,
        "kU4",
        "kBFloat16",
    )
    assert made.shape == (EXPERTS, K // 16, N * 2)


def test_wrong_sizes_are_refused_before_any_launch(stub: Stub) -> None:
    weights = Tensor((EXPERTS, K // 8, N), "int32")
    for sizes in ((K, N // 2, 4), (K * 2, N, 4), (K, N, 8), (K, N, 3)):
        with pytest.raises(InvalidArgumentError):
            front.gptq_marlin_moe_repack(weights, *sizes)
        with pytest.raises(InvalidArgumentError):
            front.awq_marlin_moe_repack(weights, *sizes)
    assert stub.calls() == []


NAMES = ("moe_wna16_marlin_gemm", "gptq_marlin_moe_repack", "awq_marlin_moe_repack")


def test_install_replaces_all_three_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    operators = types.ModuleType("vllm._custom_ops")
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm._custom_ops", operators)
    for name in NAMES[:2]:
        setattr(operators, name, None)
    with pytest.raises(InvalidArgumentError, match="without awq_marlin_moe_repack"):
        front.install()
    assert operators.__dict__["moe_wna16_marlin_gemm"] is None
    operators.__dict__["awq_marlin_moe_repack"] = None
    front.install()
    assert [getattr(operators, name) for name in NAMES] == [getattr(front, name) for name in NAMES]
