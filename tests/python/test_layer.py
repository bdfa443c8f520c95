"""fused_moe(): its five steps, what each is given, and how they hang together."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import marlin_moe
import pytest
from capsules import FakeTensor, Memory
from marlin_moe import ExpertWeights, InvalidArgumentError, NoKernelError, ScalarType, Workspace
from stub import Stub

EXPERTS, HIDDEN, INNER, M, TOP_K, STREAM = 16, 256, 128, 5, 4, 0x5000
IDS = M * TOP_K
LAUNCHES = ["align", "gemm", "silu_and_mul", "gemm", "topk_sum"]


def weights(memory: Memory, k: int, n: int, **changes: Any) -> ExpertWeights:
    fields: dict[str, Any] = {
        "b": memory((EXPERTS, k // 16, n * 2), "int32"),
        "scales": memory((EXPERTS, k // 128, n), "bfloat16"),
        "b_type": "kU4B8",
        "group_size": 128,
    }
    return ExpertWeights(**{**fields, **changes})


def arguments(memory: Memory) -> dict[str, Any]:
    return {
        "x": memory((M, HIDDEN), "bfloat16"),
        "gate_up": weights(memory, HIDDEN, 2 * INNER),
        "down": weights(memory, INNER, HIDDEN),
        "topk_weights": memory((M, TOP_K), "float32"),
        "topk_ids": memory((M, TOP_K), "int32"),
    }


def run(memory: Memory, given: dict[str, Any], **options: Any) -> Any:
    return marlin_moe.fused_moe(**given, stream=STREAM, empty=memory, **options)


def launches(stub: Stub) -> list[tuple[str, dict[str, int]]]:
    queries = ("size", "capacity", "memset")
    return [(name, fields) for name, fields in stub.calls() if not name.endswith(queries)]


def test_the_steps_and_what_each_is_given(stub: Stub, memory: Memory) -> None:
    given = arguments(memory)
    out = run(memory, given)
    assert (out.shape, out.dtype) == ((M, HIDDEN), "bfloat16")
    calls = launches(stub)
    assert [name for name, _ in calls] == LAUNCHES
    assert {fields["stream"] for _, fields in calls} == {STREAM}
    align, first, silu, second, total = (fields for _, fields in calls)

    assert (align["num_ids"], align["num_experts"], align["block_size"]) == (IDS, EXPERTS, 16)
    assert (align["topk_ids"], align["drop_remote"]) == (given["topk_ids"].pointer, 1)
    assert (first["m"], first["k"], first["n"]) == (M, HIDDEN, 2 * INNER)
    assert (first["top_k"], first["topk_weights"]) == (TOP_K, 0)
    assert first["a"] == given["x"].pointer
    assert first["b"] == given["gate_up"].b.pointer
    assert (silu["m"], silu["n"], silu["x"]) == (IDS, INNER, first["c"])
    assert (second["m"], second["k"], second["n"]) == (IDS, INNER, HIDDEN)
    assert (second["top_k"], second["topk_weights"]) == (1, given["topk_weights"].pointer)
    assert (second["a"], second["b"]) == (silu["out"], given["down"].b.pointer)
    assert (total["m"], total["n"], total["top_k"]) == (M, HIDDEN, TOP_K)
    assert (total["x"], total["out"]) == (second["c"], out.pointer)
    assert (total["topk_ids"], total["num_experts"]) == (given["topk_ids"].pointer, EXPERTS)
    for gemm in (first, second):
        assert gemm["block_size"] == 16
        assert (gemm["a_type"], gemm["c_type"]) == (ScalarType.BFLOAT16, ScalarType.BFLOAT16)
        for name in ("sorted_token_ids", "expert_ids", "num_tokens_past_padded"):
            assert gemm[name] == align[name]


def test_what_lies_between_the_steps_does_not_overlap(stub: Stub, memory: Memory) -> None:
    run(memory, arguments(memory))
    align, first, silu, second, _ = (fields for _, fields in launches(stub))
    capacity = (IDS + EXPERTS * 15) // 16 * 16
    parts = [
        (align["sorted_token_ids"], 4 * capacity),
        (align["expert_ids"], capacity // 16 * 4),
        (align["num_tokens_past_padded"], 4),
        (first["c"], IDS * 2 * INNER * 2),
        (silu["out"], IDS * INNER * 2),
        (second["c"], IDS * HIDDEN * 2),
    ]
    end = 0
    for start, size in sorted(parts):
        assert start % 256 == 0
        assert start >= end
        end = start + size
    buffers = [tensor for tensor in memory.made if tensor.dtype == "uint8"]
    layer = max(buffers, key=lambda tensor: tensor.shape[0])
    assert layer.pointer <= min(parts)[0]
    assert end <= layer.pointer + layer.shape[0]


def test_workspaces_are_made_once(stub: Stub, memory: Memory) -> None:
    workspace = Workspace()
    given = {**arguments(memory), "out": memory((M, HIDDEN), "bfloat16")}
    run(memory, given, workspace=workspace)
    made = len(memory.made)
    for _ in range(3):
        run(memory, given, workspace=workspace)
    assert len(memory.made) == made
    zeroed = [fields for name, fields in stub.calls() if name == "memset"]
    assert len(zeroed) == 1


@pytest.mark.parametrize(("stream", "shared"), [(STREAM, True), (2, False)])
def test_threads_share_a_workspace_only_where_they_share_the_stream(
    stub: Stub, memory: Memory, stream: int, shared: bool
) -> None:
    marlin_moe.clear_workspaces()
    # The second may have the identifier of the first, whose work may still run.
    for _ in range(2):
        given = {"stream": stream, "empty": memory, **arguments(memory)}
        thread = threading.Thread(target=marlin_moe.fused_moe, kwargs=given)
        thread.start()
        thread.join()
    used = {fields["workspace"] for name, fields in launches(stub) if name == "gemm"}
    assert len(used) == (1 if shared else 2)
    marlin_moe.clear_workspaces()


def test_everything_is_given_back(stub: Stub, memory: Memory) -> None:
    run(memory, arguments(memory))
    for tensor in memory.made:
        assert tensor.producer.deleted == len(tensor.streams) > 0
        assert set(tensor.streams) == {STREAM}


@pytest.mark.parametrize(
    ("a_type", "number"), [("kS8", ScalarType.S8), ("kFE4M3fn", ScalarType.FE4M3FN)]
)
def test_eight_bit_activations_are_quantised_before_each_gemm(
    stub: Stub, memory: Memory, a_type: str, number: ScalarType
) -> None:
    given = arguments(memory)
    factors = [memory((1,), "float32") if a_type == "kS8" else None for _ in range(2)]
    for name, factor in zip(("gate_up", "down"), factors, strict=True):
        given[name] = dataclasses.replace(given[name], a_factor=factor)
    run(memory, given, a_type=a_type)
    calls = launches(stub)
    assert [name for name, _ in calls] == [
        "align",
        "quantize_activations",
        "gemm",
        "silu_and_mul",
        "quantize_activations",
        "gemm",
        "topk_sum",
    ]
    _, before_first, first, silu, before_second, second, _ = (fields for _, fields in calls)
    assert (before_first["x"], before_first["m"]) == (given["x"].pointer, M)
    assert (before_second["x"], before_second["m"]) == (silu["out"], IDS)
    pointers = [factor.pointer if factor else 0 for factor in factors]
    assert [before_first["factor"], before_second["factor"]] == pointers
    for quantised, gemm in ((before_first, first), (before_second, second)):
        assert quantised["out_type"] == gemm["a_type"] == number
        assert (gemm["a"], gemm["a_scales"]) == (quantised["out"], quantised["scales"])
        assert gemm["c_type"] == ScalarType.BFLOAT16


def test_expert_parallelism(stub: Stub, memory: Memory) -> None:
    expert_map = memory((64,), "int32")
    run(memory, arguments(memory), num_experts=64, expert_map=expert_map, block_size=32)
    align, first, _, _, total = (fields for _, fields in launches(stub))
    for step in (align, total):
        assert (step["num_experts"], step["expert_map"]) == (64, expert_map.pointer)
    assert (first["num_experts"], first["block_size"]) == (EXPERTS, 32)


def test_no_tokens_are_nothing_to_do(stub: Stub, memory: Memory) -> None:
    given = arguments(memory)
    given |= {
        "x": memory((0, HIDDEN), "bfloat16"),
        "topk_ids": memory((0, TOP_K), "int32"),
        "topk_weights": memory((0, TOP_K), "float32"),
    }
    assert run(memory, given).shape == (0, HIDDEN)
    assert launches(stub) == []


def test_tokens_without_experts_are_zero(stub: Stub, memory: Memory) -> None:
    given = arguments(memory)
    given |= {"topk_ids": memory((M, 0), "int32"), "topk_weights": memory((M, 0), "float32")}
    out = run(memory, given)
    [(name, fields)] = stub.calls()
    assert (name, fields["pointer"]) == ("memset", out.pointer)
    assert fields["bytes"] == M * HIDDEN * 2


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        ("x", (M, HIDDEN), "float32", "x = dtype float32 is not allowed"),
        ("topk_ids", (M, TOP_K), "int64", "topk_ids = dtype int64 is not allowed"),
        ("topk_ids", (M + 1, TOP_K), "int32", "topk_ids = shape (6, 4) is not allowed"),
        ("topk_weights", (M, 3), "float32", "topk_weights = shape (5, 3) is not allowed"),
        ("topk_weights", (M, TOP_K), "bfloat16", "topk_weights = dtype bfloat16"),
        ("out", (M, INNER), "bfloat16", "out = shape (5, 128) is not allowed"),
        ("gate_up", (8, 4, 512), "int32", "gate_up.b = shape (8, 4, 512) is not allowed"),
        ("down", (8, 4, 512), "int32", "down.b = shape (8, 4, 512) is not allowed; allowed: "),
    ],
)
def test_wrong_arguments_are_named(
    stub: Stub, memory: Memory, name: str, shape: tuple[int, ...], dtype: str, message: str
) -> None:
    given = arguments(memory)
    tensor = memory(shape, dtype)
    given[name] = (
        dataclasses.replace(given[name], b=tensor) if name in ("gate_up", "down") else tensor
    )
    with pytest.raises(InvalidArgumentError) as caught:
        run(memory, given)
    assert str(caught.value).startswith(message)
    assert launches(stub) == []


SCALES = (EXPERTS, INNER // 128, HIDDEN)
WRONG_DOWN: dict[str, tuple[Callable[[Memory], dict[str, Any]], str]] = {
    "shape": (
        lambda memory: {"bias": memory((EXPERTS, 1), "bfloat16")},
        "down: bias = shape (16, 1) is not allowed; allowed: ",
    ),
    "dtype": (
        lambda memory: {"scales": memory(SCALES, "float32")},
        "down: scales = dtype float32",
    ),
    "device": (
        lambda memory: {"scales": memory(SCALES, "bfloat16", 1)},
        "down: scales = a tensor on cuda:1 is not allowed; allowed: cuda:0, as x is",
    ),
    "gaps": (
        lambda memory: {
            "scales": FakeTensor(SCALES, "bfloat16", strides=(2 * HIDDEN, 2 * HIDDEN, 2))
        },
        "down: scales = strides (512, 512, 2) of shape (16, 1, 256) is not allowed; allowed: ",
    ),
    "alignment": (
        lambda memory: {"scales": FakeTensor(SCALES, "bfloat16", byte_offset=8)},
        "down: scales = a misaligned pointer is not allowed; allowed: a device pointer aligned to "
        "16 bytes",
    ),
    "no zero points": (
        lambda memory: {"b_type": "kU4"},
        "down: zero_points = null is not allowed; allowed: a device pointer",
    ),
    "no permutation": (
        lambda memory: {"group_size": 0, "g_idx": memory((EXPERTS, INNER), "int32")},
        "down: perm = null is not allowed; allowed: a device pointer",
    ),
    "factor": (
        lambda memory: {"a_factor": memory((2,), "float32")},
        "down.a_factor = shape (2,) is not allowed; allowed: ",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_DOWN)
def test_wrong_operands_of_the_second_gemm_are_named_before_anything_runs(
    stub: Stub, memory: Memory, wrong: str
) -> None:
    changes, message = WRONG_DOWN[wrong]
    given = arguments(memory)
    given["down"] = dataclasses.replace(given["down"], **changes(memory))
    with pytest.raises(InvalidArgumentError) as caught:
        run(memory, given)
    assert str(caught.value).startswith(message)
    assert launches(stub) == []


@pytest.mark.parametrize("refused", ["gate_up", "down"])
def test_what_the_library_refuses_of_either_gemm_is_known_before_anything_runs(
    stub: Stub, memory: Memory, refused: str
) -> None:
    given = arguments(memory)
    k = HIDDEN if refused == "gate_up" else INNER
    stub.fail(3, "no kernel", having=f" k={k} ")
    with pytest.raises(NoKernelError, match=rf"^{refused}: no kernel"):
        run(memory, given)
    assert launches(stub) == []


def test_rows_that_a_gemm_cannot_read_are_refused(stub: Stub, memory: Memory) -> None:
    given = arguments(memory)
    given["x"] = FakeTensor((M, HIDDEN), "bfloat16", strides=(HIDDEN + 4, 1))
    with pytest.raises(InvalidArgumentError, match=r"^gate_up: a_stride = 260 is not allowed"):
        run(memory, given)
    assert launches(stub) == []


@pytest.mark.parametrize("name", ["gate_up", "down"])
def test_the_factor_of_grouped_scales_is_needed_for_s8_alone(
    stub: Stub, memory: Memory, name: str
) -> None:
    given = arguments(memory)
    factor = memory((1,), "float32")
    others = {"gate_up", "down"} - {name}
    for other in others:
        given[other] = dataclasses.replace(given[other], a_factor=factor)
    with pytest.raises(
        InvalidArgumentError, match=rf"^{name}.global_scales = None is not allowed.*S8"
    ):
        run(memory, given, a_type="kS8")
    for other in others:
        given[other] = dataclasses.replace(given[other], a_factor=None)
    given[name] = dataclasses.replace(given[name], a_factor=factor)
    for a_type in (None, "kFE4M3fn"):
        with pytest.raises(InvalidArgumentError, match=rf"^{name}.a_factor = a tensor is not all"):
            run(memory, given, a_type=a_type)
    assert launches(stub) == []


@pytest.mark.parametrize(
    ("offset", "stride", "message"),
    [
        (0, HIDDEN + 4, f"x = row stride {HIDDEN + 4} is not allowed; allowed: a multiple of 8"),
        (0, 0, "x = row stride 0 is not allowed"),
        (8, HIDDEN, "x = a misaligned pointer is not allowed"),
    ],
)
def test_rows_that_cannot_be_quantised_are_refused(
    stub: Stub, memory: Memory, offset: int, stride: int, message: str
) -> None:
    given = arguments(memory)
    x = given["x"]
    view = marlin_moe.TensorView(x.pointer + offset, (M, HIDDEN), "bfloat16", 0, (stride, 1))
    given["x"] = view
    with pytest.raises(InvalidArgumentError, match=rf"^{message}"):
        run(memory, given, a_type="kFE4M3fn")
    assert launches(stub) == []


def test_rows_that_lie_on_each_other_are_refused(stub: Stub, memory: Memory) -> None:
    given = arguments(memory)
    given["x"] = FakeTensor((M, HIDDEN), "bfloat16", strides=(0, 1))
    with pytest.raises(InvalidArgumentError, match=r"^gate_up: a_stride = 0 is not allowed"):
        run(memory, given)
    assert launches(stub) == []


def test_experts_without_weights_need_a_map(stub: Stub, memory: Memory) -> None:
    message = rf"^num_experts = {EXPERTS + 1} is not allowed; allowed: at most {EXPERTS}, "
    with pytest.raises(InvalidArgumentError, match=message):
        run(memory, arguments(memory), num_experts=EXPERTS + 1)
    assert launches(stub) == []


def test_other_activation_types_are_refused(stub: Stub, memory: Memory) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^a_type = U4 is not allowed"):
        run(memory, arguments(memory), a_type="kU4")
