"""The package's structs, functions, statuses and types are those of marlin_moe.h."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest
from c_api import CApi
from marlin_moe import (
    InvalidArgumentError,
    ScalarType,
    _abi,
    alignment_capacity,
    moe_gemm_block_size,
)
from stub import Stub

STRUCTS = {
    name.removesuffix("Args"): kind
    for name, kind in vars(_abi).items()
    if name.endswith("Args") and kind is not _abi.Args
}


@pytest.fixture
def header(stub: Stub) -> CApi:
    return CApi(str(stub.path), os.environ["MARLIN_MOE_HEADER"])


def fields(kind: Any) -> list[tuple[str, str, int, int]]:
    """Name, C type, place and size of each field; pointers are all alike."""
    return [
        (name, field_type.__name__, getattr(kind, name).offset, getattr(kind, name).size)
        for name, field_type in kind._fields_
    ]


def snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")


def test_every_struct_is_the_headers(header: CApi) -> None:
    ours = {f"{snake(name)}_args": fields(kind) for name, kind in STRUCTS.items()}
    ours["gemm_config"] = fields(_abi.GemmConfig)
    assert ours == {name: fields(kind) for name, kind in header.structs.items()}


def test_every_function_is_bound(header: CApi) -> None:
    bound = {*_abi.FUNCTIONS, "gemm_block_size", "last_error"}
    assert bound == set(header.functions)


def test_functions_take_the_structs_named_after_them(header: CApi) -> None:
    for function, parameters in _abi.FUNCTIONS.items():
        base = function
        while f"{base}_args" not in header.structs:
            base = base.rpartition("_")[0]
        struct = parameters[0]._type_
        assert snake(struct.__name__) == f"{base}_args", function


def test_types_have_the_headers_numbers(header: CApi) -> None:
    assert {kind.name: kind.value for kind in ScalarType} == header.types


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="topk"):
        _abi.GemmArgs(topk=1)


def test_structs_know_their_size() -> None:
    assert _abi.TopkSumArgs().struct_size == ctypes.sizeof(_abi.TopkSumArgs)


class Number:
    """A number that is no int, as those of NumPy are."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


@pytest.mark.parametrize("given", [2**31, -(2**31) - 1, 2**32 + 5])
def test_numbers_that_a_field_would_cut_are_refused(stub: Stub, given: int) -> None:
    message = rf"^num_ids = {given} is not allowed; allowed: -2147483648 to 2147483647"
    with pytest.raises(InvalidArgumentError, match=message):
        alignment_capacity(given, 8, 16)
    args = _abi.GemmArgs(m=2**31 - 1, a_stride=2**40, workspace_bytes=2**40)
    assert (args.m, args.a_stride, args.workspace_bytes) == (2**31 - 1, 2**40, 2**40)
    with pytest.raises(InvalidArgumentError, match=rf"^num_experts = {given}"):
        args.num_experts = given
    with pytest.raises(InvalidArgumentError, match=rf"^num_experts = {given}"):
        args.num_experts = Number(given)
    with pytest.raises(InvalidArgumentError, match=rf"^stripe_slack = {given}"):
        _abi.GemmConfig(stripe_slack=given)
    with pytest.raises(InvalidArgumentError, match=rf"^top_k = {given}"):
        moe_gemm_block_size(1, 8, given)
    assert stub.calls() == []
