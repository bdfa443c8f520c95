"""Kernels of the manifest are found in objects by what their symbols say."""

from __future__ import annotations

import dataclasses
import inspect
import os
from pathlib import Path

import pytest
import report
from errors import InputError
from kernels import Kernel, read_manifest
from marlin_gen.tables import load_tables
from resources import (
    Usage,
    dynamic_shared_memory,
    match_kernels,
    objects_in,
    objects_of,
    parse_usage,
    read_objects,
    scalar_type_ids,
)
from sections import Data, sections

KERNEL = Kernel(
    file="sm80_kernel_bfloat16_fe2m1f_bfloat16",
    family="sm80",
    schemes=("mxfp4",),
    types=("kBFloat16", "kFE2M1f", "kBFloat16", "kFE8M0fnu"),
    threads=128,
    rows=64,
    n=128,
    k=64,
    stages=4,
    group_blocks=2,
    cost=1.0,
)
OTHER_SCALES = dataclasses.replace(KERNEL, types=("kBFloat16", "kFE2M1f", "kBFloat16", "kFE4M3fn"))
# As nvcc spells them, with the numbers of kFE8M0fnu and kFE4M3fn.
SYMBOL = (
    "_ZN16marlin_moe_wna166MarlinILl198408ELl65794ELl198408ELl262152ELi128ELi4ELi8ELi4ELb0ELi4ELi2E"
    "Lb0EEEvNS_12KernelParamsE"
)
SM90_KERNEL = dataclasses.replace(
    KERNEL,
    file="sm90_kernel_bfloat16_u4b8_bfloat16",
    family="sm90",
    types=("kBFloat16", "kU4B8", "kBFloat16", "kBFloat16"),
    threads=384,
    rows=80,
    n=512,
    stages=0,
    group_blocks=8,
    blocks_per_sm=1,
)
SM90_SYMBOL = (
    "_ZN16marlin_moe_wna1610MarlinSm90ILl198408ELl65794ELl198408ELl198408ELi80ELi512ELi1ELi0ELi8E"
    "EEvNS_12KernelParamsE"
)
OTHER_SYMBOL = SYMBOL.replace("Ll262152E", "Ll328452E")


def usage(registers: int) -> Usage:
    return Usage(registers, stack=0, static_shared=0, local=0)


@pytest.fixture(scope="module")
def type_ids() -> dict[str, int]:
    return scalar_type_ids(Path(inspect.getfile(report)).parent / "type_ids")


def test_figures_stand_behind_their_function_and_its_architecture() -> None:
    text = """
Fatbin elf code:
================
arch = sm_80
host = linux

Resource usage:
 Common:
  GLOBAL:0
 Function first:
  REG:90 STACK:16 SHARED:1024 LOCAL:8 CONSTANT[0]:592 TEXTURE:0 SURFACE:0 SAMPLER:0
arch = sm_90
 Function first:
  REG:91 STACK:0 SHARED:0 LOCAL:0
"""
    assert parse_usage(text) == {
        ("sm_80", "first"): Usage(registers=90, stack=16, static_shared=1024, local=8),
        ("sm_90", "first"): Usage(registers=91, stack=0, static_shared=0, local=0),
    }


def test_a_function_without_figures_is_refused() -> None:
    with pytest.raises(InputError, match="no 'SHARED' of first"):
        parse_usage("arch = sm_80\n Function first:\n  REG:90 STACK:0\n")


def test_every_compiled_kernel_has_figures(tmp_path: Path, type_ids: dict[str, int]) -> None:
    kernels = read_manifest(Path(os.environ["MANIFEST"]))
    objects = objects_of(kernels, [Path(path) for path in os.environ["OBJECTS"].split()])
    found = match_kernels(read_objects(objects, tmp_path), kernels, {}, type_ids)
    assert {one.kernel for one in found} == set(kernels)
    assert all(16 < one.usage.registers <= 255 and not one.foreign for one in found)


def test_an_object_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.o").write_text("no object")
    with pytest.raises(InputError, match=r"cuobjdump cannot read .*a.o"):
        read_objects([tmp_path / "a.o"], tmp_path)


def test_objects_of_two_targets_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{KERNEL.file}.pic.o").touch()
        (tmp_path / folder / "other.pic.o").touch()
    (tmp_path / "one" / f"{KERNEL.file}.o").touch()
    assert len(objects_of([KERNEL], objects_in(tmp_path / "one"))) == 2
    with pytest.raises(InputError, match=r"lies in .*one and in .*two; give a folder"):
        objects_of([KERNEL], objects_in(tmp_path))


def test_every_scalar_type_has_an_id(type_ids: dict[str, int]) -> None:
    assert set(type_ids) == set(load_tables().scalar_types)
    assert len(set(type_ids.values())) == len(type_ids)


def test_kernels_that_differ_in_the_scales_alone_are_told_apart(type_ids: dict[str, int]) -> None:
    objects = {KERNEL.file: {("sm_80", OTHER_SYMBOL): usage(90), ("sm_80", SYMBOL): usage(80)}}
    found = match_kernels(objects, [KERNEL, OTHER_SCALES], {}, type_ids)
    assert [(one.kernel, one.usage.registers) for one in found] == [
        (KERNEL, 80),
        (OTHER_SCALES, 90),
    ]


def test_shared_memory_is_that_of_this_template_alone() -> None:
    own = SYMBOL.replace("_ZN16marlin_moe_wna16", "_ZN2my7kernels").replace("NS_12", "NS0_12")
    foreign = SYMBOL.replace("NS_12KernelParamsE", "PKiPfi")
    other = SYMBOL.replace("NS_12KernelParamsE", "N5other12KernelParamsE")
    symbols = {"sm_80": own, "sm_86": foreign, "sm_90": other}
    objects = {KERNEL.file: {(arch, symbol): usage(80) for arch, symbol in symbols.items()}}
    found = match_kernels(objects, [KERNEL], {KERNEL: 4096}, {})
    assert [(one.arch, one.dynamic_shared, one.shared) for one in found] == [
        ("sm_80", 4096, 4096),
        ("sm_86", None, 0),
        ("sm_90", None, 0),
    ]
    data = Data("//a:b", [KERNEL], [], [], [], found, None, None)
    (section,) = (section for section in sections(data) if section.id == "shared")
    assert section.text.startswith("2 of 3 compiled kernels are not of this repository's template")


def test_kernels_of_sm90_are_found_by_their_own_arguments() -> None:
    two_blocks = dataclasses.replace(SM90_KERNEL, blocks_per_sm=2)
    symbols = {"sm_90a": SM90_SYMBOL, "sm_80": SYMBOL}
    objects = {SM90_KERNEL.file: {(arch, text): usage(168) for arch, text in symbols.items()}}
    found = match_kernels(objects, [two_blocks, SM90_KERNEL], {SM90_KERNEL: 200000}, {})
    assert [(one.kernel, one.arch, one.shared) for one in found] == [
        (SM90_KERNEL, "sm_90a", 200000)
    ]


def test_a_block_of_either_template_takes_shared_memory_that_its_device_has() -> None:
    program = Path(inspect.getfile(report)).parent / "shared_memory"
    bits = {name: scalar.bits for name, scalar in load_tables().scalar_types.items()}
    found = dynamic_shared_memory([KERNEL, SM90_KERNEL], bits, program)
    # Four stages of A and B, and as many of them as fit into the 227 KiB of 9.0.
    assert 4 * (64 * 64 * 2 + 64 * 128 // 2) < found[KERNEL] <= 99 * 1024
    stage = 80 * 128 + 64 * 512 // 2
    assert 227 * 1024 - 2 * stage < found[SM90_KERNEL] <= 227 * 1024


def test_ids_of_other_origin_are_no_obstacle_where_nothing_is_alike() -> None:
    objects = {KERNEL.file: {("sm_80", SYMBOL): usage(80), ("sm_80", "_Z5otherv"): usage(10)}}
    found = match_kernels(objects, [KERNEL], {}, {"kFE8M0fnu": 8000})
    assert [one.usage.registers for one in found] == [80]
