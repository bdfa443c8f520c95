"""The package's structs, functions, statuses and types are those of marlin_moe.h."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest
from c_api import CApi
from marlin_moe import ScalarType, _abi
from stub import Stub

STRUCTS = {
    "".join(part for part in name.removesuffix("Args")): kind
    for name, kind in vars(_abi).items()
    if isinstance(kind, type) and issubclass(kind, _abi.Args) and kind is not _abi.Args
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
