"""Tests of the benchmarks' parts that need no GPU: points, tables, the peer's arguments."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import bench_tables
import driver_options
import numpy as np
import pytest
import vllm_operator
from bench_points import LAYERS, NARROW_LAYERS, QUANTISATIONS, TOKENS, Layer, Quantisation, selected

_CASES = [case for case in QUANTISATIONS if case.name in vllm_operator.CASES]
_SMALL = Layer("small", 4, 2, 256, 128, False)


def _options(
    case: str = "", only: str = "", tokens: tuple[int, ...] = TOKENS
) -> argparse.Namespace:
    return argparse.Namespace(case=case, only=only, tokens=list(tokens))


def _point(case: str, m: int, us: float, peer_us: float) -> dict[str, object]:
    return {
        "layer": "small",
        "case": case,
        "m": m,
        "us": us,
        "peer_us": peer_us,
        "faster": peer_us / us,
        "block_size": 16,
        "peer_block_size": 8,
        "weight_gb_s": 1500.0,
        "copy_same_bytes_us": 0.75 * us,
        "weight_bytes": 1.5e6 * us,
        "read_us": 0.8 * us,
    }


def test_the_comparison_has_a_point_for_each_layer_case_and_number_of_tokens():
    points = [point for point in selected(_options()) if point[1] in _CASES]
    assert len(_CASES) == len(vllm_operator.CASES)
    assert len(points) == len(set(points)) == (6 + 4 * 4) * 7


def test_optional_cases_have_to_be_named():
    optional = {case.name for case in QUANTISATIONS if case.optional}
    assert optional and not optional & {case.name for _, case, _ in selected(_options())}
    assert {case.name for _, case, _ in selected(_options("s8_u4b8_ch"))} == {"s8_u4b8_ch"}
    few = selected(_options(only="down", tokens=(3,)))
    assert few and all(layer.down and tokens == 3 for layer, _, tokens in few)


def test_narrow_layers_are_taken_for_each_case():
    few = selected(_options("bf16_u4b8", tokens=(1, 16)), layers=NARROW_LAYERS)
    assert [layer for layer, _, tokens in few if tokens == 1] == list(NARROW_LAYERS)
    assert all(192 <= layer.n <= 768 and 2048 <= layer.k <= 7168 for layer in NARROW_LAYERS)
    # Multiples of the tile (128, 64, 128).
    assert all(layer.k % 128 == 0 and layer.n % 64 == 0 for layer in NARROW_LAYERS)


@pytest.mark.parametrize(
    ("ids", "experts", "block_size"),
    [
        (2, 8, 8),
        (57, 8, 8),
        (58, 8, 16),
        (115, 8, 16),
        (116, 8, 32),
        (230, 8, 32),
        (231, 8, 48),
        (345, 8, 48),
        (346, 8, 64),
        (8192, 8, 64),
        (2048, 256, 16),
    ],
)
def test_the_peers_block_size_leaves_a_tenth_of_the_block_free(ids, experts, block_size):
    assert vllm_operator.peer_block_size(ids, experts) == block_size


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("kU4", 0x4000000000400),
        ("kU4B8", 0x4000000100400),
        ("kFE4M3fn", 0xA000000010304),
        ("kFE2M1f", 0x2000000010102),
    ],
)
def test_the_peers_ids_of_weight_types(name, number):
    assert vllm_operator.type_id(name) == number


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_shapes_hold_just_the_bytes_of_the_experts(layer, case):
    shapes = vllm_operator.operand_shapes(layer, case)
    word_bytes = 4 * sum(math.prod(shapes[name]) for name in shapes if name != "scales")
    total = word_bytes + math.prod(shapes["scales"]) * case.scale_bytes
    assert total == layer.num_experts * case.expert_bytes(layer)
    assert all(shape[0] == layer.num_experts for shape in shapes.values())
    assert ("zero_points" in shapes) == (case.b_type == "kU4")


def test_a_name_that_no_point_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match=r"'u4b9' in its --case.*bf16_u4b8_g128.*qwen3_down"):
        selected(_options(case="u4b9"))


def test_wrong_values_of_the_drivers_options_are_refused(tmp_path: Path) -> None:
    assert driver_options.results_file(str(tmp_path / "out.json")) == tmp_path / "out.json"
    for name in (str(tmp_path), str(tmp_path / "none/out.json")):
        with pytest.raises(argparse.ArgumentTypeError, match="in a folder that exists"):
            driver_options.results_file(name)
    assert driver_options.positive("12") == 12
    assert driver_options.fraction("0.75") == 0.75
    for text in ("1", "-0.1", "nan", "half"):
        with pytest.raises(argparse.ArgumentTypeError, match="from 0 to below 1"):
            driver_options.fraction(text)
    for text in ("0", "-1", "1.5", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="1 or more"):
            driver_options.positive(text)


def _arguments(case: Quantisation, layer: Layer, rows: int, block_size: int) -> list[object]:
    shapes = vllm_operator.operand_shapes(layer, case)
    operands = {name: np.zeros(math.prod(shape), np.int8) for name, shape in shapes.items()}
    for name in ("sorted_token_ids", "expert_ids", "num_tokens_past_padded"):
        operands[name] = name
    shared = {name: name for name in ("c", "topk_weights", "workspace")}
    shared["a"] = np.zeros((rows, layer.k), np.int8)
    return vllm_operator.arguments(layer, case, block_size, shared, operands)


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_arguments_are_those_of_the_operator_in_its_order(case):
    given = _arguments(case, _SMALL, 5, 32)
    shapes = vllm_operator.operand_shapes(_SMALL, case)
    assert len(given) == 26
    assert [given[2].shape, given[4].shape] == [shapes["b"], shapes["scales"]]
    assert given[7] is None if case.b_type != "kU4" else given[7].shape == shapes["zero_points"]
    assert given[1] == "c" and [given[i] for i in (3, 5, 6)] == [None] * 3
    assert given[8:13] == [
        "workspace",
        "sorted_token_ids",
        "expert_ids",
        "num_tokens_past_padded",
        "topk_weights",
    ]
    type_id = vllm_operator.type_id(case.b_type)
    assert given[13:20] == [32, 2, False, type_id, 5, 128, 256]
    assert given[20:] == [False, True, False, -1, -1, -1]


def test_the_second_gemm_has_a_row_for_each_id_and_multiplies_by_their_weights():
    given = _arguments(_CASES[0], Layer("small_down", 4, 2, 256, 128, True), 10, 8)
    assert given[13:16] == [8, 1, True]
    assert given[17] == 10


def test_operands_of_the_wrong_size_are_refused():
    operands = {"b": np.zeros(8), "scales": np.zeros(8)}
    with pytest.raises(ValueError, match="reshape"):
        vllm_operator.arguments(_SMALL, _CASES[0], 8, {}, operands)


def test_the_table_has_microseconds_and_the_peers_share(capsys):
    bench_tables.print_compact([_point("one", 1, 10.0, 12.0), _point("one", 64, 20.0, 19.0)])
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == "us (peer / ours) M 1 M 64".split()
    assert row.split() == "small one 10.0 (1.20) 20.0 (0.95)".split()


def test_means_are_geometric_and_name_the_least(capsys):
    points = [_point("one", 1, 10.0, 5.0), _point("one", 4, 10.0, 20.0), _point("two", 1, 1.0, 8.0)]
    bench_tables.print_means(points)
    one, two, everything = capsys.readouterr().out.splitlines()
    assert one.startswith("one ") and "1.000 times" in one
    assert two.startswith("two ") and "8.000 times" in two and one.endswith("0.50: small one M 1")
    assert everything.startswith("all ") and "2.000 times" in everything


def _compared(case: str, m: int, ratio: float, error: float = 0.0) -> dict[str, object]:
    return {
        "layer": "small",
        "case": case,
        "m": m,
        "us": 10.0,
        "ratio": ratio,
        "same_bits": error == 0,
        "relative_error": error,
    }


def test_two_libraries_have_a_ratio_at_each_point(capsys):
    bench_tables.print_ratios([_compared("one", 4, 0.98), _compared("two", 1, 1.25)])
    header, one, two = capsys.readouterr().out.splitlines()
    assert header.split() == "us (base / new) M 1 M 4".split()
    assert one.split() == "small one 10.0 (0.980)".split() and one.endswith("10.0 (0.980)")
    assert two.split() == "small two 10.0 (1.250)".split() and two.endswith(" " * 16)


def test_ratios_have_geometric_means_by_tokens_and_by_case(capsys):
    points = [_compared("one", 1, 0.5), _compared("one", 4, 2.0, 1e-4), _compared("two", 4, 8.0)]
    bench_tables.print_ratio_means(points)
    few, more, one, two, everything, outputs = capsys.readouterr().out.splitlines()
    assert few.startswith("M 1 ") and "0.5000" in few
    assert more.startswith("M 4 ") and "4.0000" in more and "of 2, 2.000 to 8.000" in more
    assert one.startswith("one ") and "1.0000" in one and two.startswith("two ")
    assert everything.startswith("all ") and "2.0000 (geometric mean of 3" in everything
    assert outputs.startswith("2 of 3 points give the same bits") and outputs.endswith("1.0e-04")


def test_slow_points_stand_with_both_times_slowest_first(capsys):
    points = [_point("one", 1, 10, 9.4), _point("one", 4, 10, 9.5), _point("two", 16, 10, 5)]
    bench_tables.print_slow(points, 0.95)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.startswith("2 of 3 points")
    assert "two" in first and "10.0 us, peer 5.0 us (0.50); block size 16, peer 8" in first
    assert "one" in second and "(0.94)" in second


def test_bandwidth_is_that_of_few_tokens_beside_both_copies_and_a_kernel_that_only_reads(capsys):
    bench_tables.print_bandwidth([_point("one", m, 10.0, 9.0) for m in (1, 16, 64)], 3000.0)
    large, floor, read, same = capsys.readouterr().out.splitlines()
    assert large.endswith("in % of a large copy's: 50 50")
    assert floor.endswith("a kernel that only reads them: 62 62")
    assert read.endswith("in % of that kernel's: 80 80")
    assert same.endswith("in % of a copy of as many bytes: 75 75")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
