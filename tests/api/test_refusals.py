"""Bad arguments are refused before anything is launched, with the argument's name.

Runs without a GPU: a refusal comes before the device is asked for. The pointers are made up and
never followed.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any

import pytest
from c_api import CApi

POINTER = 0x7F0000000000

POINTER_FIELDS = (
    "a a_scales b scales zero_points global_scales bias g_idx perm topk_weights sorted_token_ids "
    "expert_ids num_tokens_past_padded c workspace"
).split()


def valid_args(api: CApi, **changes: Any) -> Any:
    """Arguments that only the device can refuse, with some fields changed."""
    fields: dict[str, Any] = {
        "m": 17,
        "n": 256,
        "k": 512,
        "num_experts": 8,
        "top_k": 2,
        "block_size": 16,
        "a_type": "FLOAT16",
        "b_type": "U4",
        "c_type": "FLOAT16",
        "s_type": "FLOAT16",
        "group_size": 128,
        "num_groups": 4,
        "a_stride": 512,
        "workspace_bytes": 1 << 40,
        **dict.fromkeys(POINTER_FIELDS, POINTER),
    }
    return api.arguments("gemm", {**fields, **changes})


def config(api: CApi, *numbers: int) -> Any:
    """A configuration of the numbers given."""
    struct = api.structs["gemm_config"]
    return struct(ctypes.sizeof(struct), *numbers)


def refusal(api: CApi, args: Any, given: Any = None) -> str:
    """Returns the message of a call that has to be refused."""
    status, message = api.call("gemm", args, given)
    assert status == "invalid_argument", f"{status}, {message}"
    return message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("struct_size", 8),
        ("m", -1),
        ("n", 0),
        ("n", 96),
        ("n", -64),
        ("k", 0),
        ("k", 500),
        ("k", 576),  # not a multiple of the group size
        ("num_experts", 0),
        ("top_k", 0),
        ("block_size", 0),
        ("block_size", 12),
        ("block_size", 264),
        ("group_size", 48),
        ("group_size", -2),
        ("group_size", 512),  # k, but not one group
        ("num_groups", 3),
        ("a_stride", 504),
        ("a_stride", 516),
        *((name, 0) for name in ("a_type", "b_type", "c_type", "s_type")),
        *((name, 10) for name in ("a_type", "b_type", "c_type", "s_type")),
    ],
)
def test_wrong_numbers_are_named(api: CApi, field: str, value: int) -> None:
    message = refusal(api, valid_args(api, **{field: value}))
    assert re.match(rf"{field} = {value} is not allowed; allowed: .+", message), message


@pytest.mark.parametrize(
    "field", [name for name in POINTER_FIELDS if name not in ("a_scales", "g_idx", "perm")]
)
def test_misaligned_pointers_are_named(api: CApi, field: str) -> None:
    changes: dict[str, Any] = {field: POINTER + 2}
    if field == "global_scales":
        changes["s_type"] = "FE4M3FN"
    message = refusal(api, valid_args(api, **changes))
    assert message.startswith(f"{field} = a misaligned pointer is not allowed"), message


@pytest.mark.parametrize(
    "field",
    [name for name in POINTER_FIELDS if name not in ("bias", "topk_weights")],
)
def test_missing_pointers_are_named(api: CApi, field: str) -> None:
    needed_by: dict[str, dict[str, Any]] = {
        "global_scales": {"s_type": "FE4M3FN"},
        "a_scales": {"a_type": "S8"},
        "g_idx": {"group_size": 0},
        "perm": {"group_size": 0},
    }
    message = refusal(api, valid_args(api, **{field: None, **needed_by.get(field, {})}))
    assert message.startswith(f"{field} = null is not allowed"), message


def test_shapes_beyond_one_launch_are_refused(api: CApi) -> None:
    for m, top_k in ((2**31 - 1, 8), (2**30, 2**30), (2**31 - 1, 2**31 - 1)):
        for expert_parallel in (0, 1):
            args = valid_args(api, m=m, top_k=top_k, expert_parallel=expert_parallel)
            assert refusal(api, args).startswith(f"m = {m} is not allowed; allowed: fewer rows")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a_type": "U4"}, "a_type = kU4 is not allowed; allowed: kFloat16, kBFloat16, kS8, "),
        ({"b_type": "S8"}, "b_type = kS8 is not allowed; allowed: kU4, kU4B8, kU8B128, "),
        ({"c_type": "S8"}, "c_type = kS8 is not allowed; allowed: kFloat16, kBFloat16"),
        ({"c_type": "BFLOAT16"}, "s_type = kFloat16 is not allowed; allowed: kBFloat16, kFE4M3fn"),
        ({"a_type": "S8", "c_type": "S8"}, "c_type = kS8 is not allowed; allowed: kFloat16, kBF"),
        ({"s_type": "BFLOAT16"}, "s_type = kBFloat16 is not allowed; allowed: kFloat16, kFE4M3fn"),
        ({"a_type": "S8", "block_size": 12}, "block_size = 12 is not allowed; allowed: 8 to "),
    ],
)
def test_types_that_no_kernel_can_have_are_named(
    api: CApi, changes: dict[str, Any], message: str
) -> None:
    assert refusal(api, valid_args(api, **changes)).startswith(message)


@pytest.mark.parametrize("field", ["n", "k"])
def test_sizes_that_have_to_be_padded_are_refused_with_what_pads(api: CApi, field: str) -> None:
    message = refusal(api, valid_args(api, **{field: 96}))
    assert message.endswith(", as padded_shape() makes of other sizes")


def test_unknown_tiles_are_refused(api: CApi) -> None:
    message = refusal(api, valid_args(api), config(api, 32, 128, 128, 0, -1))
    assert "config = (32, 128, 128) is not allowed" in message
    assert "(64, 128, 128)" in message


def test_a_configuration_of_another_size_is_refused(api: CApi) -> None:
    known = config(api, 64, 128, 128, 0, -1)
    known.struct_size -= 8
    size = ctypes.c_size_t(7)
    for function, *others in (("gemm",), ("gemm_workspace_size", size), ("gemm_choose_config",)):
        status, message = api.call(function, valid_args(api), known, *others)
        assert status == "invalid_argument"
        assert message.startswith(f"config.struct_size = {known.struct_size} is not allowed")
    assert (size.value, known.thread_k) == (7, 64)


def test_no_rows_are_nothing_to_do(api: CApi) -> None:
    args = valid_args(api, m=0, **dict.fromkeys(POINTER_FIELDS))
    assert api.call("gemm", args, None)[0] == "ok"
    size = ctypes.c_size_t(7)
    assert api.call("gemm_workspace_size", args, None, size)[0] == "ok"
    assert size.value == 0


@pytest.mark.parametrize("function", ["gemm_workspace_size", "gemm_max_workspace_size"])
def test_workspace_queries_check_what_the_call_checks(api: CApi, function: str) -> None:
    none = [None] if function == "gemm_workspace_size" else []
    size = ctypes.c_size_t(7)
    status, message = api.call(function, valid_args(api, n=96), *none, size)
    assert (status, message[:6]) == ("invalid_argument", "n = 96")
    assert size.value == 7
    status, message = api.call(function, valid_args(api), *none, None)
    assert (status, message[:12]) == ("invalid_argument", "bytes = null")


def test_choosing_a_configuration_checks_what_the_call_checks(api: CApi) -> None:
    chosen = config(api, 1, 2, 3, 4, 5)
    status, message = api.call("gemm_choose_config", valid_args(api, block_size=12), chosen)
    assert (status, message[:15]) == ("invalid_argument", "block_size = 12")
    assert chosen.thread_k == 1
    status, message = api.call("gemm_choose_config", valid_args(api), None)
    assert (status, message[:13]) == ("invalid_argument", "config = null")


def test_choosing_a_block_size_checks_everything_else(api: CApi) -> None:
    size = ctypes.c_int32(7)
    args = valid_args(api, n=96, block_size=-1)
    status, message = api.call("gemm_choose_block_size", args, size)
    assert (status, message[:6], size.value) == ("invalid_argument", "n = 96", 7)
    status, message = api.call("gemm_choose_block_size", valid_args(api), None)
    assert (status, message[:17]) == ("invalid_argument", "block_size = null")


def test_no_type_has_no_block_size(api: CApi) -> None:
    assert api.block_size(1, 8, 2, 0) == 0
    assert api.last_error().startswith("a_type = 0 is not allowed")
    assert api.block_size(1, 8, 2, api.types["FLOAT16"]) == 8


@pytest.mark.parametrize(
    ("numbers", "a_type", "message"),
    [
        ((-5, 8, 2), "FLOAT16", "m = -5 is not allowed; allowed: 0 or more"),
        ((1, 0, 2), "FLOAT16", "num_experts = 0 is not allowed; allowed: 1 or more"),
        ((1, 8, 0), "S8", "top_k = 0 is not allowed; allowed: 1 or more"),
        ((1, 8, 2), "U4", "a_type = kU4 is not allowed; allowed: kFloat16, kBFloat16, kS8, "),
    ],
)
def test_block_sizes_of_no_call_are_refused(
    api: CApi, numbers: tuple[int, int, int], a_type: str, message: str
) -> None:
    assert api.block_size(*numbers, api.types[a_type]) == 0
    assert api.last_error().startswith(message)
    assert api.block_size(0, 1, 1, api.types["FE4M3FN"]) == 16
