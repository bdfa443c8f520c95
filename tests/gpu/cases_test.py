"""Tests of how the GPU acceptance run chooses its cases."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from pathlib import Path

import cases
import pytest

_TILES = [
    (256, 8, 8, 1, True),
    (256, 8, 8, 1, False),
    (128, 8, 4, 1, True),
    (256, 16, 4, 4, False),
]


def manifest_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for scheme, b_type, groups in [
        ("awq_int4", "kU4", [-1, 8]),
        ("gptq_int4", "kU4B8", [-1, 0, 2]),
        ("fp8", "kFE4M3fn", [-1]),
    ]:
        for group_blocks in groups:
            for threads, n_blocks, k_blocks, m_blocks, eight in _TILES:
                types = dict.fromkeys(("a_type", "c_type", "s_type"), "kFloat16")
                shape = {
                    "threads": threads,
                    "thread_m_blocks": m_blocks,
                    "thread_n_blocks": n_blocks,
                    "thread_k_blocks": k_blocks,
                    "m_block_size_8": eight,
                    "group_blocks": group_blocks,
                }
                row = {"family": "sm80", "schemes": [scheme], "b_type": b_type, "stages": 4}
                rows.append({**row, **types, **shape})
    return rows


@pytest.fixture(name="kernels")
def _kernels(tmp_path: Path) -> dict[cases.Kernel, str]:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"instantiations": manifest_rows()}), encoding="utf-8")
    return cases.read_manifest(str(path), "sm80")


def test_only_schemes_with_operands_are_taken_from_the_manifest(
    kernels: dict[cases.Kernel, str],
) -> None:
    assert Counter(kernels.values()) == {"awq_int4": 8, "gptq_int4": 12}


def test_a_manifest_without_the_family_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"instantiations": manifest_rows()}), encoding="utf-8")
    with pytest.raises(ValueError, match="no kernel of family sm75"):
        cases.read_manifest(str(path), "sm75")


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
        assert cases.valid_shape(key.n, key.k)
        assert key.k % key.group_length == 0
        if key.group_size != 0:
            assert key.group_length == (key.k if key.group_size == -1 else key.group_size)
        assert case.block_size in (0, *cases.BLOCK_SIZES)
        assert case.local_experts >= 1


def test_cases_with_the_same_weights_stand_together(kernels: dict[cases.Kernel, str]) -> None:
    keys = [case.weights for case in cases.plan(kernels, 0, 12)]
    changes = sum(before != after for before, after in itertools.pairwise(keys))
    assert changes == len(set(keys)) - 1


def test_a_sample_reaches_every_value_of_the_grid(kernels: dict[cases.Kernel, str]) -> None:
    grid = [case for case in cases.plan(kernels, 0, 40) if case.kind == "grid"]
    assert len(grid) == 5 * 40
    assert {case.m for case in grid} == {1, 17, 123, 666}
    assert {case.weights.n for case in grid} == {128, 1024, 2880}
    assert {case.num_experts for case in grid} == {5, 12, 64}
    assert {case.top_k for case in grid} == {1, 2, 8}
    assert {case.parts for case in grid} == {1, 4}
    assert {case.block_size for case in grid} == {0, *cases.BLOCK_SIZES}
    assert {(case.bias, case.topk_weights) for case in grid} == {
        (bias, weights) for bias in (True, False) for weights in (True, False)
    }


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
