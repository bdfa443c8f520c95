"""Every call that the GPU test of preparation spoils is refused, by name, without a GPU too.

A call that is not refused would be launched, and fail in another way.
"""

from __future__ import annotations

import ctypes
from typing import Any

import prepare_bad_input
import prepare_cases
from c_api import CApi
from prepare_cases import Case
from shim_lib import Status

POINTER = 0x7F0000000000


def capacity(num_ids: int, num_experts: int, block_size: int) -> int:
    return num_ids + num_experts * block_size


def good_arguments(api: CApi, function: str, case: Case) -> Any:
    names = [*case.inputs, *case.outputs]
    addresses = {name: POINTER + (i << 32) for i, name in enumerate(names)}
    fields = {
        name: type_id(api, value) if isinstance(value, str) else value
        for name, value in case.fields.items()
    }
    args = api.arguments(function, {**fields, **addresses})
    if function == "align":
        size = ctypes.c_size_t()
        assert api.call("align_workspace_size", args, size)[0] == "ok"
        args.workspace_bytes, args.workspace = size.value, POINTER
    return args


def type_id(api: CApi, name: str) -> int:
    return api.types[name.removeprefix("k").upper()]


def test_spoilt_calls_are_refused(api: CApi) -> None:
    good: dict[str, Case] = {}
    for case in prepare_cases.all_cases(capacity):
        prepare_bad_input.keep_good(case, good)
    count, problems = 0, []
    for bad in prepare_bad_input.all_bad_input(good):
        function = bad.case.function.removeprefix("moe_")
        args = good_arguments(api, function, bad.case)
        bad.spoil(args, lambda name: type_id(api, name))
        status = Status(*api.call(function, args))
        problems += [f"{bad.name}: {complaint}" for complaint in bad.complaints(status)]
        count += 1
    assert count > 250
    assert problems == []
