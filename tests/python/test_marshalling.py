"""What reaches the C functions: every field, as a C compiler reads it."""

from __future__ import annotations

import ctypes

import marlin_moe
import pytest
from capsules import FakeTensor, Memory
from marlin_moe import Alignment, ExpertWeights, GemmConfig, ScalarType, _abi
from stub import Stub

STREAM = 0x5000
EXPERTS, K, N, M, TOP_K = 8, 256, 512, 6, 2


def fields_of(stub: Stub, name: str) -> dict[str, int]:
    """The fields of the one call of a function, without those that every call has."""
    fields = stub.call(name)
    assert fields.pop("device") == 0
    assert fields.pop("stream") == STREAM
    assert fields.pop("struct_size") % 8 == 0
    return fields


def test_repack_gptq(stub: Stub, memory: Memory) -> None:
    qweight = memory((EXPERTS, K // 8, N), "int32")
    perm = memory((EXPERTS, K), "int32")
    out = marlin_moe.repack_gptq(qweight, b_type="kU4B8", perm=perm, stream=STREAM, empty=memory)
    assert (out.shape, out.dtype) == ((EXPERTS, K // 16, N * 2), "int32")
    assert fields_of(stub, "repack_gptq") == {
        "num_experts": EXPERTS,
        "n": N,
        "k": K,
        "a_type": ScalarType.BFLOAT16,
        "b_type": ScalarType.U4B8,
        "qweight": qweight.pointer,
        "perm": perm.pointer,
        "out": out.pointer,
    }


def test_repack_gptq_of_eight_bits(stub: Stub, memory: Memory) -> None:
    qweight = memory((EXPERTS, K // 4, N), "int32")
    given = memory((EXPERTS, K // 16, N * 4), "int32")
    out = marlin_moe.repack_gptq(qweight, b_type="kU8B128", out=given, stream=STREAM)
    assert out is given
    fields = fields_of(stub, "repack_gptq")
    assert (fields["n"], fields["k"], fields["perm"]) == (N, K, 0)


def test_repack_awq(stub: Stub, memory: Memory) -> None:
    qweight = memory((EXPERTS, K, N // 8), "int32")
    qzeros = memory((EXPERTS, K // 64, N // 8), "int32")
    out = marlin_moe.repack_awq(
        qweight, b_type="kU4", a_type="kFE4M3fn", qzeros=qzeros, stream=STREAM, empty=memory
    )
    assert out.shape == (EXPERTS, K // 16, N * 2)
    assert fields_of(stub, "repack_awq") == {
        "num_experts": EXPERTS,
        "n": N,
        "k": K,
        "a_type": ScalarType.FE4M3FN,
        "b_type": ScalarType.U4,
        "num_groups": K // 64,
        "qweight": qweight.pointer,
        "qzeros": qzeros.pointer,
        "out": out.pointer,
    }


@pytest.mark.parametrize(
    ("b_type", "dtype", "row_bytes"),
    [("kFE4M3fn", "float8_e4m3fn", K), ("kFE4M3fn", "uint8", K), ("kFE2M1f", "uint8", K // 2)],
)
def test_repack_rows(stub: Stub, memory: Memory, b_type: str, dtype: str, row_bytes: int) -> None:
    weights = memory((EXPERTS, N, row_bytes), dtype)
    out = marlin_moe.repack_rows(weights, b_type=b_type, stream=STREAM, empty=memory)
    assert out.shape == (EXPERTS, K // 16, N * row_bytes // K * 4 if row_bytes == K else N * 2)
    fields = fields_of(stub, "repack_rows")
    assert (fields["n"], fields["k"]) == (N, K)
    assert (fields["weights"], fields["out"]) == (weights.pointer, out.pointer)


def test_sort_rows_by_group(stub: Stub, memory: Memory) -> None:
    g_idx = memory((EXPERTS, K), "int32")
    perm, groups = marlin_moe.sort_rows_by_group(g_idx, stream=STREAM, empty=memory)
    assert fields_of(stub, "sort_rows_by_group") == {
        "num_experts": EXPERTS,
        "k": K,
        "g_idx": g_idx.pointer,
        "perm": perm.pointer,
        "sorted_g_idx": groups.pointer,
    }


def test_permute_scales(stub: Stub, memory: Memory) -> None:
    scales = memory((EXPERTS, 2, N), "float16")
    result = marlin_moe.permute_scales(
        scales, b_type="kU4B8", group_size=128, stream=STREAM, empty=memory
    )
    assert (result.scales.shape, result.scales.dtype) == ((EXPERTS, 2, N), "float16")
    assert result.global_scales is None
    assert fields_of(stub, "permute_scales") == {
        "num_experts": EXPERTS,
        "num_groups": 2,
        "n": N,
        "a_type": ScalarType.BFLOAT16,
        "b_type": ScalarType.U4B8,
        "c_type": ScalarType.FLOAT16,
        "s_type": ScalarType.FLOAT16,
        "group_size": 128,
        "columns_first": 0,
        "scales": scales.pointer,
        "out": result.scales.pointer,
        "global_scales": 0,
    }


def test_permute_scales_beside_int8(stub: Stub, memory: Memory) -> None:
    scales = memory((EXPERTS, N, 2), "bfloat16")
    result = marlin_moe.permute_scales(
        scales,
        b_type="kU4B8",
        a_type="kS8",
        group_size=128,
        columns_first=True,
        stream=STREAM,
        empty=memory,
    )
    assert result.scales.shape == (EXPERTS, 2, N)
    units = result.global_scales
    assert (units.shape, units.dtype) == ((EXPERTS,), "float32")
    fields = fields_of(stub, "permute_scales")
    assert (fields["num_groups"], fields["n"], fields["columns_first"]) == (2, N, 1)
    assert fields["global_scales"] == units.pointer


def test_permute_scales_in_bytes(stub: Stub, memory: Memory) -> None:
    scales = memory((EXPERTS, K // 32, N), "uint8")
    marlin_moe.permute_scales(
        scales, b_type="kFE2M1f", s_type="kFE8M0fnu", group_size=32, stream=STREAM, empty=memory
    )
    fields = fields_of(stub, "permute_scales")
    assert (fields["s_type"], fields["c_type"]) == (ScalarType.FE8M0FNU, ScalarType.BFLOAT16)


def test_scale_global_scales(stub: Stub, memory: Memory) -> None:
    scales = memory((EXPERTS,), "float32")
    out = marlin_moe.scale_global_scales(scales, c_type="kFloat16", stream=STREAM, empty=memory)
    assert fields_of(stub, "scale_global_scales") == {
        "num_experts": EXPERTS,
        "c_type": ScalarType.FLOAT16,
        "global_scales": scales.pointer,
        "out": out.pointer,
    }


def test_permute_bias(stub: Stub, memory: Memory) -> None:
    bias = memory((EXPERTS, N), "bfloat16")
    out = marlin_moe.permute_bias(bias, stream=STREAM, empty=memory)
    assert out.dtype == "bfloat16"
    assert fields_of(stub, "permute_bias") == {
        "num_experts": EXPERTS,
        "n": N,
        "bias": bias.pointer,
        "out": out.pointer,
    }


def test_permute_zero_points(stub: Stub, memory: Memory) -> None:
    qzeros = memory((EXPERTS, 2, N // 8), "int32")
    out = marlin_moe.permute_zero_points(qzeros, a_type="kS8", stream=STREAM, empty=memory)
    assert fields_of(stub, "permute_zero_points") == {
        "num_experts": EXPERTS,
        "num_groups": 2,
        "n": N,
        "a_type": ScalarType.S8,
        "qzeros": qzeros.pointer,
        "out": out.pointer,
    }


def test_moe_align(stub: Stub, memory: Memory) -> None:
    stub.set_bytes(4096, 1000)
    topk_ids = memory((M, TOP_K), "int32")
    expert_map = memory((16,), "int32")
    result = marlin_moe.moe_align(
        topk_ids,
        num_experts=16,
        block_size=8,
        expert_map=expert_map,
        drop_remote=True,
        stream=STREAM,
        empty=memory,
    )
    capacity = (M * TOP_K + 12 * 7) // 8 * 8
    assert result.sorted_token_ids.shape == (capacity,)
    assert result.expert_ids.shape == (capacity // 8,)
    assert result.block_size == 8
    fields = fields_of(stub, "align")
    workspace = fields.pop("workspace")
    assert workspace % 256 == 0
    assert fields.pop("workspace_bytes") >= 1000
    assert fields == {
        "num_ids": M * TOP_K,
        "num_experts": 16,
        "block_size": 8,
        "drop_remote": 1,
        "topk_ids": topk_ids.pointer,
        "expert_map": expert_map.pointer,
        "sorted_token_ids": result.sorted_token_ids.pointer,
        "expert_ids": result.expert_ids.pointer,
        "num_tokens_past_padded": result.num_tokens_past_padded.pointer,
    }


def alignment(memory: Memory) -> Alignment:
    return Alignment(
        memory((64,), "int32"), memory((4,), "int32"), memory((1,), "int32"), block_size=16
    )


def full_weights(memory: Memory) -> ExpertWeights:
    """Weights with everything that any scheme has; the library judges combinations."""
    return ExpertWeights(
        b=memory((EXPERTS, K // 16, N * 2), "int32"),
        scales=memory((EXPERTS, 4, N), "bfloat16"),
        b_type="kU4",
        group_size=64,
        zero_points=memory((EXPERTS, 4, N // 8), "int32"),
        global_scales=memory((EXPERTS,), "float32"),
        bias=memory((EXPERTS, N), "bfloat16"),
        g_idx=memory((EXPERTS, K), "int32"),
        perm=memory((EXPERTS, K), "int32"),
    )


def test_moe_gemm_with_everything(stub: Stub, memory: Memory) -> None:
    a = FakeTensor((M, K), "int8", pointer=0x7F00F0000000, strides=(K + 64, 1))
    weights, blocks = full_weights(memory), alignment(memory)
    a_scales = memory((M,), "float32")
    topk_weights = memory((M, TOP_K), "float32")
    out = marlin_moe.moe_gemm(
        a,
        weights,
        blocks,
        top_k=TOP_K,
        a_scales=a_scales,
        topk_weights=topk_weights,
        expert_parallel=True,
        atomic_reduce=True,
        config=GemmConfig(64, 128, 256, 1, 4),
        stream=STREAM,
        empty=memory,
    )
    assert (out.shape, out.dtype) == ((M * TOP_K, N), "bfloat16")
    fields = fields_of(stub, "gemm")
    assert fields.pop("workspace") % 256 == 0
    assert fields.pop("workspace_bytes") >= 4096
    pointers = {
        name: tensor.pointer
        for name, tensor in [*vars(weights).items(), *blocks._asdict().items()]
        if isinstance(tensor, FakeTensor)
    }
    assert fields == {
        "m": M,
        "n": N,
        "k": K,
        "num_experts": EXPERTS,
        "top_k": TOP_K,
        "block_size": 16,
        "a_type": ScalarType.S8,
        "b_type": ScalarType.U4,
        "c_type": ScalarType.BFLOAT16,
        "s_type": ScalarType.BFLOAT16,
        "group_size": 64,
        "num_groups": 4,
        "expert_parallel": 1,
        "atomic_reduce": 1,
        "a_stride": K + 64,
        "a": a.pointer,
        "a_scales": a_scales.pointer,
        "topk_weights": topk_weights.pointer,
        "c": out.pointer,
        "config_size": ctypes.sizeof(_abi.GemmConfig),
        "thread_k": 64,
        "thread_n": 128,
        "threads": 256,
        "blocks_per_sm": 1,
        "stripe_slack": 4,
        **pointers,
    }


def test_moe_gemm_with_the_least(stub: Stub, memory: Memory) -> None:
    a = memory((M, K), "float16")
    weights = ExpertWeights(
        b=memory((EXPERTS, K // 16, N * 4), "int32"),
        scales=memory((EXPERTS, 1, N), "float16"),
        b_type=ScalarType.U8B128,
        group_size=marlin_moe.GROUP_SIZE_CHANNEL,
    )
    out = memory((M, N), "float16")
    workspace = memory((8192,), "uint8")
    got = marlin_moe.moe_gemm(
        a, weights, alignment(memory), top_k=1, out=out, workspace=workspace, stream=STREAM
    )
    assert got is out
    fields = fields_of(stub, "gemm")
    assert (fields["n"], fields["num_groups"], fields["group_size"]) == (N, 1, -1)
    assert (fields["a_type"], fields["c_type"]) == (ScalarType.FLOAT16, ScalarType.FLOAT16)
    assert fields["a_stride"] == K
    assert (fields["workspace"], fields["workspace_bytes"]) == (workspace.pointer, 8192)
    for name in (
        "a_scales zero_points global_scales bias g_idx perm topk_weights expert_parallel "
        "atomic_reduce"
    ).split():
        assert fields[name] == 0, name
    assert "threads" not in fields


def test_moe_gemm_queries(stub: Stub, memory: Memory) -> None:
    a, weights = memory((M, K), "bfloat16"), full_weights(memory)
    stub.set_bytes(12345, 0)
    size = marlin_moe.moe_gemm_workspace_size(
        a, weights, top_k=TOP_K, block_size=32, atomic_reduce=True
    )
    assert size == 12345
    fields = stub.call("gemm_workspace_size")
    assert (fields["block_size"], fields["atomic_reduce"], fields["c"]) == (32, 1, 0)
    config = marlin_moe.moe_gemm_choose_config(a, weights, top_k=TOP_K, block_size=32)
    assert config == GemmConfig(64, 256, 128, 2, 3)


def test_block_size(stub: Stub) -> None:
    assert marlin_moe.moe_gemm_block_size(100, 128, 8, "kS8") == 16
    assert stub.call("gemm_block_size") == {
        "device": 0,
        "m": 100,
        "num_experts": 128,
        "top_k": 8,
        "a_type": ScalarType.S8,
    }


@pytest.mark.parametrize(("out_type", "dtype"), [("kS8", "int8"), ("kFE4M3fn", "uint8")])
def test_quantize_activations(stub: Stub, memory: Memory, out_type: str, dtype: str) -> None:
    x = FakeTensor((M, K), "bfloat16", strides=(K + 8, 1))
    factor = memory((1,), "float32")
    values, scales = marlin_moe.quantize_activations(
        x, out_type=out_type, factor=factor, stream=STREAM, empty=memory
    )
    assert (values.shape, values.dtype) == ((M, K), dtype)
    assert (scales.shape, scales.dtype) == ((M,), "float32")
    assert fields_of(stub, "quantize_activations") == {
        "m": M,
        "k": K,
        "x_type": ScalarType.BFLOAT16,
        "out_type": ScalarType[out_type.removeprefix("k").upper()],
        "x_stride": K + 8,
        "x": x.pointer,
        "out": values.pointer,
        "scales": scales.pointer,
        "factor": factor.pointer,
    }


def test_silu_and_mul(stub: Stub, memory: Memory) -> None:
    x = memory((M, 2 * N), "float16")
    out = marlin_moe.silu_and_mul(x, stream=STREAM, empty=memory)
    assert (out.shape, out.dtype) == ((M, N), "float16")
    assert fields_of(stub, "silu_and_mul") == {
        "m": M,
        "n": N,
        "type": ScalarType.FLOAT16,
        "x": x.pointer,
        "out": out.pointer,
    }


def test_topk_sum(stub: Stub, memory: Memory) -> None:
    x = memory((M * TOP_K, N), "bfloat16")
    topk_ids = memory((M, TOP_K), "int32")
    expert_map = memory((16,), "int32")
    out = marlin_moe.topk_sum(
        x,
        top_k=TOP_K,
        topk_ids=topk_ids,
        num_experts=16,
        expert_map=expert_map,
        stream=STREAM,
        empty=memory,
    )
    assert out.shape == (M, N)
    assert fields_of(stub, "topk_sum") == {
        "m": M,
        "n": N,
        "top_k": TOP_K,
        "type": ScalarType.BFLOAT16,
        "num_experts": 16,
        "x": x.pointer,
        "out": out.pointer,
        "topk_ids": topk_ids.pointer,
        "expert_map": expert_map.pointer,
    }
