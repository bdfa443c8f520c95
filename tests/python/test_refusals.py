"""Wrong arguments are refused before anything is launched; the message names them.

Each also gives every tensor back to its framework.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import marlin_moe
import numpy as np
import pytest
from capsules import CPU, CUDA, CUDA_HOST, READ_ONLY, FakeTensor, Memory
from marlin_moe import Alignment, ExpertWeights, InvalidArgumentError
from stub import Stub

EXPERTS, K, N, M, TOP_K = 8, 256, 512, 6, 2


def operands(memory: Memory) -> dict[str, Any]:
    """Arguments of a moe_gemm() that is fine."""
    return {
        "a": memory((M, K), "bfloat16"),
        "b": memory((EXPERTS, K // 16, N * 2), "int32"),
        "scales": memory((EXPERTS, K // 128, N), "bfloat16"),
        "sorted_token_ids": memory((64,), "int32"),
        "expert_ids": memory((4,), "int32"),
        "num_tokens_past_padded": memory((1,), "int32"),
        "out": memory((M * TOP_K, N), "bfloat16"),
    }


def run(tensors: dict[str, Any], memory: Memory, **options: Any) -> Any:
    given = dict(tensors)
    names = [field.name for field in dataclasses.fields(ExpertWeights)]
    weights = {name: given.pop(name) for name in names if name in given}
    blocks = [given.pop(name) for name in Alignment._fields[:3]]
    weights_options = {"b_type": "kU4B8", "group_size": 128}
    weights_options |= {name: options.pop(name) for name in names if name in options}
    return marlin_moe.moe_gemm(
        given.pop("a"),
        ExpertWeights(**weights, **weights_options),
        Alignment(*blocks, options.pop("block_size", 16)),
        top_k=options.pop("top_k", TOP_K),
        empty=memory,
        stream=0,
        **given,
        **options,
    )


def refusal(stub: Stub, call: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        call()
    launched = [name for name, _ in stub.calls() if not name.endswith(("size", "capacity"))]
    assert launched == []
    return str(caught.value)


def test_the_arguments_are_fine(stub: Stub, memory: Memory) -> None:
    run(operands(memory), memory)
    assert [name for name, _ in stub.calls()] == ["gemm_workspace_size", "memset", "gemm"]


WRONG: list[tuple[str, tuple[int, ...], str, str]] = [
    ("a", (M, K), "int32", "a = dtype int32 is not allowed; allowed: float16, bfloat16, int8"),
    ("a", (K,), "bfloat16", "a = shape (256,) is not allowed; allowed: shape (any, any)"),
    ("b", (EXPERTS, K // 16, N * 2), "int64", "b = dtype int64 is not allowed; allowed: int32"),
    (
        "b",
        (EXPERTS, 4, N * 2),
        "int32",
        "b = shape (8, 4, 1024) is not allowed; allowed: shape (any, 16, any), which is "
        "[num_experts, k / 16, n * bits / 2] with k = 256, as `a` has",
    ),
    (
        "scales",
        (EXPERTS, 2, N + 64),
        "bfloat16",
        "scales = shape (8, 2, 576) is not allowed; allowed: shape (8, any, 512)",
    ),
    ("scales", (EXPERTS, 2, N), "float32", "scales = dtype float32 is not allowed"),
    ("sorted_token_ids", (64,), "int64", "sorted_token_ids = dtype int64 is not allowed"),
    ("sorted_token_ids", (64, 1), "int32", "sorted_token_ids = shape (64, 1) is not allowed"),
    ("expert_ids", (4,), "float32", "expert_ids = dtype float32 is not allowed"),
    ("num_tokens_past_padded", (2,), "int32", "num_tokens_past_padded = shape (2,)"),
    ("out", (M * TOP_K, N), "float16", "out = dtype float16 is not allowed; allowed: bfloat16"),
    ("out", (M, N), "bfloat16", "out = shape (6, 512) is not allowed; allowed: shape (12, 512)"),
    ("zero_points", (EXPERTS, 2, N), "int32", "zero_points = shape (8, 2, 512)"),
    ("global_scales", (EXPERTS, 1), "float32", "global_scales = shape (8, 1)"),
    ("bias", (EXPERTS, N), "float32", "bias = dtype float32"),
    ("g_idx", (EXPERTS, N), "int32", "g_idx = shape (8, 512)"),
    ("perm", (EXPERTS, K), "int64", "perm = dtype int64"),
    ("a_scales", (M + 1,), "float32", "a_scales = shape (7,)"),
    ("topk_weights", (M, 3), "float32", "topk_weights = shape (6, 3) is not allowed; allowed"),
    ("topk_weights", (M, TOP_K), "bfloat16", "topk_weights = dtype bfloat16"),
]


@pytest.mark.parametrize(("name", "shape", "dtype", "message"), WRONG)
def test_wrong_tensors_are_named(
    stub: Stub, memory: Memory, name: str, shape: tuple[int, ...], dtype: str, message: str
) -> None:
    tensors = {**operands(memory), name: memory(shape, dtype)}
    assert refusal(stub, lambda: run(tensors, memory)).startswith(message)
    for tensor in memory.made:
        assert tensor.producer.deleted == len(tensor.streams)


@pytest.mark.parametrize("name", ["b", "scales", "expert_ids", "out"])
def test_gaps_are_refused(stub: Stub, memory: Memory, name: str) -> None:
    tensors = operands(memory)
    shape = tensors[name].shape
    strides = tuple(2 * int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    tensors[name] = FakeTensor(shape, tensors[name].dtype, strides=strides)
    message = refusal(stub, lambda: run(tensors, memory))
    assert message.startswith(f"{name} = strides {strides} of shape {shape} is not allowed")


def test_strides_of_single_elements_do_not_matter(stub: Stub, memory: Memory) -> None:
    tensors = operands(memory)
    tensors["num_tokens_past_padded"] = FakeTensor((1,), "int32", strides=(77,))
    run(tensors, memory)


def test_rows_of_a_may_have_gaps_and_columns_may_not(stub: Stub, memory: Memory) -> None:
    tensors = {**operands(memory), "a": FakeTensor((M, K), "bfloat16", strides=(1, M))}
    message = refusal(stub, lambda: run(tensors, memory))
    assert message.startswith("a = strides (1, 6) of shape (6, 256) is not allowed")


@pytest.mark.parametrize(
    ("device", "given"),
    [
        ((CPU, 0), "a tensor on the CPU"),
        ((CUDA_HOST, 0), "a tensor in pinned memory"),
        ((10, 0), "a tensor on DLPack device type 10"),
    ],
)
def test_memory_elsewhere_is_refused(
    stub: Stub, memory: Memory, device: tuple[int, int], given: str
) -> None:
    tensors = {**operands(memory), "scales": FakeTensor((8, 2, N), "bfloat16", device=device)}
    message = refusal(stub, lambda: run(tensors, memory))
    assert message == f"scales = {given} is not allowed; allowed: a tensor on a CUDA device"


def test_a_numpy_array_is_on_the_cpu(stub: Stub) -> None:
    array = np.zeros((4, 64), dtype=np.float16)
    message = refusal(stub, lambda: marlin_moe.silu_and_mul(array))
    assert message == "x = a tensor on the CPU is not allowed; allowed: a tensor on a CUDA device"


@pytest.mark.parametrize("value", [None, 3, [1.0], "abc"])
def test_what_is_no_tensor_is_refused(stub: Stub, value: Any) -> None:
    message = refusal(stub, lambda: marlin_moe.silu_and_mul(value))
    assert message.startswith(f"x = {type(value).__name__} object is not allowed")


def test_two_devices_are_refused(stub: Stub, memory: Memory) -> None:
    tensors = {**operands(memory), "scales": FakeTensor((8, 2, N), "bfloat16", device=(CUDA, 1))}
    message = refusal(stub, lambda: run(tensors, memory))
    assert message.startswith("scales = a tensor on cuda:1 is not allowed; allowed: cuda:0, as a ")


def test_read_only_outputs_are_refused(stub: Stub, memory: Memory) -> None:
    out = FakeTensor((M * TOP_K, N), "bfloat16", version=(1, 0), flags=READ_ONLY)
    message = refusal(stub, lambda: run({**operands(memory), "out": out}, memory))
    assert message.startswith("out = a read-only tensor is not allowed")
    assert out.producer.deleted == 1


def test_read_only_inputs_are_fine(stub: Stub, memory: Memory) -> None:
    a = FakeTensor((M, K), "bfloat16", version=(1, 0), flags=READ_ONLY)
    run({**operands(memory), "a": a}, memory)
    assert stub.call("gemm")["a"] == a.pointer


def test_a_tensor_that_is_not_exported_says_why(stub: Stub, memory: Memory) -> None:
    class Refusing(FakeTensor):
        def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
            raise BufferError("cannot export tensors that require gradient")

    a = Refusing((M, K), "bfloat16")
    message = refusal(stub, lambda: run({**operands(memory), "a": a}, memory))
    assert "does not export its memory (cannot export tensors that require gradient)" in message
    assert message.startswith("a = ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b_type": "kU5"}, "b_type = 'kU5' is not allowed; allowed: a ScalarType or its name: "),
        ({"a_type": "kFloat16"}, "a = dtype bfloat16 is not allowed; allowed: float16, int16"),
        ({"c_type": "kS8"}, "c_type = S8 is not allowed; allowed: FLOAT16, BFLOAT16"),
        ({"s_type": "kFE4M3fn"}, "scales = dtype bfloat16 is not allowed; allowed: float8_e4m3fn"),
        ({"top_k": 0}, "top_k = 0 is not allowed; allowed: 1 or more"),
        ({"workspace": 5}, "workspace = int object is not allowed"),
    ],
)
def test_wrong_options_are_named(
    stub: Stub, memory: Memory, options: dict[str, Any], message: str
) -> None:
    assert refusal(stub, lambda: run(operands(memory), memory, **options)).startswith(message)


def test_bytes_need_a_named_type(stub: Stub, memory: Memory) -> None:
    tensors = {**operands(memory), "a": memory((M, K), "uint8")}
    message = refusal(stub, lambda: run(tensors, memory))
    assert message.startswith("a = dtype uint8 is not allowed; allowed: ")
    assert message.endswith("or integers of the same width with a_type given")
    run(tensors, memory, a_type="kFE4M3fn")
    assert stub.call("gemm")["a_type"] == marlin_moe.ScalarType.FE4M3FN


def test_other_functions_name_their_arguments(stub: Stub, memory: Memory) -> None:
    ids = memory((M, TOP_K), "int64")
    message = refusal(stub, lambda: marlin_moe.moe_align(ids, num_experts=8, block_size=8))
    assert message == "topk_ids = dtype int64 is not allowed; allowed: int32"
    x = memory((7, 64), "float16")
    message = refusal(stub, lambda: marlin_moe.topk_sum(x, top_k=2))
    assert message == "top_k = 2 is not allowed; allowed: a divisor of the 7 rows of x"
    odd = memory((4, 65), "float16")
    assert refusal(stub, lambda: marlin_moe.silu_and_mul(odd)).startswith("x = shape (4, 65)")
    message = refusal(stub, lambda: marlin_moe.quantize_activations(x, out_type="kU4"))
    assert message == "out_type = U4 is not allowed; allowed: S8, FE4M3FN"


@pytest.mark.parametrize(
    ("status", "exception"),
    [
        (1, marlin_moe.InvalidArgumentError),
        (2, marlin_moe.InsufficientWorkspaceError),
        (3, marlin_moe.NoKernelError),
        (4, marlin_moe.CudaError),
        (99, marlin_moe.MarlinMoeError),
    ],
)
def test_statuses_are_exceptions_with_the_librarys_message(
    stub: Stub, memory: Memory, status: int, exception: type[Exception]
) -> None:
    x = memory((4, 64), "float16")
    stub.fail(status, "n = 32 is not allowed; allowed: something else")
    with pytest.raises(
        exception, match=r"^n = 32 is not allowed; allowed: something else$"
    ) as found:
        marlin_moe.silu_and_mul(x, empty=memory)
    assert type(found.value) is exception
    assert all(tensor.producer.deleted == 1 for tensor in memory.made)


def test_no_block_size_is_an_error(stub: Stub) -> None:
    stub.fail(1, "m is wrong")
    with pytest.raises(InvalidArgumentError, match="m is wrong"):
        marlin_moe.moe_gemm_block_size(1, 8, 2)
