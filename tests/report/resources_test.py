"""Kernels of the manifest are found in objects by what their symbols say."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import report
from kernels import Kernel
from marlin_gen.tables import load_tables
from resources import Usage, match_kernels, scalar_type_ids
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
OTHER_SYMBOL = SYMBOL.replace("Ll262152E", "Ll328452E")


def usage(registers: int) -> Usage:
    return Usage(registers, stack=0, static_shared=0, local=0)


@pytest.fixture(scope="module")
def type_ids() -> dict[str, int]:
    return scalar_type_ids(Path(inspect.getfile(report)).parent / "type_ids")


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


def test_ids_of_other_origin_are_no_obstacle_where_nothing_is_alike() -> None:
    objects = {KERNEL.file: {("sm_80", SYMBOL): usage(80), ("sm_80", "_Z5otherv"): usage(10)}}
    found = match_kernels(objects, [KERNEL], {}, {"kFE8M0fnu": 8000})
    assert [one.usage.registers for one in found] == [80]
