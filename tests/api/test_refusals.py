"""Bad arguments are refused before anything is launched, with the argument's name.

Runs without a GPU: a refusal comes before the device is asked for. The pointers are made up and
never followed.
"""

from __future__ import annotations

import ctypes
import os
import re

import pytest

INVALID_ARGUMENT = 1
POINTER = 0x7F0000000000

INT_FIELDS = (
    "m n k num_experts top_k block_size a_type b_type c_type s_type group_size num_groups "
    "expert_parallel reserved"
).split()
POINTER_FIELDS = (
    "a a_scales b scales zero_points global_scales bias g_idx perm topk_weights sorted_token_ids "
    "expert_ids num_tokens_past_padded c workspace"
).split()
F16, BF16, S8, E4M3, U4, U4B8 = 1, 2, 3, 4, 5, 6


class Args(ctypes.Structure):
    _fields_ = (
        [("struct_size", ctypes.c_size_t)]
        + [(name, ctypes.c_int32) for name in INT_FIELDS]
        + [("a_stride", ctypes.c_int64)]
        + [(name, ctypes.c_void_p) for name in POINTER_FIELDS]
        + [("workspace_bytes", ctypes.c_size_t), ("stream", ctypes.c_void_p)]
    )


class Config(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32)
        for name in ("thread_k", "thread_n", "threads", "blocks_per_sm", "stripe_slack")
    ]


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    loaded = ctypes.CDLL(os.path.abspath(os.environ["MARLIN_MOE_LIBRARY"]))
    loaded.marlin_moe_last_error.restype = ctypes.c_char_p
    return loaded


def valid_args(**changes: int | None) -> Args:
    """Arguments that only the device can refuse, with some fields changed."""
    fields: dict[str, int | None] = {
        "struct_size": ctypes.sizeof(Args),
        "m": 17,
        "n": 256,
        "k": 512,
        "num_experts": 8,
        "top_k": 2,
        "block_size": 16,
        "a_type": F16,
        "b_type": U4,
        "c_type": F16,
        "s_type": F16,
        "group_size": 128,
        "num_groups": 4,
        "a_stride": 512,
        "workspace_bytes": 1 << 40,
        **dict.fromkeys(POINTER_FIELDS, POINTER),
    }
    return Args(**{**fields, **changes})


def refusal(library: ctypes.CDLL, args: Args, config: Config | None = None) -> str:
    """Returns the message of a call that has to be refused."""
    forced = None if config is None else ctypes.byref(config)
    status = library.marlin_moe_gemm(ctypes.byref(args), forced)
    message = library.marlin_moe_last_error().decode()
    assert status == INVALID_ARGUMENT, f"status {status}, {message}"
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
        ("block_size", 24),
        ("block_size", 80),
        ("group_size", 48),
        ("group_size", -2),
        ("num_groups", 3),
        ("a_stride", 504),
        ("a_stride", 516),
        *((name, 0) for name in ("a_type", "b_type", "c_type", "s_type")),
        *((name, 10) for name in ("a_type", "b_type", "c_type", "s_type")),
    ],
)
def test_wrong_numbers_are_named(library: ctypes.CDLL, field: str, value: int) -> None:
    message = refusal(library, valid_args(**{field: value}))
    assert re.match(rf"{field} = {value} is not allowed; allowed: .+", message), message


@pytest.mark.parametrize(
    "field", [name for name in POINTER_FIELDS if name not in ("a_scales", "g_idx", "perm")]
)
def test_misaligned_pointers_are_named(library: ctypes.CDLL, field: str) -> None:
    changes: dict[str, int | None] = {field: POINTER + 2}
    if field == "global_scales":
        changes["s_type"] = E4M3
    message = refusal(library, valid_args(**changes))
    assert message.startswith(f"{field} = a misaligned pointer is not allowed"), message


@pytest.mark.parametrize(
    "field",
    [name for name in POINTER_FIELDS if name not in ("bias", "topk_weights")],
)
def test_missing_pointers_are_named(library: ctypes.CDLL, field: str) -> None:
    needed_by: dict[str, dict[str, int | None]] = {
        "global_scales": {"s_type": E4M3},
        "a_scales": {"a_type": S8},
        "g_idx": {"group_size": 0},
        "perm": {"group_size": 0},
    }
    message = refusal(library, valid_args(**{field: None, **needed_by.get(field, {})}))
    assert message.startswith(f"{field} = null is not allowed"), message


def test_shapes_beyond_one_launch_are_refused(library: ctypes.CDLL) -> None:
    message = refusal(library, valid_args(m=2**31 - 1, top_k=8))
    assert message.startswith("m = 2147483647 is not allowed"), message


def test_unknown_tiles_are_refused(library: ctypes.CDLL) -> None:
    message = refusal(library, valid_args(), Config(32, 128, 128, 0, -1))
    assert "config = (32, 128, 128) is not allowed" in message
    assert "(64, 128, 128)" in message


def test_no_rows_are_nothing_to_do(library: ctypes.CDLL) -> None:
    args = valid_args(m=0, **dict.fromkeys(POINTER_FIELDS))
    assert library.marlin_moe_gemm(ctypes.byref(args), None) == 0
