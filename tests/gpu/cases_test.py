"""Tests of how the GPU acceptance run chooses its cases."""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cases
import pytest

_TILES = [
    (256, 8, 8, 1, True),
    (256, 8, 8, 1, False),
    (128, 8, 4, 1, True),
    (256, 16, 4, 4, False),
]
_SM90_TILES = [(48, 512, 1), (80, 512, 1), (80, 256, 1), (80, 256, 2), (144, 256, 1)]
_ARCHS = {"sm80": ["8.0", "8.9", "9.0"], "sm89": ["8.9", "9.0"], "sm90": ["9.0"]}


def manifest_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    half = "kFloat16"
    for family, scheme, types, groups in [
        ("sm80", "awq_int4", (half, "kU4", half, half), [-1, 8]),
        ("sm80", "gptq_int4", (half, "kU4B8", half, half), [-1, 0, 2]),
        ("sm80", "nvfp4", (half, "kFE2M1f", half, "kFE4M3fn"), [1]),
        ("sm89", "gptq_int4_afp8", ("kFE4M3fn", "kU4B8", "kBFloat16", "kBFloat16"), [-1]),
    ]:
        for group_blocks in groups:
            for threads, n_blocks, k_blocks, m_blocks, eight in _TILES:
                if eight and family == "sm89":
                    continue
                shape: dict[str, object] = {
                    "threads": threads,
                    "thread_m_blocks": m_blocks,
                    "thread_n_blocks": n_blocks,
                    "thread_k_blocks": k_blocks,
                    "m_block_size_8": eight,
                    "group_blocks": group_blocks,
                }
                names = dict(zip(("a_type", "b_type", "c_type", "s_type"), types, strict=True))
                common = {"family": family, "archs": _ARCHS[family], "schemes": [scheme]}
                rows.append({**common, "stages": 4, **names, **shape})
    for block_rows, thread_n, blocks_per_sm in _SM90_TILES:
        rows.append(
            {
                **{"family": "sm90", "archs": _ARCHS["sm90"], "schemes": ["gptq_int4"]},
                **{"stages": 0, "group_blocks": 2},
                **{"a_type": half, "b_type": "kU4B8", "c_type": half, "s_type": half},
                "block_rows": block_rows,
                "thread_n": thread_n,
                "blocks_per_sm": blocks_per_sm,
            }
        )
    return rows


@pytest.fixture(name="manifest")
def _manifest(tmp_path: Path) -> str:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"instantiations": manifest_rows()}), encoding="utf-8")
    return str(path)


@pytest.fixture(name="kernels")
def _kernels(manifest: str) -> dict[cases.Kernel, str]:
    return cases.read_manifest(manifest, [])


def test_every_scheme_of_the_manifest_is_taken(kernels: dict[cases.Kernel, str]) -> None:
    assert Counter(kernels.values()) == {
        "awq_int4": 8,
        "gptq_int4": 12 + len(_SM90_TILES),
        "nvfp4": 4,
        "gptq_int4_afp8": 2,
    }


def test_families_are_those_asked_for(manifest: str) -> None:
    assert set(cases.read_manifest(manifest, ["sm89"]).values()) == {"gptq_int4_afp8"}
    all_families = cases.read_manifest(manifest, ["sm80", "sm89", "sm90"])
    assert all_families == cases.read_manifest(manifest, [])
    sm90 = cases.read_manifest(manifest, ["sm90"])
    assert {(kernel.block_size, kernel.thread_n, kernel.blocks_per_sm) for kernel in sm90} == set(
        _SM90_TILES
    )


def test_a_manifest_without_a_family_is_refused(manifest: str) -> None:
    with pytest.raises(ValueError, match="no kernel of family sm75"):
        cases.read_manifest(manifest, ["sm80", "sm75"])


def test_families_that_one_device_cannot_both_run_are_refused(tmp_path: Path) -> None:
    rows = manifest_rows()
    path = tmp_path / "manifest.json"
    rows += [{**row, "family": "sm75", "stages": 2} for row in rows if row["family"] == "sm80"]
    path.write_text(json.dumps({"instantiations": rows}), encoding="utf-8")
    with pytest.raises(ValueError, match="families sm80 and sm75"):
        cases.read_manifest(str(path), [])


def test_a_library_may_choose_among_all_families_that_the_device_runs(manifest: str) -> None:
    everything = cases.read_manifest(manifest, [])
    assert cases.read_usable(manifest, ["sm90"], "9.0") == everything
    assert cases.read_usable(manifest, ["sm90"], None) == everything
    of_80 = cases.read_usable(manifest, ["sm80"], "8.0")
    assert of_80 == cases.read_manifest(manifest, ["sm80"])
    assert cases.read_usable(manifest, ["sm80"], "8.9") == {
        **of_80,
        **cases.read_manifest(manifest, ["sm89"]),
    }


def test_a_problem_is_served_by_kernels_of_other_families_too(manifest: str) -> None:
    sm90 = cases.read_manifest(manifest, ["sm90"])
    usable = cases.read_usable(manifest, ["sm90"], "9.0")
    for_sm90 = next(iter(sm90))
    sixteen_rows = replace(for_sm90, block_size=16, thread_k=64, thread_n=128, threads=128)
    assert cases.serves(sm90, for_sm90, 192) and cases.serves(usable, for_sm90, 192)
    assert not cases.serves(sm90, sixteen_rows, 256) and cases.serves(usable, sixteen_rows, 256)
    # Of 16 rows the test's manifest has tiles of 128 rows of B alone.
    assert not cases.serves(usable, sixteen_rows, 192)
    for wrong in (replace(for_sm90, group_blocks=-1), replace(for_sm90, b_type="kU8B128")):
        assert not cases.serves(usable, wrong, 192)


def test_the_drawn_family_alone_decides_what_is_drawn(manifest: str) -> None:
    sm90 = cases.read_manifest(manifest, ["sm90"])
    usable = cases.read_usable(manifest, ["sm90"], "9.0")
    (drawn,) = cases.combinations(sm90, usable)
    assert (drawn.scheme, drawn.group_blocks) == ("gptq_int4", 2)
    # One group is drawn as well, as the family sm80 has kernels with a scale per channel.
    assert drawn.one_group and not cases.combinations(sm90)[0].one_group
    assert cases.block_sizes(sm90) == {next(iter(sm90)).types: [48, 80, 144]}


def test_the_plan_is_the_same_for_the_same_seed(kernels: dict[cases.Kernel, str]) -> None:
    assert cases.plan(kernels, 1, 10) == cases.plan(kernels, 1, 10)
    assert cases.plan(kernels, 1, 10) != cases.plan(kernels, 2, 10)


def test_every_kernel_is_forced_at_a_shape_its_tile_divides(
    kernels: dict[cases.Kernel, str],
) -> None:
    forced = [case for case in cases.plan(kernels, 0, 4) if case.kind == "forced"]
    assert {(case.tile, case.block_size) for case in forced} == {
        (kernel.tile, kernel.block_size) for kernel in kernels
    }
    for case in forced:
        assert case.tile is not None
        assert case.weights.k % case.tile[0] == 0 and case.weights.n % case.tile[1] == 0


def test_cases_keep_to_the_contract(kernels: dict[cases.Kernel, str]) -> None:
    planned = cases.plan(kernels, 0, 40)
    assert len({case.name for case in planned}) > 0.9 * len(planned)
    for case in planned:
        key = case.weights
        assert key.n % 64 == 0 and key.k % 64 == 0
        assert key.k % key.group_length == 0
        if key.group_size != 0:
            assert key.group_length == (key.k if key.group_size == -1 else key.group_size)
        rows = {rows for rows, _, _ in _SM90_TILES} if case.tile else set()
        assert case.block_size in {0, *key.block_sizes, *rows}
        assert case.a_padding * key.a_bits % 128 == 0
        assert case.local_experts >= 1


def test_cases_with_the_same_weights_stand_together(kernels: dict[cases.Kernel, str]) -> None:
    keys = [case.weights for case in cases.plan(kernels, 0, 12)]
    changes = sum(before != after for before, after in itertools.pairwise(keys))
    assert changes == len(set(keys)) - 1


def test_a_sample_reaches_every_value_of_the_grid(kernels: dict[cases.Kernel, str]) -> None:
    grid = [case for case in cases.plan(kernels, 0, 40) if case.kind == "grid"]
    assert len(grid) == 7 * 40
    assert {case.m for case in grid} == {1, 17, 123, 666}
    assert {case.weights.n for case in grid} == {128, 1024, 2880}
    assert {case.num_experts for case in grid} == {5, 12, 64}
    assert {case.top_k for case in grid} == {1, 2, 8}
    assert {case.parts for case in grid} == {1, 4}
    assert {case.block_size for case in grid} == {0, *cases.BLOCK_SIZES}
    assert {(case.bias, case.topk_weights) for case in grid} == {
        (bias, weights) for bias in (True, False) for weights in (True, False)
    }


def test_the_sanitizer_sample_has_every_scheme_and_act_order(
    kernels: dict[cases.Kernel, str],
) -> None:
    sample = cases.plan_sanitizer(kernels)
    assert len(sample) <= 4 * len(set(kernels.values())) + 2
    assert {case.weights.scheme for case in sample} == set(kernels.values())
    assert any(case.weights.group_size == 0 for case in sample)
    built = {(kernel.types, kernel.block_size, kernel.tile) for kernel in kernels}
    for case in sample:
        key = case.weights
        assert key.n % 64 == 0 and key.k % 64 == 0 and key.k % key.group_length == 0
        if case.tile is not None:
            types = (key.a_type, key.b_type, key.c_type, key.s_type)
            assert (types, case.block_size, case.tile) in built


def test_the_sanitizer_sample_cuts_tiles_of_sm90_and_gathers_first(
    kernels: dict[cases.Kernel, str],
) -> None:
    cut = [case for case in cases.plan_sanitizer(kernels) if case.weights.k == 1024]
    assert [(case.block_size, case.gather_first) for case in cut] == [(48, 0), (144, 1)]
    for case in cut:
        assert case.tile is not None and case.tile[2] == cases.SM90_THREADS
        # Few enough tiles that each has blocks for the four parts of 16 stages (sm90_choice.h).
        tiles = min(case.m * case.top_k, case.local_experts) * -(-case.weights.n // case.tile[1])
        assert 4 * tiles <= 132 and case.weights.n % case.tile[1] == 64


def test_a_single_group_is_drawn_only_where_a_kernel_per_channel_was_built() -> None:
    rng = random.Random(0)
    grouped = cases.Combination("x", "a", "b", "c", "s", 8, one_group=False)
    assert list(grouped.group_lengths(128)) == [] and list(grouped.group_lengths(256)) == [128]
    assert replace(grouped, one_group=True).random_key(rng, 64, 128).per_channel
    channel = replace(grouped, group_blocks=-1)
    assert list(channel.group_lengths(128)) == [128]


def test_coverage_counts_only_kernels_launched_with_a_right_result(
    kernels: dict[cases.Kernel, str],
) -> None:
    first, second, *others = kernels
    results = [
        {"status": "pass", "kernel": vars(first)},
        {"status": "fail", "kernel": vars(second)},
        {"status": "refused", "kernel": None},
    ]
    assert cases.coverage(results, kernels) == [second, *others]


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
