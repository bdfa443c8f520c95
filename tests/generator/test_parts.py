"""Parts: the kernels of a file that would take long to compile are divided between several."""

import re
from dataclasses import replace
from itertools import groupby, pairwise

import pytest
from marlin_gen.kernels import enumerate_kernels
from marlin_gen.render import kernels_of, render
from marlin_gen.schemes import parse_scheme, table_schemes
from marlin_gen.spec import spec_for_archs


def all_kernels(tables):
    return enumerate_kernels(tables.families, table_schemes(tables).values(), tables)


def by_file(kernels):
    """The kernels of each file, which must follow each other."""
    files = [(name, list(group)) for name, group in groupby(kernels, lambda k: k.file)]
    assert len(dict(files)) == len(files)
    return dict(files)


def parts_by_stem(kernels):
    """For each stem its files in order, and the kernels in each."""
    stems = {}
    for name, group in by_file(kernels).items():
        stems.setdefault(group[0].file_stem, []).append((name, group))
    return stems


def scales(kernel):
    return (kernel.s_type, kernel.group_blocks)


def cost(kernels):
    return sum(kernel.cost for kernel in kernels)


def test_files_are_those_that_the_rule_declares(shared_kernel_files):
    for case in shared_kernel_files:
        assert sorted({kernel.file for kernel in case.kernels}) == sorted(case.files)


@pytest.fixture(params=[1, 1000, 1020, 2039, 2040, 2600, 10**6])
def limited(request, tables):
    """The tables with other limits: below, at and above what one or two kinds of scales cost."""
    return replace(tables, part_cost=request.param)


def test_no_part_costs_more_than_allowed_unless_it_cannot_be_divided(tables, limited):
    for limit in (tables, limited):
        for name, kernels in by_file(all_kernels(limit)).items():
            single = len(set(map(scales, kernels))) == 1
            assert single or cost(kernels) <= limit.part_cost, name


def test_parts_are_as_large_as_allowed(limited):
    for parts in parts_by_stem(all_kernels(limited)).values():
        for (_, part), (_, following) in pairwise(parts):
            first = [kernel for kernel in following if scales(kernel) == scales(following[0])]
            assert cost(part) + cost(first) > limited.part_cost


def test_kernels_with_one_kind_of_scales_stay_together(limited):
    for parts in parts_by_stem(all_kernels(limited)).values():
        kinds = [kind for _, kernels in parts for kind in set(map(scales, kernels))]
        assert len(set(kinds)) == len(kinds)


def test_first_part_has_the_plain_name_and_others_count_from_2(limited):
    for stem, parts in parts_by_stem(all_kernels(limited)).items():
        numbered = [f"{stem}_{number}.cu" for number in range(2, len(parts) + 1)]
        assert [name for name, _ in parts] == [f"{stem}.cu", *numbered]


def test_parts_change_no_kernel(tables, limited):
    def without_files(kernels):
        return {replace(kernel, file="") for kernel in kernels}

    assert without_files(all_kernels(limited)) == without_files(all_kernels(tables))


def test_longest_part_is_at_most_a_twentieth_of_the_documented_set(testdata, tables):
    archs = testdata("documented_8.0_8.9.json")["archs"]
    kernels = kernels_of(spec_for_archs(archs, tables), tables)
    assert max(map(cost, by_file(kernels).values())) <= cost(kernels) / 20


def test_a_scheme_with_other_types_leaves_every_file_as_it_is(tables):
    schemes = table_schemes(tables)
    everything = render(spec_for_archs("7.5,8.9", tables, schemes=list(schemes)), tables)
    stems = {
        name: {kernel.file_stem for kernel in enumerate_kernels(tables.families, [scheme], tables)}
        for name, scheme in schemes.items()
    }
    for name in schemes:
        rest = [other for other in schemes if other != name]
        texts = render(spec_for_archs("7.5,8.9", tables, schemes=rest), tables)
        changed = {
            file
            for file in {*texts, *everything}
            if file.endswith(".cu") and texts.get(file) != everything.get(file)
        }
        assert changed
        assert {re.sub(r"(_\d+)?\.cu$", "", file) for file in changed} <= stems[name]


def test_a_scheme_behind_those_of_the_same_types_leaves_full_parts_as_they_are(tables):
    table = table_schemes(tables)["awq_int4"]
    other = {
        "name": "my_int4",
        "a_type": ["kFloat16"],
        "b_type": "kU4",
        "c_type": [],
        "s_type": "",
        "tiles": [[128, 64, 128, [1, 2, 3, 4]]],
        "group_blocks": [8],
    }
    mine = parse_scheme(other, tables)
    # In an extra family both schemes have the family's tiles, and so the same kernels.
    families = [family for family in tables.families if not family.extra]
    before = by_file(enumerate_kernels(families, [table], tables))
    after = by_file(enumerate_kernels(families, [table, mine], tables))
    stems = ("sm75_kernel_float16_u4_float16", "sm80_kernel_float16_u4_float16")
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {f"{s}_2.cu" for s in stems}


def test_every_tile_height_has_a_cost(tables):
    limits = tables.limits
    heights = {16: limits.thread_m_blocks, 8: limits.thread_m_blocks_a8}
    assert set(tables.kernel_costs) == set(heights)
    for bits, costs in tables.kernel_costs.items():
        assert list(costs) == list(heights[bits])
        assert list(costs.values()) == sorted(costs.values())
        assert min(costs.values()) > 0
