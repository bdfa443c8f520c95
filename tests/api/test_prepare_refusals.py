"""The functions around the GEMM refuse bad arguments through the C interface, by name.

Runs without a GPU: each call has one argument that is refused before anything is launched. Since
the refusal repeats the value, it shows as well that the field reaches the function.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest
from c_api import CApi

POINTER = 0x7F0000000000
WEIGHTS = {
    "num_experts": 8,
    "n": 128,
    "k": 256,
    "a_type": "FLOAT16",
    "b_type": "U4",
    "source_n": 96,
    "source_k": 256,
    "column_parts": 2,
}
COLUMNS = {"source_n": 96, "column_parts": 2}

# Good arguments of every function, without its pointers, and those: name, alignment, whether null
# is refused as well.
GOOD: dict[str, tuple[dict[str, Any], list[tuple[str, int, bool]]]] = {
    "repack_gptq": (WEIGHTS, [("qweight", 16, True), ("perm", 16, False), ("out", 16, True)]),
    "repack_awq": (
        {**WEIGHTS, "a_type": "FE4M3FN", "num_groups": 2},
        [("qweight", 16, True), ("qzeros", 16, True), ("out", 16, True)],
    ),
    "repack_rows": (WEIGHTS, [("weights", 16, True), ("out", 16, True)]),
    "sort_rows_by_group": (
        {"num_experts": 8, "k": 256},
        [("g_idx", 16, True), ("perm", 16, True), ("sorted_g_idx", 16, True)],
    ),
    "permute_scales": (
        {
            "num_experts": 8,
            "num_groups": 2,
            "n": 128,
            "a_type": "S8",
            "b_type": "U4",
            "c_type": "FLOAT16",
            "s_type": "FLOAT16",
            "group_size": 128,
            "source_groups": 1,
            "columns_per_scale": 128,
            **COLUMNS,
        },
        [("scales", 16, True), ("out", 16, True), ("global_scales", 4, True)],
    ),
    "scale_global_scales": (
        {"num_experts": 8, "c_type": "FLOAT16"},
        [("global_scales", 4, True), ("out", 4, True)],
    ),
    "permute_bias": (
        {"num_experts": 8, "n": 128, **COLUMNS},
        [("bias", 16, True), ("out", 16, True)],
    ),
    "permute_zero_points": (
        {
            "num_experts": 8,
            "num_groups": 2,
            "n": 128,
            "a_type": "FLOAT16",
            "source_groups": 1,
            **COLUMNS,
        },
        [("qzeros", 16, True), ("out", 16, True)],
    ),
    "align": (
        {"num_ids": 9000, "num_experts": 64, "block_size": 16, "workspace_bytes": 1 << 30},
        [
            ("topk_ids", 4, True),
            ("expert_map", 4, False),
            ("sorted_token_ids", 4, True),
            ("expert_ids", 4, True),
            ("num_tokens_past_padded", 4, True),
            ("workspace", 4, True),
        ],
    ),
    "quantize_activations": (
        {"m": 3, "k": 64, "x_type": "FLOAT16", "out_type": "S8", "x_stride": 64},
        [("x", 16, True), ("out", 16, True), ("scales", 4, True), ("factor", 4, False)],
    ),
    "act_and_mul": (
        {"m": 3, "n": 64, "type": "FLOAT16", "activation": 3, "alpha": 1.5, "limit": 7.0},
        [("x", 16, True), ("out", 16, True)],
    ),
    "topk_sum": (
        {"m": 3, "n": 64, "top_k": 2, "type": "FLOAT16", "num_experts": 8},
        [("x", 16, True), ("out", 16, True), ("topk_ids", 4, False), ("expert_map", 4, False)],
    ),
}
# Covered here besides, and by test_refusals.py.
QUERIES = ["align_capacity", "align_workspace_size", "padded_shape"]
ELSEWHERE = [
    "gemm",
    "gemm_workspace_size",
    "gemm_max_workspace_size",
    "gemm_choose_config",
    "gemm_block_size",
    "gemm_choose_block_size",
    "last_error",
]


def bad_numbers(good: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yields each number field with a value that is never allowed."""
    for name, value in good.items():
        if isinstance(value, str):
            yield name, 77
        elif name != "workspace_bytes":
            yield name, -3


CALLS = [
    pytest.param(function, name, value, f"{name} = {value} is not allowed", id=f"{function}-{name}")
    for function, (good, _) in GOOD.items()
    for name, value in bad_numbers(good)
]
CALLS += [
    pytest.param(
        function,
        name,
        value,
        f"{name} = {'null' if value is None else 'a misaligned pointer'} is not allowed",
        id=f"{function}-{name}-{value}",
    )
    for function, (_, pointers) in GOOD.items()
    for name, alignment, needed in pointers
    for value in ([POINTER + alignment // 2, None] if needed else [POINTER + alignment // 2])
]


def arguments(api: CApi, function: str, **changes: Any) -> Any:
    good, pointers = GOOD[function]
    addresses = {name: POINTER for name, _, _ in pointers}
    return api.arguments(function, {**good, **addresses, **changes})


def test_every_function_is_covered(api: CApi) -> None:
    assert sorted(api.functions) == sorted([*GOOD, *QUERIES, *ELSEWHERE])


def test_every_pointer_is_covered(api: CApi) -> None:
    for function, (_, pointers) in GOOD.items():
        fields = api.structs[f"{function}_args"]._fields_
        names = {name for name, kind in fields if kind is ctypes.c_void_p}
        assert names == {name for name, _, _ in pointers} | {"stream"}


@pytest.mark.parametrize(("function", "name", "value", "expected"), CALLS)
def test_bad_arguments_are_named(
    api: CApi, function: str, name: str, value: int | None, expected: str
) -> None:
    status, message = api.call(function, arguments(api, function, **{name: value}))
    assert (status, message[: len(expected)]) == ("invalid_argument", expected)


@pytest.mark.parametrize(
    ("function", "changes", "expected"),
    [
        (
            "permute_scales",
            {"s_type": "BFLOAT16"},
            "s_type = kBFloat16 with b_type = kU4 and c_type = kFloat16 is not allowed; "
            "allowed: kFloat16",
        ),
        (
            "permute_scales",
            {"b_type": "FE2M1F"},
            "s_type = kFloat16 with b_type = kFE2M1f is not allowed; allowed: kFE4M3fn, kFE8M0fnu",
        ),
        (
            "permute_scales",
            {"b_type": "FE2M1F", "s_type": "FE8M0FNU", "a_type": "S8"},
            "a_type = kS8 with s_type = kFE8M0fnu is not allowed; "
            "allowed: kFloat16, kBFloat16, kFE4M3fn",
        ),
        (
            "permute_scales",
            {"b_type": "FE2M1F", "s_type": "FE8M0FNU", "a_type": "FLOAT16", "float32_scales": 1},
            "float32_scales = true with s_type = kFE8M0fnu is not allowed; "
            "allowed: false; or s_type = c_type",
        ),
        (
            "repack_gptq",
            {"a_type": "S8", "b_type": "U8B128"},
            "b_type = kU8B128 with a_type = kS8 is not allowed; allowed: kU4, kU4B8",
        ),
    ],
)
def test_types_that_do_not_go_together_are_named(
    api: CApi, function: str, changes: dict[str, str], expected: str
) -> None:
    status, message = api.call(function, arguments(api, function, **changes))
    assert (status, message) == ("invalid_argument", expected)


@pytest.mark.parametrize(
    ("function", "field"),
    [("repack_rows", "n"), ("repack_rows", "k"), ("permute_scales", "n"), ("permute_bias", "n")],
)
def test_sizes_that_have_to_be_padded_are_refused_with_what_pads(
    api: CApi, function: str, field: str
) -> None:
    status, message = api.call(function, arguments(api, function, **{field: 96}))
    assert status == "invalid_argument"
    assert message.startswith(f"{field} = 96 is not allowed; allowed: a multiple of 64 from 64 to ")
    assert message.endswith(", as padded_shape() makes of other sizes")


@pytest.mark.parametrize("function", GOOD)
def test_structs_of_another_size_are_refused(api: CApi, function: str) -> None:
    size = ctypes.sizeof(api.structs[f"{function}_args"])
    status, message = api.call(function, arguments(api, function, struct_size=size - 8))
    assert status == "invalid_argument"
    assert message == f"struct_size = {size - 8} is not allowed; allowed: {size}, this library's"
    status, message = api.call(function, None)
    assert (status, message[:11]) == ("invalid_argument", "args = null")


def test_a_small_workspace_is_refused_with_what_is_needed(api: CApi) -> None:
    needed = ctypes.c_size_t()
    assert api.call("align_workspace_size", arguments(api, "align"), needed)[0] == "ok"
    small = arguments(api, "align", workspace_bytes=needed.value - 1)
    status, message = api.call("align", small)
    assert status == "insufficient_workspace"
    assert f"needed: {needed.value}" in message


@pytest.mark.parametrize(
    ("num_ids", "num_experts", "block_size", "places"),
    [
        (0, 8, 16, 0),
        (1, 8, 16, 16),
        (10, 2, 8, 24),
        (100, 4, 64, 320),
        (100, 4, 72, 360),
        (3, 8, 176, 528),
        (1, 8, 256, 256),
    ],
)
def test_capacity(api: CApi, num_ids: int, num_experts: int, block_size: int, places: int) -> None:
    found = ctypes.c_int64(-1)
    shape = {"num_ids": num_ids, "num_experts": num_experts, "block_size": block_size}
    assert api.call("align_capacity", api.arguments("align", shape), found)[0] == "ok"
    assert found.value == places


@pytest.mark.parametrize(
    "block_size", [*range(8, 257, 8), *(size + 4 for size in range(0, 260, 8)), -8, 264, 512]
)
def test_blocks_of_8_to_256_ids_in_steps_of_8_are_allowed(api: CApi, block_size: int) -> None:
    found = ctypes.c_size_t()
    args = arguments(api, "align", block_size=block_size)
    status, message = api.call("align_workspace_size", args, found)
    if block_size % 8 == 0 and 8 <= block_size <= 256:
        assert status == "ok", message
    else:
        allowed = "a multiple of 8 from 8 to 256"
        assert message == f"block_size = {block_size} is not allowed; allowed: {allowed}"


SHARD = {"n": 192, "k": 96, "a_type": "BFLOAT16", "b_type": "U4B8", "group_size": 32}


@pytest.mark.parametrize(
    ("changes", "padded"),
    [
        ({}, (192, 128, 4)),
        ({"group_size": 128}, (192, 128, 1)),
        ({"group_size": -1}, (192, 128, 1)),
        ({"group_size": 0}, (192, 128, 1)),
        ({"n": 2880, "k": 1440, "b_type": "FE2M1F"}, (2880, 1472, 46)),
        ({"n": 1, "k": 1472, "group_size": 128}, (64, 1536, 12)),
        ({"k": 1440, "group_size": 1440}, (192, 1472, 1)),
        ({"k": 32}, (192, 64, 1)),
    ],
)
def test_shapes_are_padded_to_tiles_and_groups(
    api: CApi, changes: dict[str, Any], padded: tuple[int, int, int]
) -> None:
    found = [ctypes.c_int32() for _ in padded]
    args = api.arguments("padded_shape", {**SHARD, **changes})
    assert api.call("padded_shape", args, *found)[0] == "ok"
    assert tuple(number.value for number in found) == padded


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 0), ("k", -1), ("group_size", 48), ("a_type", 77), ("a_type", 5), ("b_type", 1)],
)
def test_shapes_that_nothing_can_hold_are_refused(api: CApi, name: str, value: int) -> None:
    found = [ctypes.c_int32(-1) for _ in range(3)]
    args = api.arguments("padded_shape", {**SHARD, name: value})
    status, message = api.call("padded_shape", args, *found)
    assert (status, message[: len(name) + 3]) == ("invalid_argument", f"{name} = ")
    assert [number.value for number in found] == [-1, -1, -1]


def test_padded_shapes_need_a_place(api: CApi) -> None:
    args = api.arguments("padded_shape", SHARD)
    for index, name in enumerate(("n", "k", "num_groups")):
        places = [None if i == index else ctypes.c_int32() for i in range(3)]
        status, message = api.call("padded_shape", args, *places)
        assert (status, message[: len(name) + 7]) == ("invalid_argument", f"{name} = null")


@pytest.mark.parametrize(
    ("query", "result"), [("align_capacity", "places"), ("align_workspace_size", "bytes")]
)
def test_queries_refuse_bad_arguments(api: CApi, query: str, result: str) -> None:
    found = ctypes.c_int64(-1)
    for name, value in (("block_size", 0), ("num_experts", 1025), ("num_ids", -1)):
        status, message = api.call(query, arguments(api, "align", **{name: value}), found)
        assert (status, message.split(" is not")[0]) == ("invalid_argument", f"{name} = {value}")
    assert found.value == -1
    status, message = api.call(query, arguments(api, "align"), None)
    assert (status, message[: len(result) + 7]) == ("invalid_argument", f"{result} = null")
