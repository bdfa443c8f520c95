"""What reaches the C++ API: every field of every call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import marlin_moe
import pytest
from conftest import Stub
from frameworks import Tensor
from marlin_moe import (
    Alignment,
    ExpertWeights,
    GemmConfig,
    InvalidArgumentError,
    PaddedShape,
)

STREAM = 0x5000
EXPERTS, K, N, M, TOP_K = 8, 256, 512, 6, 2
UNPADDED = {"source_n": N, "source_k": K, "column_parts": 1}
PADDED = PaddedShape(256, 128, 4)


def fields_of(stub: Stub, name: str) -> dict[str, Any]:
    """The fields of the one call of a function, without those that every call has."""
    fields = stub.call(name)
    assert fields.pop("device") == 0
    assert fields.pop("stream") == STREAM
    return fields


@pytest.fixture(autouse=True)
def stream(stub: Stub) -> None:
    del stub
    Tensor.stream = STREAM


def test_repack_gptq(stub: Stub) -> None:
    qweight = Tensor((EXPERTS, K // 8, N), "int32")
    perm = Tensor((EXPERTS, K), "int32")
    out = marlin_moe.repack_gptq(qweight, b_type="kU4B8", perm=perm)
    assert (out.shape, out.dtype) == ((EXPERTS, K // 16, N * 2), "int32")
    assert fields_of(stub, "repack_gptq") == {
        "num_experts": EXPERTS,
        "n": N,
        "k": K,
        "a_type": "kBFloat16",
        "b_type": "kU4B8",
        **UNPADDED,
        "qweight": qweight.pointer,
        "perm": perm.pointer,
        "out": out.pointer,
    }


def test_repack_gptq_of_eight_bits_into_the_callers_tensor(stub: Stub) -> None:
    qweight = Tensor((EXPERTS, K // 4, N), "uint32", byte_offset=64)
    given = Tensor((EXPERTS, K // 16, N * 4), "int32")
    assert marlin_moe.repack_gptq(qweight, b_type="kU8B128", out=given) is given
    fields = fields_of(stub, "repack_gptq")
    assert (fields["n"], fields["k"], fields["perm"]) == (N, K, 0)
    assert (fields["qweight"], fields["out"]) == (qweight.pointer + 64, given.pointer)
    assert Tensor.made == []


def test_repack_awq(stub: Stub) -> None:
    qweight = Tensor((EXPERTS, K, N // 8), "int32")
    qzeros = Tensor((EXPERTS, K // 64, N // 8), "int32")
    out = marlin_moe.repack_awq(qweight, b_type="kU4", a_type="kFE4M3fn", qzeros=qzeros)
    assert out.shape == (EXPERTS, K // 16, N * 2)
    assert fields_of(stub, "repack_awq") == {
        "num_experts": EXPERTS,
        "n": N,
        "k": K,
        "a_type": "kFE4M3fn",
        "b_type": "kU4",
        **UNPADDED,
        "num_groups": K // 64,
        "qweight": qweight.pointer,
        "qzeros": qzeros.pointer,
        "out": out.pointer,
    }


@pytest.mark.parametrize(
    ("b_type", "dtype", "row_bytes", "words"),
    [
        ("kFE4M3fn", "float8_e4m3fn", K, N * 4),
        ("kFE4M3fn", "uint8", K, N * 4),
        ("kFE2M1f", "uint8", K // 2, N * 2),
        ("kFE2M1f", "float4_e2m1fn_x2", K // 2, N * 2),
    ],
)
def test_repack_rows(stub: Stub, b_type: str, dtype: str, row_bytes: int, words: int) -> None:
    weights = Tensor((EXPERTS, N, row_bytes), dtype)
    out = marlin_moe.repack_rows(weights, b_type=b_type)
    assert out.shape == (EXPERTS, K // 16, words)
    assert fields_of(stub, "repack_rows") == {
        "num_experts": EXPERTS,
        "n": N,
        "k": K,
        "a_type": "kBFloat16",
        "b_type": b_type,
        **UNPADDED,
        "weights": weights.pointer,
        "out": out.pointer,
    }


def test_sort_rows_by_group(stub: Stub) -> None:
    g_idx = Tensor((EXPERTS, K), "int32")
    perm, groups = marlin_moe.sort_rows_by_group(g_idx)
    assert fields_of(stub, "sort_rows_by_group") == {
        "num_experts": EXPERTS,
        "k": K,
        "g_idx": g_idx.pointer,
        "perm": perm.pointer,
        "sorted_g_idx": groups.pointer,
    }


def test_permute_scales(stub: Stub) -> None:
    scales = Tensor((EXPERTS, 2, N), "float16")
    result = marlin_moe.permute_scales(scales, b_type="kU4B8", group_size=128)
    assert (result.scales.shape, result.scales.dtype) == ((EXPERTS, 2, N), "float16")
    assert result.global_scales is None
    assert fields_of(stub, "permute_scales") == {
        "num_experts": EXPERTS,
        "num_groups": 2,
        "n": N,
        "a_type": "kBFloat16",
        "b_type": "kU4B8",
        "c_type": "kFloat16",
        "s_type": "kFloat16",
        "group_size": 128,
        "source_n": N,
        "source_groups": 2,
        "column_parts": 1,
        "columns_per_scale": 1,
        "columns_first": 0,
        "float32_scales": 0,
        "scales": scales.pointer,
        "out": result.scales.pointer,
        "global_scales": 0,
    }


def test_permute_scales_beside_int8(stub: Stub) -> None:
    scales = Tensor((EXPERTS, N, 2), "bfloat16")
    result = marlin_moe.permute_scales(
        scales, b_type="kU4B8", a_type="kS8", group_size=128, columns_first=True
    )
    assert result.scales.shape == (EXPERTS, 2, N)
    units = result.global_scales
    assert (units.shape, units.dtype) == ((EXPERTS,), "float32")
    fields = fields_of(stub, "permute_scales")
    assert (fields["num_groups"], fields["n"], fields["columns_first"]) == (2, N, 1)
    assert (fields["a_type"], fields["global_scales"]) == ("kS8", units.pointer)


def test_permute_scales_in_bytes(stub: Stub) -> None:
    scales = Tensor((EXPERTS, K // 32, N), "uint8")
    result = marlin_moe.permute_scales(
        scales, b_type="kFE2M1f", group_size=32, s_type=marlin_moe.ScalarType.FE8M0FNU
    )
    assert result.scales.dtype == "uint8"
    fields = fields_of(stub, "permute_scales")
    assert (fields["s_type"], fields["c_type"]) == ("kFE8M0fnu", "kBFloat16")


@pytest.mark.parametrize(
    ("dtype", "given", "types"),
    [
        ("float32", {}, ("kBFloat16", "kBFloat16", 1)),
        ("float32", {"c_type": "kFloat16"}, ("kFloat16", "kFloat16", 1)),
        ("float32", {"s_type": "kFloat16"}, ("kFloat16", "kFloat16", 1)),
        ("bfloat16", {}, ("kBFloat16", "kBFloat16", 0)),
    ],
)
def test_permute_scales_of_blocks(
    stub: Stub, dtype: str, given: dict[str, str], types: tuple[str, str, int]
) -> None:
    """192 columns have two scales, of which the second is that of 64."""
    scales = Tensor((EXPERTS, 2, 3), dtype)
    result = marlin_moe.permute_scales(
        scales,
        b_type="kFE4M3fn",
        a_type="kFE4M3fn",
        group_size=128,
        columns_first=True,
        columns_per_scale=128,
        n=192,
        **given,
    )
    assert result.scales.shape == (EXPERTS, 3, 192)
    assert result.scales.dtype == {"kBFloat16": "bfloat16", "kFloat16": "float16"}[types[0]]
    fields = fields_of(stub, "permute_scales")
    assert (fields["s_type"], fields["c_type"], fields["float32_scales"]) == types
    assert (fields["n"], fields["source_n"], fields["columns_per_scale"]) == (192, 192, 128)
    assert (fields["num_groups"], fields["source_groups"]) == (3, 3)


def test_padded_shape(stub: Stub) -> None:
    found = marlin_moe.padded_shape(192, 96, b_type="kU4B8", group_size=32, a_type="kS8")
    assert found == PADDED
    fields = stub.call("padded_shape")
    assert (fields["n"], fields["k"], fields["group_size"]) == (192, 96, 32)
    assert (fields["a_type"], fields["b_type"]) == ("kS8", "kU4B8")


# Two matrices of 96 columns and 96 rows in groups of 32, in the place of which come 128 of both.
PADDED_CALLS: dict[str, tuple[Any, dict[str, Any], tuple[int, ...]]] = {
    "repack_gptq": (
        marlin_moe.repack_gptq,
        {"qweight": Tensor((EXPERTS, 12, 192), "int32"), "b_type": "kU4B8"},
        (EXPERTS, 8, 512),
    ),
    "repack_awq": (
        marlin_moe.repack_awq,
        {
            "qweight": Tensor((EXPERTS, 96, 24), "int32"),
            "b_type": "kU4",
            "qzeros": Tensor((EXPERTS, 3, 24), "int32"),
        },
        (EXPERTS, 8, 512),
    ),
    "repack_rows": (
        marlin_moe.repack_rows,
        {"weights": Tensor((EXPERTS, 192, 96), "uint8"), "b_type": "kFE4M3fn"},
        (EXPERTS, 8, 1024),
    ),
    "permute_scales": (
        marlin_moe.permute_scales,
        {"scales": Tensor((EXPERTS, 3, 192), "bfloat16"), "b_type": "kU4B8", "group_size": 32},
        (EXPERTS, 4, 256),
    ),
    "permute_bias": (
        marlin_moe.permute_bias,
        {"bias": Tensor((EXPERTS, 192), "bfloat16")},
        (EXPERTS, 256),
    ),
    "permute_zero_points": (
        marlin_moe.permute_zero_points,
        {"qzeros": Tensor((EXPERTS, 3, 24), "int32")},
        (EXPERTS, 4, 32),
    ),
}


@pytest.mark.parametrize("name", PADDED_CALLS)
def test_results_are_padded(stub: Stub, name: str) -> None:
    function, given, shape = PADDED_CALLS[name]
    made = function(**given, padded=PADDED, column_parts=2)
    assert (made.scales if name == "permute_scales" else made).shape == shape
    fields = fields_of(stub, name)
    sizes = {"n": 256, "source_n": 192, "column_parts": 2}
    if "k" in fields:
        sizes |= {"k": 128, "source_k": 96}
    if "source_groups" in fields or name == "repack_awq":
        sizes |= {"num_groups": 4}
    if "source_groups" in fields:
        sizes |= {"source_groups": 3}
    assert {field: fields[field] for field in sizes} == sizes


def test_scale_global_scales(stub: Stub) -> None:
    scales = Tensor((EXPERTS,), "float32")
    out = marlin_moe.scale_global_scales(scales, c_type="kFloat16")
    assert fields_of(stub, "scale_global_scales") == {
        "num_experts": EXPERTS,
        "c_type": "kFloat16",
        "global_scales": scales.pointer,
        "out": out.pointer,
    }


def test_permute_bias(stub: Stub) -> None:
    bias = Tensor((EXPERTS, N), "bfloat16")
    out = marlin_moe.permute_bias(bias)
    assert (out.shape, out.dtype) == (bias.shape, "bfloat16")
    assert fields_of(stub, "permute_bias") == {
        "num_experts": EXPERTS,
        "n": N,
        "source_n": N,
        "column_parts": 1,
        "bias": bias.pointer,
        "out": out.pointer,
    }


def test_permute_zero_points(stub: Stub) -> None:
    qzeros = Tensor((EXPERTS, 2, N // 8), "int32")
    out = marlin_moe.permute_zero_points(qzeros, a_type="kS8")
    assert fields_of(stub, "permute_zero_points") == {
        "num_experts": EXPERTS,
        "num_groups": 2,
        "n": N,
        "a_type": "kS8",
        "source_n": N,
        "source_groups": 2,
        "column_parts": 1,
        "qzeros": qzeros.pointer,
        "out": out.pointer,
    }


def test_moe_align(stub: Stub) -> None:
    stub.set(align_bytes=1000)
    ids = Tensor((M, TOP_K), "int32")
    expert_map = Tensor((EXPERTS,), "int32")
    found = marlin_moe.moe_align(
        ids, num_experts=EXPERTS, block_size=16, expert_map=expert_map, drop_remote=True
    )
    capacity = (M * TOP_K + EXPERTS * 15) // 16 * 16
    assert [part.shape for part in found[:3]] == [(capacity,), (capacity // 16,), (1,)]
    assert found.block_size == 16
    fields = fields_of(stub, "moe_align")
    assert Tensor.made[-1].shape == (1000,)
    assert fields == {
        "num_ids": M * TOP_K,
        "num_experts": EXPERTS,
        "block_size": 16,
        "topk_ids": ids.pointer,
        "expert_map": expert_map.pointer,
        "drop_remote": 1,
        "sorted_token_ids": found.sorted_token_ids.pointer,
        "expert_ids": found.expert_ids.pointer,
        "num_tokens_past_padded": found.num_tokens_past_padded.pointer,
        "workspace": Tensor.made[-1].pointer,
        "workspace_bytes": 1000,
    }


def test_moe_align_into_the_callers_tensors(stub: Stub) -> None:
    capacity = marlin_moe.alignment_capacity(4, EXPERTS, 8)
    out = Alignment(
        Tensor((capacity,), "int32"), Tensor((capacity // 8,), "int32"), Tensor((1,), "int32"), 0
    )
    ids = Tensor((4,), "int32")
    found = marlin_moe.moe_align(ids, num_experts=EXPERTS, block_size=8, out=out)
    assert found == (*out[:3], 8)
    fields = fields_of(stub, "moe_align")
    assert (fields["sorted_token_ids"], fields["expert_ids"]) == (out[0].pointer, out[1].pointer)
    assert (fields["num_tokens_past_padded"], fields["drop_remote"]) == (out[2].pointer, 0)


@pytest.mark.parametrize(("out_type", "dtype"), [("kS8", "int8"), ("kFE4M3fn", "uint8")])
def test_quantize_activations(stub: Stub, out_type: str, dtype: str) -> None:
    x = Tensor((M, K), "bfloat16", strides=(2 * K, 1))
    factor = Tensor((1,), "float32")
    values, scales = marlin_moe.quantize_activations(x, out_type=out_type, factor=factor)
    assert (values.shape, values.dtype, scales.shape) == ((M, K), dtype, (M,))
    assert fields_of(stub, "quantize_activations") == {
        "m": M,
        "k": K,
        "x_type": "kBFloat16",
        "out_type": out_type,
        "x": x.pointer,
        "x_stride": 2 * K,
        "out": values.pointer,
        "scales": scales.pointer,
        "factor": factor.pointer,
    }


@pytest.mark.parametrize(
    ("a_type", "c_type", "dtypes"),
    [
        ("kFloat16", "kBFloat16", ("float16", "bfloat16")),
        ("kBFloat16", "kFloat16", ("bfloat16", "float16")),
    ],
)
def test_results_of_the_other_16_bit_type(
    stub: Stub, a_type: str, c_type: str, dtypes: tuple[str, str]
) -> None:
    weights = ExpertWeights(
        Tensor((EXPERTS, K // 16, N * 2), "int32"),
        Tensor((EXPERTS, 2, N), dtypes[1]),
        "kU4B8",
        128,
        a_type=a_type,
    )
    lists = [Tensor((n,), "int32") for n in (M * TOP_K * 8, M * TOP_K, 1)]
    out = marlin_moe.moe_gemm(Tensor((M, K), dtypes[0]), weights, Alignment(*lists, 8), top_k=TOP_K)
    assert (out.shape, out.dtype) == ((M * TOP_K, N), dtypes[1])
    fields = stub.call("moe_gemm")
    assert [fields[name] for name in ("a_type", "c_type", "s_type")] == [a_type, c_type, c_type]
    with pytest.raises(InvalidArgumentError, match=rf"^a_type = {c_type} is not allowed; allowed"):
        marlin_moe.moe_gemm(Tensor((M, K), dtypes[1]), weights, Alignment(*lists, 8), top_k=TOP_K)
    down = ExpertWeights(
        Tensor((EXPERTS, N // 32, K * 2), "int32"), Tensor((EXPERTS, 2, K), dtypes[1]), "kU4B8", 128
    )
    with pytest.raises(
        InvalidArgumentError, match=rf"{a_type}.* is not allowed; allowed: {c_type}"
    ):
        marlin_moe.MoeLayer(weights, down)


@pytest.mark.parametrize(
    ("run", "number", "parameters"),
    [
        (marlin_moe.silu_and_mul, 0, (1702, 7000)),
        (marlin_moe.gelu_and_mul, 1, (1702, 7000)),
        (functools.partial(marlin_moe.gelu_and_mul, approximate="tanh"), 2, (1702, 7000)),
        (marlin_moe.swigluoai_and_mul, 3, (1702, 7000)),
        (functools.partial(marlin_moe.swigluoai_and_mul, alpha=1, limit=2.5), 3, (1000, 2500)),
    ],
)
def test_activations(
    stub: Stub, run: Callable[..., Any], number: int, parameters: tuple[int, int]
) -> None:
    x = Tensor((M, 2 * N), "float16")
    for interleaved in (False, True):
        out = run(x, interleaved=interleaved)
        assert (out.shape, out.dtype) == ((M, N), "float16")
        assert fields_of(stub, "act_and_mul") == {
            "m": M,
            "n": N,
            "type": "kFloat16",
            "activation": number,
            "interleaved": interleaved,
            "thousand_alpha": parameters[0],
            "thousand_limit": parameters[1],
            "x": x.pointer,
            "out": out.pointer,
        }
        given = Tensor((M, N), "float16")
        assert run(x, interleaved=interleaved, out=given) is given
        assert stub.call("act_and_mul")["out"] == given.pointer


def test_topk_sum(stub: Stub) -> None:
    x = Tensor((M * TOP_K, N), "bfloat16")
    ids, expert_map = Tensor((M, TOP_K), "int32"), Tensor((32,), "int32")
    out = marlin_moe.topk_sum(x, top_k=TOP_K, topk_ids=ids, num_experts=32, expert_map=expert_map)
    assert fields_of(stub, "topk_sum") == {
        "m": M,
        "n": N,
        "top_k": TOP_K,
        "type": "kBFloat16",
        "x": x.pointer,
        "out": out.pointer,
        "topk_ids": ids.pointer,
        "num_experts": 32,
        "expert_map": expert_map.pointer,
    }


def alignment() -> Alignment:
    capacity = marlin_moe.alignment_capacity(M * TOP_K, EXPERTS, 16)
    lists = [Tensor((length,), "int32") for length in (capacity, capacity // 16, 1)]
    return Alignment(*lists, block_size=16)


def test_moe_gemm(stub: Stub) -> None:
    weights = ExpertWeights(
        b=Tensor((EXPERTS, K // 16, N * 2), "int32"),
        scales=Tensor((EXPERTS, K // 128, N), "bfloat16"),
        b_type="kU4B8",
        group_size=128,
        bias=Tensor((EXPERTS, N), "bfloat16"),
    )
    a = Tensor((M, K), "bfloat16", strides=(3 * K, 1))
    topk_weights = Tensor((M, TOP_K), "float32")
    blocks = alignment()
    out = marlin_moe.moe_gemm(
        a,
        weights,
        blocks,
        top_k=TOP_K,
        topk_weights=topk_weights,
        expert_parallel=True,
        config=GemmConfig(64, 128, 128, 1, 2, 1),
    )
    assert (out.shape, out.dtype) == ((M * TOP_K, N), "bfloat16")
    fields = fields_of(stub, "moe_gemm")
    assert fields.pop("workspace") % 256 == 0
    assert fields.pop("workspace_bytes") >= 4096
    assert fields == {
        "m": M,
        "n": N,
        "k": K,
        "num_experts": EXPERTS,
        "top_k": TOP_K,
        "block_size": 16,
        "a_type": "kBFloat16",
        "b_type": "kU4B8",
        "c_type": "kBFloat16",
        "s_type": "kBFloat16",
        "group_size": 128,
        "num_groups": 2,
        "a": a.pointer,
        "a_stride": 3 * K,
        "a_scales": 0,
        "b": weights.b.pointer,
        "scales": weights.scales.pointer,
        "zero_points": 0,
        "global_scales": 0,
        "bias": weights.bias.pointer,
        "g_idx": 0,
        "perm": 0,
        "topk_weights": topk_weights.pointer,
        "sorted_token_ids": blocks.sorted_token_ids.pointer,
        "expert_ids": blocks.expert_ids.pointer,
        "num_tokens_past_padded": blocks.num_tokens_past_padded.pointer,
        "expert_parallel": 1,
        "atomic_reduce": 0,
        "c": out.pointer,
        "thread_k": 64,
        "thread_n": 128,
        "threads": 128,
        "blocks_per_sm": 1,
        "stripe_slack": 2,
        "gather_first": 1,
    }


def gemm(weights: ExpertWeights, a: Tensor, **options: Any) -> Any:
    return marlin_moe.moe_gemm(a, weights, alignment(), top_k=TOP_K, **options)


def test_moe_gemm_with_act_order(stub: Stub) -> None:
    weights = ExpertWeights(
        b=Tensor((EXPERTS, K // 16, N * 4), "int32"),
        scales=Tensor((EXPERTS, 4, N), "float16"),
        b_type="kU8B128",
        group_size=marlin_moe.GROUP_SIZE_ACT_ORDER,
        g_idx=Tensor((EXPERTS, K), "int32"),
        perm=Tensor((EXPERTS, K), "int32"),
    )
    gemm(weights, Tensor((M, K), "float16"), atomic_reduce=True)
    fields = fields_of(stub, "moe_gemm")
    assert (fields["group_size"], fields["num_groups"], fields["n"]) == (0, 4, N)
    assert (fields["g_idx"], fields["perm"]) == (weights.g_idx.pointer, weights.perm.pointer)
    assert (fields["a_type"], fields["atomic_reduce"]) == ("kFloat16", 1)
    assert fields["expert_parallel"] == 0


def test_moe_gemm_with_zero_points_and_int8(stub: Stub) -> None:
    weights = ExpertWeights(
        b=Tensor((EXPERTS, K // 16, N * 2), "int32"),
        scales=Tensor((EXPERTS, K // 64, N), "float16"),
        b_type="kU4",
        group_size=64,
        a_type="kS8",
        zero_points=Tensor((EXPERTS, K // 64, N // 8), "int32"),
        global_scales=Tensor((EXPERTS,), "float32"),
    )
    a_scales = Tensor((M,), "float32")
    gemm(weights, Tensor((M, K), "int8"), a_scales=a_scales)
    fields = fields_of(stub, "moe_gemm")
    assert fields["zero_points"] == weights.zero_points.pointer
    assert (fields["a_type"], fields["c_type"]) == ("kS8", "kFloat16")
    assert fields["a_scales"] == a_scales.pointer
    assert fields["global_scales"] == weights.global_scales.pointer


def test_moe_gemm_of_nvfp4(stub: Stub) -> None:
    weights = ExpertWeights(
        b=Tensor((EXPERTS, K // 16, N * 2), "int32"),
        scales=Tensor((EXPERTS, K // 16, N), "float8_e4m3fn"),
        b_type="kFE2M1f",
        group_size=16,
        c_type="kFloat16",
        global_scales=Tensor((EXPERTS,), "float32"),
    )
    gemm(weights, Tensor((M, K), "float16"))
    fields = fields_of(stub, "moe_gemm")
    assert fields["global_scales"] == weights.global_scales.pointer
    assert (fields["s_type"], fields["c_type"]) == ("kFE4M3fn", "kFloat16")


def test_types_that_a_framework_lacks_are_named(stub: Stub) -> None:
    weights = ExpertWeights(
        b=Tensor((EXPERTS, K // 16, N * 2), "uint32"),
        scales=Tensor((EXPERTS, K // 32, N), "uint8"),
        b_type="kFE2M1f",
        group_size=32,
        a_type="kFE4M3fn",
        s_type="kFE8M0fnu",
    )
    out = Tensor((M * TOP_K, N), "int16")
    a_scales = Tensor((M,), "float32")
    found = gemm(weights, Tensor((M, K), "uint8"), a_type="kFE4M3fn", a_scales=a_scales, out=out)
    assert found is out
    fields = fields_of(stub, "moe_gemm")
    assert (fields["a_type"], fields["s_type"]) == ("kFE4M3fn", "kFE8M0fnu")
    assert (fields["c_type"], fields["c"]) == ("kBFloat16", out.pointer)


def test_the_choice_of_a_kernel(stub: Stub) -> None:
    weights = ExpertWeights(
        b=Tensor((EXPERTS, K // 16, N * 2), "int32"),
        scales=Tensor((EXPERTS, 1, N), "bfloat16"),
        b_type="kU4B8",
        group_size=-1,
    )
    found = marlin_moe.moe_gemm_choose_config(
        Tensor((M, K), "bfloat16"), weights, top_k=TOP_K, block_size=8
    )
    assert found == GemmConfig(128, 64, 256, 2, 3, 1)
    fields = stub.call("moe_gemm_choose_config")
    assert (fields["m"], fields["top_k"], fields["block_size"]) == (M, TOP_K, 8)


def test_the_block_size(stub: Stub) -> None:
    assert marlin_moe.moe_gemm_block_size(3, 4, 5, "kS8") == 16
    fields = stub.call("moe_gemm_block_size")
    assert (fields["m"], fields["num_experts"], fields["top_k"]) == (3, 4, 5)
    assert marlin_moe.moe_gemm_block_size(3, 4, 5) == 8
