"""MoeLayer: its steps, what each is given, how they hang together, and the memory between them."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import marlin_moe
import pytest
from conftest import EXPERTS, HIDDEN, INNER, Stub, make_layer, weights
from frameworks import Tensor
from marlin_moe import ExpertWeights, InvalidArgumentError, MoeLayer, NoKernelError

M, TOP_K, STREAM = 5, 4, 0x5000
IDS = M * TOP_K
LAUNCHES = ["moe_align", "moe_gemm", "act_and_mul", "moe_gemm", "topk_sum"]
QUANTISED = ["quantize_activations"]
NO_KERNEL = 3


def tokens(m: int = M) -> dict[str, Tensor]:
    return {
        "x": Tensor((m, HIDDEN), "bfloat16"),
        "topk_weights": Tensor((m, TOP_K), "float32"),
        "topk_ids": Tensor((m, TOP_K), "int32"),
    }


@pytest.fixture(autouse=True)
def stream(stub: Stub) -> None:
    del stub
    Tensor.stream = STREAM


def launches(stub: Stub) -> list[tuple[str, dict[str, Any]]]:
    return [(name, fields) for name, fields in stub.calls() if name in {*LAUNCHES, "memset"}]


def steps(stub: Stub) -> list[tuple[str, dict[str, Any]]]:
    return [(name, fields) for name, fields in launches(stub) if name != "memset"]


def test_the_steps_and_what_each_is_given(stub: Stub) -> None:
    gate_up, down = weights(HIDDEN, 2 * INNER), weights(INNER, HIDDEN)
    given = tokens()
    out = MoeLayer(gate_up, down)(**given)
    assert (out.shape, out.dtype) == ((M, HIDDEN), "bfloat16")
    calls = steps(stub)
    assert [name for name, _ in calls] == LAUNCHES
    assert {fields["stream"] for _, fields in calls} == {STREAM}
    align, first, silu, second, total = (fields for _, fields in calls)

    assert (align["num_ids"], align["num_experts"], align["block_size"]) == (IDS, EXPERTS, 16)
    assert (align["topk_ids"], align["drop_remote"]) == (given["topk_ids"].pointer, 1)
    for gemm in (first, second):
        for name in ("sorted_token_ids", "expert_ids", "num_tokens_past_padded", "block_size"):
            assert gemm[name] == align[name], name
    assert (first["a"], first["m"], first["top_k"]) == (given["x"].pointer, M, TOP_K)
    assert (first["b"], first["scales"]) == (gate_up.b.pointer, gate_up.scales.pointer)
    assert (first["n"], first["k"], first["topk_weights"]) == (2 * INNER, HIDDEN, 0)
    assert (silu["m"], silu["n"], silu["x"]) == (IDS, INNER, first["c"])
    assert (second["a"], second["m"], second["top_k"]) == (silu["out"], IDS, 1)
    assert (second["b"], second["scales"]) == (down.b.pointer, down.scales.pointer)
    assert (second["n"], second["k"]) == (HIDDEN, INNER)
    assert (second["a_stride"], second["topk_weights"]) == (INNER, given["topk_weights"].pointer)
    assert (total["x"], total["out"]) == (second["c"], out.pointer)
    assert (total["m"], total["n"], total["top_k"]) == (M, HIDDEN, TOP_K)
    assert (total["topk_ids"], total["num_experts"]) == (align["topk_ids"], EXPERTS)


def extents(calls: list[tuple[str, dict[str, Any]]]) -> list[tuple[int, int]]:
    """First and last byte of all that lies between the steps of a layer with 16-bit activations."""
    align, first, silu, second, _ = (fields for _, fields in calls)
    capacity = marlin_moe.alignment_capacity(IDS, EXPERTS, align["block_size"])
    sizes = {
        align["sorted_token_ids"]: 4 * capacity,
        align["expert_ids"]: 4 * capacity // align["block_size"],
        align["num_tokens_past_padded"]: 4,
        align["workspace"]: align["workspace_bytes"],
        first["c"]: IDS * 2 * INNER * 2,
        silu["out"]: IDS * INNER * 2,
        second["c"]: IDS * HIDDEN * 2,
    }
    return sorted((start, start + size) for start, size in sizes.items())


def test_what_lies_between_the_steps_does_not_overlap(stub: Stub) -> None:
    stub.set(align_bytes=999)
    layer, given = make_layer(), tokens()
    Tensor.made.clear()
    layer(**given)
    pieces = extents(steps(stub))
    assert len(pieces) == 7
    assert all(start % 256 == 0 for start, _ in pieces)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(pieces))
    [scratch] = [
        made
        for made in Tensor.made
        if made.pointer <= pieces[0][0] < pieces[-1][1]
        and made.pointer + made.shape[0] >= pieces[-1][1]
        and made.dtype == "uint8"
    ]
    assert scratch.memory.exports == 0  # given back when the last kernel was launched


def test_a_call_makes_its_result_its_scratch_and_once_a_workspace(stub: Stub) -> None:
    layer, given = make_layer(), tokens()
    Tensor.made.clear()
    layer(**given)
    assert len(Tensor.made) == 3
    assert [name for name, _ in launches(stub)].count("memset") == 1
    layer(**given)
    assert len(Tensor.made) == 5
    assert [name for name, _ in launches(stub)] == LAUNCHES
    layer(**given, out=Tensor((M, HIDDEN), "bfloat16"))
    assert len(Tensor.made) == 6


def test_the_result_goes_where_the_caller_says(stub: Stub) -> None:
    out = Tensor((M, HIDDEN), "bfloat16")
    assert make_layer()(**tokens(), out=out) is out
    assert stub.call("topk_sum")["out"] == out.pointer


def test_fused_moe_is_a_layer_for_one_call(stub: Stub) -> None:
    given, expert_map = tokens(), Tensor((64,), "int32")
    out = marlin_moe.fused_moe(
        **given,
        gate_up=weights(HIDDEN, 2 * INNER),
        down=weights(INNER, HIDDEN),
        num_experts=64,
        expert_map=expert_map,
        block_size=32,
        apply_router_weight_on_input=True,
    )
    calls = steps(stub)
    assert [name for name, _ in calls] == LAUNCHES
    assert calls[0][1]["block_size"] == 32
    assert calls[0][1]["expert_map"] == expert_map.pointer
    assert calls[1][1]["topk_weights"] == given["topk_weights"].pointer
    assert calls[-1][1]["out"] == out.pointer


def test_experts_of_other_devices(stub: Stub) -> None:
    expert_map = Tensor((64,), "int32")
    make_layer(num_experts=64, expert_map=expert_map)(**tokens())
    align, first, _, _, total = (fields for _, fields in steps(stub))
    for step in (align, total):
        assert (step["num_experts"], step["expert_map"]) == (64, expert_map.pointer)
    assert (align["drop_remote"], first["num_experts"]) == (1, EXPERTS)


def questions(stub: Stub) -> list[dict[str, Any]]:
    """What a layer asked for a block size with, of the device or without one."""
    names = ("device_block_size", "moe_gemm_block_size")
    return [{"name": name, **fields} for name, fields in stub.calls() if name in names]


def test_the_block_size_is_the_devices_or_the_callers(stub: Stub) -> None:
    layer = make_layer(num_experts=64, expert_map=Tensor((64,), "int32"))
    layer(**tokens())
    [asked] = questions(stub)
    assert (asked["name"], asked["device"]) == ("device_block_size", 0)
    assert (asked["m"], asked["num_experts"], asked["top_k"]) == (M, 64, TOP_K)
    assert (asked["n"], asked["k"], asked["a_type"]) == (2 * INNER, HIDDEN, "kBFloat16")
    assert layer.block_size(M, TOP_K) == 16
    layer = make_layer(block_size=48)
    assert layer.block_size(M, TOP_K) == 48
    layer(**tokens())
    assert {fields["block_size"] for name, fields in stub.calls() if name in LAUNCHES[:2]} == {48}
    for given in ((0, TOP_K), (M, None)):
        with pytest.raises(
            InvalidArgumentError, match=r"^(tokens = 0|top_k = None) is not allowed"
        ):
            layer.block_size(*given)  # type: ignore[arg-type]


def test_a_block_size_is_chosen_once_for_a_number_of_tokens(stub: Stub) -> None:
    layer = make_layer()
    for m in (M, M, M + 1, M):
        layer(**tokens(m))
    assert [asked["m"] for asked in questions(stub)] == [M, M + 1]


def test_a_block_size_is_one_that_both_gemms_have_kernels_for(stub: Stub) -> None:
    layer = make_layer()
    stub.fail("moe_gemm_choose_config", NO_KERNEL, "none of 16 rows", after=1)
    layer(**tokens())
    calls = stub.calls()
    of_down = [fields for name, fields in calls if name == "device_block_size"][1]
    assert (of_down["m"], of_down["top_k"], of_down["k"]) == (IDS, 1, INNER)
    assert {fields["block_size"] for name, fields in calls if name in LAUNCHES[:2]} == {32}


def test_where_the_first_gemm_has_no_answer_the_second_is_asked(stub: Stub) -> None:
    layer = make_layer()
    stub.fail("device_block_size", NO_KERNEL, "none")
    layer(**tokens())
    calls = stub.calls()
    assert [fields["top_k"] for name, fields in calls if name == "device_block_size"] == [TOP_K, 1]
    assert {fields["block_size"] for name, fields in calls if name in LAUNCHES[:2]} == {32}


def test_gate_and_up_are_not_taken_for_a_single_matrix(stub: Stub) -> None:
    both, single = (
        weights(HIDDEN, 2 * INNER, column_parts=2),
        weights(INNER, HIDDEN, column_parts=1),
    )
    MoeLayer(both, single)
    with pytest.raises(InvalidArgumentError, match=r"^gate_up = weights prepared as a single"):
        MoeLayer(weights(HIDDEN, 2 * INNER, column_parts=1), single)
    with pytest.raises(InvalidArgumentError, match=r"^down = weights prepared as gate and up"):
        MoeLayer(both, weights(INNER, HIDDEN, column_parts=2))


def test_router_weights_may_multiply_the_input(stub: Stub) -> None:
    given = tokens()
    make_layer(apply_router_weight_on_input=True)(**given)
    _, first, _, second, _ = (fields for _, fields in steps(stub))
    assert (first["topk_weights"], second["topk_weights"]) == (given["topk_weights"].pointer, 0)


def test_the_activation_is_the_callers(stub: Stub) -> None:
    gate_up, down = weights(HIDDEN, 2 * INNER), weights(INNER, HIDDEN)
    for options, wanted in (
        ({}, (0, 0, 1702, 7000)),
        ({"activation": "gelu"}, (1, 0, 1702, 7000)),
        ({"activation": "gelu_tanh", "interleaved": True}, (2, 1, 1702, 7000)),
        ({"activation": "swigluoai", "alpha": 1.5, "limit": 6}, (3, 0, 1500, 6000)),
    ):
        MoeLayer(gate_up, down, **options)(**tokens())
        marlin_moe.fused_moe(**tokens(), gate_up=gate_up, down=down, **options)
        found = [fields for name, fields in stub.calls() if name == "act_and_mul"]
        names = ("activation", "interleaved", "thousand_alpha", "thousand_limit")
        assert [tuple(fields[name] for name in names) for fields in found] == [wanted] * 2


def test_without_an_activation_one_gemm_takes_what_the_other_makes(stub: Stub) -> None:
    stub.set(align_bytes=999)
    gate_up, down = weights(HIDDEN, INNER, column_parts=1), weights(INNER, HIDDEN)
    MoeLayer(gate_up, down, activation="none")(**tokens())
    calls = steps(stub)
    assert [name for name, _ in calls] == [name for name in LAUNCHES if name != "act_and_mul"]
    align, first, second, _ = (fields for _, fields in calls)
    assert (second["a"], second["m"], second["a_stride"]) == (first["c"], IDS, INNER)
    assert second["c"] - first["c"] >= IDS * INNER * 2
    assert first["c"] - align["workspace"] >= 999
    quantised = [
        weights(k, n, a_type="kS8", a_factor=Tensor((1,), "float32"))
        for k, n in ((HIDDEN, INNER), (INNER, HIDDEN))
    ]
    stub.calls()
    MoeLayer(*quantised, activation="none")(**tokens())
    calls = [(name, fields) for name, fields in stub.calls() if name in {*LAUNCHES, *QUANTISED}]
    assert [name for name, _ in calls if name == "act_and_mul"] == []
    [_, inner] = [fields for name, fields in calls if name in QUANTISED]
    [first, _] = [fields for name, fields in calls if name == "moe_gemm"]
    assert (inner["x"], inner["x_stride"]) == (first["c"], INNER)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, "activation = 'relu' is not allowed; allowed: none, silu, gelu,"),
        ({"activation": None}, "activation = None is not allowed; allowed: none, silu"),
        ({"alpha": 1.5}, "alpha = 1.500000 is not allowed; allowed: None: a number goes with"),
        ({"activation": "gelu", "limit": 7}, "limit = 7 is not allowed; allowed: None"),
        ({"activation": "swigluoai", "limit": 0.0}, "limit = 0.000000 is not allowed; allowed: a"),
        ({"activation": "swigluoai", "alpha": float("inf")}, "alpha = inf is not allowed"),
        ({"activation": "swigluoai", "alpha": float("nan")}, "alpha = nan is not allowed"),
        ({"activation": "swigluoai", "alpha": True}, "alpha = True is not allowed"),
        ({"interleaved": 1}, "interleaved = 1 is not allowed; allowed: True, False"),
        ({"activation": "none"}, f"gate_up: n = {2 * INNER} is not allowed; allowed: {INNER}, the"),
        ({"activation": "none", "limit": 7.0}, "limit = 7.000000 is not allowed; allowed: None"),
        ({"activation": "none", "interleaved": True}, "interleaved = True is not allowed"),
    ],
)
def test_activations_that_there_are_not(stub: Stub, options: Any, message: str) -> None:
    given = refusal(weights(HIDDEN, 2 * INNER), weights(INNER, HIDDEN), **options)
    assert given.startswith(message)
    assert steps(stub) == []


def test_gates_that_come_first_are_not_taken_for_interleaved_ones(stub: Stub) -> None:
    del stub
    both, down = weights(HIDDEN, 2 * INNER, column_parts=2), weights(INNER, HIDDEN)
    assert refusal(both, down, interleaved=True).startswith("interleaved = True is not allowed")
    assert refusal(both, down, activation="none").startswith("gate_up = weights prepared as gate")


def test_eight_bit_activations_are_quantised_before_each_gemm(stub: Stub) -> None:
    changes = {"a_type": "kS8"}
    gate_up = weights(HIDDEN, 2 * INNER, a_factor=Tensor((1,), "float32"), **changes)
    down = weights(INNER, HIDDEN, a_factor=Tensor((1,), "float32"), **changes)
    given = tokens() | {"x": Tensor((M, HIDDEN), "bfloat16", strides=(HIDDEN + 8, 1))}
    MoeLayer(gate_up, down)(**given)
    calls = [(name, fields) for name, fields in stub.calls() if "stream" in fields]
    calls = [(name, fields) for name, fields in calls if name != "memset"]
    order = ["moe_align", "quantize_activations", "moe_gemm", "act_and_mul"]
    order += ["quantize_activations", "moe_gemm", "topk_sum"]
    assert [name for name, _ in calls] == order
    align, outer, first, silu, inner, second, _ = (fields for _, fields in calls)
    assert align["block_size"] == 16  # 8-bit types have no smaller one
    assert (outer["x"], outer["x_stride"]) == (given["x"].pointer, HIDDEN + 8)
    assert (outer["m"], outer["k"], inner["m"], inner["k"]) == (M, HIDDEN, IDS, INNER)
    assert (inner["x"], inner["x_stride"]) == (silu["out"], INNER)
    assert outer["factor"] == gate_up.a_factor.pointer
    assert inner["factor"] == down.a_factor.pointer
    for quantised, gemm in ((outer, first), (inner, second)):
        assert (gemm["a"], gemm["a_scales"]) == (quantised["out"], quantised["scales"])
        assert (gemm["a_type"], quantised["out_type"]) == ("kS8", "kS8")
        assert gemm["a_stride"] == quantised["k"]
        assert gemm["c_type"] == "kBFloat16"
    places = [outer["out"], outer["scales"], inner["out"], inner["scales"], silu["out"]]
    assert len({*places, first["c"], second["c"]}) == 7
    assert inner["out"] - outer["scales"] >= 4 * M


def test_no_tokens_and_no_choices_launch_no_gemm(stub: Stub) -> None:
    layer = make_layer()
    stub.calls()
    assert layer(**tokens(0)).shape == (0, HIDDEN)
    assert stub.calls() == []
    x = Tensor((M, HIDDEN), "bfloat16")
    out = layer(x, Tensor((M, 0), "float32"), Tensor((M, 0), "int32"))
    [(name, fields)] = stub.calls()
    assert (name, fields["data"], fields["value"]) == ("memset", out.pointer, 0)
    assert (fields["bytes"], fields["stream"]) == (M * HIDDEN * 2, STREAM)


def test_a_layer_keeps_its_tensors_alive(stub: Stub) -> None:
    del stub
    gate_up, down = weights(HIDDEN, 2 * INNER), weights(INNER, HIDDEN)
    expert_map = Tensor((EXPERTS,), "int32")
    layer = MoeLayer(gate_up, down, num_experts=EXPERTS, expert_map=expert_map)
    kept = [gate_up.b, gate_up.scales, down.b, down.scales, expert_map]
    del gate_up, down
    assert [tensor.memory.exports for tensor in kept] == [1] * 5
    given = tokens()
    layer(**given)
    assert [tensor.memory.exports for tensor in given.values()] == [0] * 3
    del layer
    assert [tensor.memory.exports for tensor in kept] == [0] * 5


def test_a_layer_without_kernels_is_refused_before_any_launch(stub: Stub) -> None:
    for after, step in ((0, "gate_up"), (1, "down")):
        stub.fail("moe_gemm_choose_config", NO_KERNEL, "no kernel", after=after)
        with pytest.raises(NoKernelError, match=rf"^{step}: no kernel$"):
            make_layer()
    asked = [fields for name, fields in stub.calls() if name == "moe_gemm_choose_config"]
    assert [(fields["n"], fields["k"]) for fields in asked] == [
        (2 * INNER, HIDDEN),
        (2 * INNER, HIDDEN),
        (HIDDEN, INNER),
    ]


@pytest.mark.parametrize(
    ("name", "after", "step"),
    [
        ("moe_align", 0, "moe_align"),
        ("moe_gemm", 0, "gate_up"),
        ("act_and_mul", 0, "act_and_mul"),
        ("moe_gemm", 1, "down"),
        ("topk_sum", 0, "topk_sum"),
    ],
)
def test_a_failure_names_its_step_and_ends_the_call(
    stub: Stub, name: str, after: int, step: str
) -> None:
    layer, given = make_layer(), tokens()
    stub.calls()
    stub.fail(name, 4, "out of order", after=after)
    with pytest.raises(marlin_moe.CudaError, match=rf"^{step}: out of order$"):
        layer(**given)
    done = [called for called, _ in steps(stub)]
    assert done == LAUNCHES[: len(done)]
    assert done[-1] == name
    assert [tensor.memory.exports for tensor in given.values()] == [0] * 3


def refusal(gate_up: ExpertWeights, down: ExpertWeights, **options: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        MoeLayer(gate_up, down, **options)
    return str(caught.value)


def test_weights_of_two_layers_are_refused(stub: Stub) -> None:
    first, second = weights(HIDDEN, 2 * INNER), weights(INNER, HIDDEN)
    assert refusal(first, weights(INNER, 2 * HIDDEN)).startswith(
        f"down: n = {2 * HIDDEN} is not allowed; allowed: {HIDDEN}, the k of gate_up"
    )
    assert refusal(weights(HIDDEN, INNER), second).startswith(f"gate_up: n = {INNER} is not")
    fewer = weights(INNER, HIDDEN)
    fewer = ExpertWeights(
        Tensor((8, INNER // 16, HIDDEN * 2), "int32"),
        Tensor((8, 1, HIDDEN), "bfloat16"),
        "kU4B8",
        128,
    )
    assert refusal(first, fewer).startswith("down: num_experts = 8 is not allowed; allowed: 16")
    half = weights(INNER, HIDDEN, scales=Tensor((EXPERTS, 1, HIDDEN), "float16"))
    assert "c_type = kFloat16" in refusal(first, half)
    fp8 = weights(INNER, HIDDEN, a_type="kFE4M3fn")
    assert "a_type = kFE4M3fn is not allowed; allowed: kBFloat16" in refusal(first, fp8)
    assert stub.calls() == []


def test_wrong_options_are_refused(stub: Stub) -> None:
    first, second = weights(HIDDEN, 2 * INNER), weights(INNER, HIDDEN)
    for given in (15, 17, 0, -1):
        assert refusal(first, second, num_experts=given).startswith(f"num_experts = {given} is not")
    expert_map = Tensor((8,), "int32")
    fewer = refusal(first, second, num_experts=8, expert_map=expert_map)
    assert fewer == "num_experts = 8 is not allowed; allowed: at least 16, as the weights have"
    assert refusal(first, second, expert_map=expert_map).startswith("num_experts = None")
    short = refusal(first, second, num_experts=64, expert_map=expert_map)
    assert short.startswith("expert_map = shape (8,) is not allowed; allowed: shape (64,)")
    assert refusal(first, second, block_size=0).startswith("block_size = 0 is not allowed")
    bias = weights(HIDDEN, 2 * INNER, bias=Tensor((EXPERTS, 2 * INNER), "bfloat16"))
    weighted = refusal(bias, second, apply_router_weight_on_input=True)
    assert weighted.startswith("apply_router_weight_on_input = True is not allowed")
    assert refusal(None, second).startswith("gate_up = NoneType object")  # type: ignore[arg-type]
    assert stub.calls() == []


def test_wrong_tokens_are_refused_before_any_launch(stub: Stub) -> None:
    layer, given = make_layer(), tokens()
    stub.calls()
    wrong = {
        "x = dtype float16": {"x": Tensor((M, HIDDEN), "float16")},
        "x = shape (5, 128)": {"x": Tensor((M, 128), "bfloat16")},
        "x = row stride 260": {"x": Tensor((M, HIDDEN), "bfloat16", strides=(260, 1))},
        "x = strides (1, 5) of shape (5, 256)": {
            "x": Tensor((M, HIDDEN), "bfloat16", strides=(1, M))
        },
        "x = a misaligned pointer": {"x": Tensor((M, HIDDEN), "bfloat16", byte_offset=2)},
        "topk_ids = dtype int64": {"topk_ids": Tensor((M, TOP_K), "int64")},
        "topk_ids = shape (4, 4)": {"topk_ids": Tensor((4, TOP_K), "int32")},
        "topk_weights = shape (5, 3)": {"topk_weights": Tensor((M, 3), "float32")},
        "topk_weights = dtype bfloat16": {"topk_weights": Tensor((M, TOP_K), "bfloat16")},
        "out = shape (4, 256)": {"out": Tensor((4, HIDDEN), "bfloat16")},
        "out = strides (512, 1) of shape (5, 256)": {
            "out": Tensor((M, HIDDEN), "bfloat16", strides=(512, 1))
        },
        "x = a tensor on the CPU": {"x": Tensor((M, HIDDEN), "bfloat16", device=(1, 0))},
        "topk_ids = a tensor on CUDA device 1": {
            "topk_ids": Tensor((M, TOP_K), "int32", device=(2, 1))
        },
        "gate_up = a tensor on CUDA device 0": {
            "x": Tensor((M, HIDDEN), "bfloat16", device=(2, 1))
        },
    }
    for message, changes in wrong.items():
        with pytest.raises(InvalidArgumentError) as caught:
            layer(**{**given, **changes})
        assert str(caught.value).startswith(f"{message} is not allowed; allowed: "), message
    assert stub.calls() == []


def workspace_of(stub: Stub, layer: MoeLayer) -> int:
    layer(**tokens())
    [first, second] = [fields for name, fields in stub.calls() if name == "moe_gemm"]
    assert first["workspace"] == second["workspace"]
    return int(first["workspace"])


def test_each_stream_has_a_workspace_which_stays(stub: Stub) -> None:
    layer = make_layer()
    found = {}
    for stream in (0x5000, 0x6000, 0x5000, 0x6000):
        Tensor.stream = stream
        found.setdefault(stream, set()).add(workspace_of(stub, layer))
    assert [len(places) for places in found.values()] == [1, 1]
    assert found[0x5000] != found[0x6000]


def test_each_thread_has_one_on_cudastreamperthread(stub: Stub) -> None:
    layer = make_layer()
    Tensor.stream = 2
    mine = workspace_of(stub, layer)
    other: list[int] = []
    thread = threading.Thread(target=lambda: other.append(workspace_of(stub, layer)))
    thread.start()
    thread.join()
    assert other
    assert other[0] != mine
    assert workspace_of(stub, layer) == mine


def test_each_device_has_a_workspace_of_its_own(stub: Stub) -> None:
    here = workspace_of(stub, make_layer())
    there = MoeLayer(
        *(
            ExpertWeights(
                Tensor((EXPERTS, k // 16, n * 2), "int32", device=(2, 1)),
                Tensor((EXPERTS, k // 128, n), "bfloat16", device=(2, 1)),
                "kU4B8",
                128,
            )
            for k, n in ((HIDDEN, 2 * INNER), (INNER, HIDDEN))
        )
    )
    stub.calls()
    x = Tensor((M, HIDDEN), "bfloat16", device=(2, 1))
    ids = Tensor((M, TOP_K), "int32", device=(2, 1))
    out = there(x, Tensor((M, TOP_K), "float32", device=(2, 1)), ids)
    assert out.memory.device == (2, 1)
    calls = stub.calls()
    assert {fields["device"] for name, fields in calls if "stream" in fields} == {1}
    assert here not in {fields.get("workspace") for _, fields in calls}
    assert stub.device() == 0  # the caller's again


def test_sums_by_atomic_additions_share_the_workspace(stub: Stub) -> None:
    layer = make_layer()
    common = workspace_of(stub, layer)
    gate_up = weights(HIDDEN, 2 * INNER)
    blocks = marlin_moe.moe_align(Tensor((M, TOP_K), "int32"), num_experts=EXPERTS, block_size=8)
    marlin_moe.moe_gemm(
        Tensor((M, HIDDEN), "bfloat16"), gate_up, blocks, top_k=TOP_K, atomic_reduce=True
    )
    assert stub.call("moe_gemm")["workspace"] == common


def test_a_workspace_is_zeroed_before_its_first_use_and_grows(stub: Stub) -> None:
    layer = make_layer()
    stub.calls()
    layer(**tokens())
    calls = launches(stub)
    order = [name for name, _ in calls]
    assert order.index("memset") < order.index("moe_gemm")
    zeroed = calls[order.index("memset")][1]
    gemm = calls[order.index("moe_gemm")][1]
    assert (zeroed["data"], zeroed["bytes"]) == (gemm["workspace"], gemm["workspace_bytes"])
    assert (zeroed["value"], zeroed["stream"]) == (0, STREAM)
    stub.set(gemm_bytes=100_000)
    layer(**tokens())
    calls = launches(stub)
    grown = next(fields for name, fields in calls if name == "memset")
    assert grown["bytes"] >= 100_000
    assert grown["data"] != zeroed["data"]
    outgrown = [made for made in Tensor.made if made.pointer <= zeroed["data"] < made.pointer + 512]
    assert outgrown[0].memory.exports == 1  # graphs may use it
    marlin_moe.clear_workspaces()
    assert outgrown[0].memory.exports == 0


def test_a_captured_graph_has_a_workspace_of_its_own(stub: Stub) -> None:
    layer = make_layer()
    eager = workspace_of(stub, layer)
    found = []
    for capture in (7, 7, 8):
        stub.set(capture=capture)
        layer(**tokens())
        calls = launches(stub)
        names = [name for name, _ in calls]
        found.append((calls[names.index("moe_gemm")][1]["workspace"], names.count("memset")))
    (first, zeroed), (same, zeroed_again), (other, zeroed_too) = found
    assert (zeroed, zeroed_again, zeroed_too) == (1, 0, 1)
    assert first == same
    assert len({eager, first, other}) == 3


def test_threads_on_one_stream_share_a_workspace_made_once(stub: Stub) -> None:
    layer = make_layer()
    stub.calls()
    barrier = threading.Barrier(4)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            barrier.wait()
            for _ in range(25):
                layer(**tokens())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    calls = stub.calls()
    assert sum(name == "memset" for name, _ in calls) == 1
    assert len({fields["workspace"] for name, fields in calls if name == "moe_gemm"}) == 1
    assert sum(name == "topk_sum" for name, _ in calls) == 100
