"""The kernels for an architecture list are exactly the documented ones, in every field.

The documentation knows no parts: it gives every kernel the name of the first part of its file.
"""

import re
from collections import Counter

import pytest
from marlin_gen.render import kernels_of, render
from marlin_gen.spec import spec_for_archs


def documented_rows(data):
    for file in data["files"]:
        shared = {key: value for key, value in file.items() if key != "kernels"}
        for row in file["kernels"]:
            yield {**shared, **dict(zip(data["columns"], row, strict=True))}


def generated_row(kernel):
    names = ("a_type", "b_type", "c_type", "s_type")
    types = dict(zip(names, (scalar.name for scalar in kernel.types), strict=True))
    return {"file": f"{kernel.file_stem}.cu", **types, **kernel.shape}


def counted(rows):
    return Counter(tuple(sorted(row.items())) for row in rows)


@pytest.mark.parametrize(
    ("name", "count"),
    [("documented_8.0_8.9.json", 614), ("documented_7.5_8.0_8.9_9.0_12.0.json", 848)],
)
def test_kernels_are_the_documented_ones(name, count, testdata, tables):
    data = testdata(name)
    kernels = kernels_of(spec_for_archs(data["archs"], tables), tables)
    assert len(kernels) == count
    assert counted(map(generated_row, kernels)) == counted(documented_rows(data))


def test_files_are_those_of_the_kernels(testdata, tables):
    data = testdata("documented_8.0_8.9.json")
    texts = render(spec_for_archs(data["archs"], tables), tables)
    documented = {file["file"] for file in data["files"]}
    parts = {name for name in texts if re.fullmatch(r".*_\d+\.cu", name)}
    assert parts
    assert {re.sub(r"_\d+\.cu$", ".cu", name) for name in parts} < documented
    assert set(texts) - parts == documented | {"kernel_selector.h", "manifest.json"}


@pytest.mark.parametrize(
    ("archs", "families"),
    [
        ("7.5", {"sm75"}),
        ("8.0", {"sm80"}),
        ("8.9", {"sm80", "sm89"}),
        ("9.0a", {"sm80"}),
        ("10.0f,11.0", {"sm80"}),
        ("12.0+PTX", {"sm80", "sm89"}),
        ("12.1a", {"sm80", "sm89"}),
        ("7.5,12.1", {"sm75", "sm80", "sm89"}),
    ],
)
def test_an_arch_gets_the_families_it_can_run(archs, families, tables):
    kernels = kernels_of(spec_for_archs(archs, tables), tables)
    assert {kernel.family.name for kernel in kernels} == families
