"""Tests of the references for what surrounds the GEMM: each against a loop over single elements."""

from __future__ import annotations

import sys

import layouts
import numpy as np
import prepare_reference as fast
import prepare_slow_reference as slow
import pytest

LAYOUTS = [(4, False), (8, False), (4, True), (8, True)]


def random_weights(seed: int, shape: tuple[int, ...], bits: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 128, 192)])
@pytest.mark.parametrize(("bits", "eight_bit_a"), LAYOUTS)
def test_marlin_weights_are_what_the_lanes_read(
    bits: int, eight_bit_a: bool, shape: tuple[int, int, int]
) -> None:
    q = random_weights(1, shape, bits)
    packed = fast.marlin_weights(q, bits, eight_bit_a)
    assert packed.shape == (shape[0], shape[1] // 16, shape[2] * bits // 2)
    for expert in range(shape[0]):
        read = slow.weights_read_by_lanes(packed[expert], *shape[1:], bits, eight_bit_a)
        np.testing.assert_array_equal(read, q[expert])


@pytest.mark.parametrize("bits", [4, 8])
def test_gptq_words_hold_rows(bits: int) -> None:
    q = random_weights(2, (2, 64, 64), bits)
    words = fast.gptq_weights(q, bits)
    assert words.shape == (2, 64 * bits // 32, 64)
    for row in range(64):
        for column in range(0, 64, 7):
            assert slow.gptq_element(words[1], row, column, bits) == q[1, row, column]


@pytest.mark.parametrize("bits", [4, 8])
def test_awq_words_hold_interleaved_columns(bits: int) -> None:
    q = random_weights(3, (2, 3, 64), bits)
    words = fast.awq_columns(q, bits)
    assert words.shape == (2, 3, 64 * bits // 32)
    for row in range(3):
        for column in range(64):
            assert slow.awq_element(words[1, row], column, bits) == q[1, row, column]


def test_rows_of_bytes_hold_the_even_row_in_the_low_nibble() -> None:
    q = random_weights(4, (1, 64, 64))
    data = fast.row_bytes(q, 4)
    assert data.shape == (1, 64, 32)
    for row in range(64):
        np.testing.assert_array_equal((data[0, :, row // 2] >> (row % 2 * 4)) & 15, q[0, row])
    eight = random_weights(5, (1, 64, 64), 8)
    np.testing.assert_array_equal(fast.row_bytes(eight, 8)[0], eight[0].T)


def test_rows_are_taken_in_the_order_of_the_permutation() -> None:
    q = random_weights(6, (2, 64, 64))
    perm = np.stack([np.random.default_rng(i).permutation(64) for i in range(2)]).astype(np.int32)
    taken = fast.take_rows(q, perm)
    for expert in range(2):
        for row in range(64):
            np.testing.assert_array_equal(taken[expert, row], q[expert, perm[expert, row]])


def test_fp8_nibbles_mean_the_difference_to_the_zero_point() -> None:
    for zero in range(16):
        q = np.arange(16, dtype=np.uint8)
        values = [slow.fp8_nibble_value(int(e), zero) for e in fast.fp8_nibbles(q, zero)]
        assert values == [int(v) - zero for v in q]


@pytest.mark.parametrize("channel", [True, False])
def test_scales_are_permuted_by_columns(channel: bool) -> None:
    values = np.arange(2 * 3 * 128).reshape(2, 3, 128)
    out = fast.permute_columns(values, channel)
    for position in range(128):
        np.testing.assert_array_equal(
            out[..., position], values[..., slow.column_of(position, channel)]
        )


@pytest.mark.parametrize("eight_bit_a", [False, True])
def test_zero_points_are_what_the_lanes_read(eight_bit_a: bool) -> None:
    zeros = random_weights(7, (2, 2, 192))
    packed = fast.marlin_zero_points(zeros, eight_bit_a)
    assert packed.shape == (2, 2, 24)
    for expert in range(2):
        for group in range(2):
            read = slow.zero_points_read(packed[expert, group], 192, eight_bit_a)
            np.testing.assert_array_equal(read, zeros[expert, group])


def test_e4m3_rounding_goes_to_the_nearest_and_to_even() -> None:
    rng = np.random.default_rng(8)
    spread = (rng.standard_normal(300) * 2.0 ** rng.integers(-12, 10, 300)).astype(np.float32)
    finite = fast.e4m3_values()[:0x7F]
    ties = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)
    values = np.concatenate([spread, ties, -ties, finite, np.array([0.0, -0.0, 1e9], np.float32)])
    expected = [slow.nearest_e4m3(float(value)) for value in values]
    np.testing.assert_array_equal(fast.e4m3_bytes(values), expected)
    assert fast.e4m3_bytes(np.array([np.nan], np.float32))[0] == 0x7F


def test_e4m3_values_are_exact() -> None:
    values = fast.e4m3_values()
    for byte in range(256):
        if byte & 0x7F == 0x7F:
            assert np.isnan(values[byte])
        else:
            assert values[byte] == float(slow.e4m3_value(byte))


def test_nvfp4_scales_are_five_bits_of_exponent_and_three_of_mantissa() -> None:
    scales = np.arange(128, dtype=np.uint8).reshape(1, 2, 64)
    out = fast.nvfp4_scales(scales)
    for group in range(2):
        for position in range(64):
            quad, i = divmod(position, 4)
            column = slow.column_of(4 * quad + (0, 2, 1, 3)[i], channel=False)
            byte, stored = int(scales[0, group, column]), int(out[0, group, position])
            if byte == 0x7F:
                assert stored >> 3 == 31 and stored & 7  # a NaN
            else:
                exponent, mantissa = stored >> 3, stored & 7
                value = (
                    (1 + mantissa / 8) * 2.0 ** (exponent - 15)
                    if exponent
                    else mantissa / 8 / 2**14
                )
                assert value == float(slow.e4m3_value(byte)) * 128


def test_exponent_scales_keep_their_nan() -> None:
    scales = np.arange(256, dtype=np.uint8).reshape(1, 4, 64)
    plain, raised = fast.exponent_scales(scales, False), fast.exponent_scales(scales, True)
    for group in range(4):
        for position in range(64):
            quad, i = divmod(position, 4)
            column = slow.column_of(4 * quad + (0, 2, 1, 3)[i], channel=False)
            assert plain[0, group, position] == scales[0, group, column]
            byte = int(scales[0, group, slow.column_of(position, channel=True)])
            assert raised[0, group, position] == (255 if byte == 255 else min(byte + 6, 254))


def test_bfloat16_rounding_is_to_nearest_even() -> None:
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -2.5, 3e38], np.float32)
    expected = np.array([1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -2.5, 3e38], np.float32)
    np.testing.assert_array_equal(
        fast.bfloat16_bits(values)[:5], (expected.view(np.uint32) >> 16).astype(np.uint16)[:5]
    )
    assert np.isinf(fast.half_values(fast.bfloat16_bits(np.array([3.4e38], np.float32)), True))[0]


def test_scales_are_multiplied_by_powers_of_two_exactly() -> None:
    rng = np.random.default_rng(9)
    for bfloat16, power in [(False, 8), (True, 120)]:
        values = fast.half_values(
            fast.half_bits((rng.random(50) * 1e-3).astype(np.float32), bfloat16), bfloat16
        )
        scaled = fast.scale_bits(fast.half_bits(values, bfloat16), power, bfloat16)
        np.testing.assert_array_equal(
            fast.half_values(scaled, bfloat16).astype(np.float64), values * 2.0**power
        )


@pytest.mark.parametrize(
    ("n", "parts", "columns"), [(256, 1, 128), (192, 1, 128), (192, 2, 64), (12, 3, 4), (12, 2, 4)]
)
def test_blocks_begin_with_each_part(n: int, parts: int, columns: int) -> None:
    in_row = parts * -(-n // parts // columns)
    scales = np.arange(2 * 3 * in_row).reshape(2, 3, in_row)
    expanded = fast.expand_blocks(scales, n, parts, columns)
    assert expanded.shape == (2, 3, n)
    for column in range(n):
        part, within = divmod(column, n // parts)
        block = part * (in_row // parts) + within // columns
        assert np.array_equal(expanded[..., column], scales[..., block])


def test_fixed_point_scales_are_within_half_a_step() -> None:
    values = np.random.default_rng(17).random((2, 3, 64)).astype(np.float32)
    values[1] *= 2.0**-6
    for bfloat16 in (False, True):
        bits = fast.half_bits(values, bfloat16)
        exact = fast.half_values(bits, bfloat16)
        multiples, units = fast.fixed_point_scales(bits, bfloat16)
        for expert, unit in enumerate(units):
            assert multiples[expert].max() == 4096 and unit == exact[expert].max() / 4096
            assert (np.abs(multiples[expert] * unit - exact[expert]) <= unit * 0.5001).all()
    assert not fast.fixed_point_scales(np.zeros((2, 1, 4), np.uint16), False)[1].any()


def test_a_scale_that_is_no_number_spoils_its_expert_alone() -> None:
    values = np.ones((3, 2, 8), np.float32)
    values[0, 1, 3], values[2, 0, 0] = np.nan, np.inf
    multiples, units = fast.fixed_point_scales(fast.half_bits(values, False), False)
    assert np.isnan(units[0]) and units[1] == 2.0**-12 and np.isinf(units[2])
    assert not multiples[[0, 2]].any() and (multiples[1] == 4096).all()


def test_int8_rows_are_within_half_a_step() -> None:
    values = np.random.default_rng(10).standard_normal((5, 64)).astype(np.float32)
    values[2] = 0
    data, scales = fast.quantise_rows(values, e4m3=False)
    assert scales[2] == 0 and not data[2].any()
    restored = data.view(np.int8) * scales[:, None]
    assert (np.abs(restored - values) <= scales[:, None] * 0.5001).all()
    assert (np.abs(data.view(np.int8)).max(axis=1)[[0, 1, 3, 4]] == 127).all()


def test_e4m3_rows_use_the_whole_range() -> None:
    values = np.random.default_rng(11).standard_normal((3, 64)).astype(np.float32)
    data, scales = fast.quantise_rows(values, e4m3=True)
    assert ((data & 0x7F).max(axis=1) == 0x7E).all()
    restored = fast.e4m3_values()[data] * scales[:, None]
    np.testing.assert_allclose(restored, values, rtol=2**-4, atol=float(scales.max()) * 2**-9)


def test_rows_that_are_not_finite_show_it_in_their_scale() -> None:
    values = np.ones((2, 16), np.float32)
    values[0, 3], values[1, 5] = np.inf, np.nan
    for e4m3 in (False, True):
        data, scales = fast.quantise_rows(values, e4m3)
        assert np.isinf(scales[0]) and np.isnan(scales[1])
        assert data[0, 0] == 0


@pytest.mark.parametrize("block_size", [8, 48, 72, 256])
@pytest.mark.parametrize("drop_remote", [False, True])
def test_alignment_is_that_of_a_loop(block_size: int, drop_remote: bool) -> None:
    rng = np.random.default_rng(12)
    for num_ids in (0, 1, 7, 130):
        ids = rng.integers(-1, 7, size=num_ids)
        expert_map = np.array([-1, 0, 1, -1, 2, 3])
        for used_map in (None, expert_map):
            result = fast.align(ids, 6, block_size, used_map, drop_remote and used_map is not None)
            expected_ids, expected_experts = slow.align(
                ids.tolist(),
                6,
                block_size,
                None if used_map is None else used_map.tolist(),
                drop_remote and used_map is not None,
            )
            assert result.sorted_token_ids.tolist() == expected_ids
            assert result.expert_ids.tolist() == expected_experts
            assert result.num_tokens_past_padded == len(expected_ids)


def test_sums_leave_out_rows_that_were_not_written() -> None:
    values = np.arange(24, dtype=np.float32).reshape(6, 4)
    values[3] = np.nan
    written = np.array([True, True, True, False, False, True])
    np.testing.assert_array_equal(
        fast.topk_sum(values, 3, written), [values[0] + values[1] + values[2], values[5]]
    )
    np.testing.assert_array_equal(fast.topk_sum(values[:3], 3), [values[0] + values[1] + values[2]])


def test_silu_is_the_gate_times_its_sigmoid() -> None:
    out = fast.act_and_mul(np.array([[0.0, 1.0, -20.0, 5.0, 2.0, 3.0]], np.float32))
    np.testing.assert_allclose(
        out[0], [0.0, 2 / (1 + np.exp(-1.0)), -60 / (1 + np.exp(20.0))], rtol=1e-12
    )


def test_gelu_is_the_gate_times_the_normal_distribution() -> None:
    pairs = np.array([[1.0, 2.0, -3.0, 1.0, 0.0, 9.0]], np.float32)
    normal = [0.8413447460685429, 0.0013498980316300933]  # at 1 and -3
    wanted = [2 * normal[0], -3 * normal[1], 0.0]
    np.testing.assert_allclose(
        fast.act_and_mul(pairs, "gelu", interleaved=True)[0], wanted, rtol=1e-12
    )
    close = fast.act_and_mul(pairs, "gelu_tanh", interleaved=True)[0]
    np.testing.assert_allclose(close, wanted, atol=5e-4)
    inner = np.sqrt(2 / np.pi) * (1 + 0.044715)
    np.testing.assert_allclose(close[0], 1 + np.tanh(inner), rtol=1e-12)


def test_the_activation_of_gpt_oss_has_limits() -> None:
    gates, ups = [1.0, 9.0, -9.0, 2.0], [2.0, 8.0, -8.0, np.nan]
    out = fast.act_and_mul(np.array([gates + ups], np.float32), "swigluoai")[0]
    sigmoid = [1 / (1 + np.exp(-1.702 * gate)) for gate in (1.0, 7.0, -9.0)]
    wanted = [sigmoid[0] * 3, 7 * sigmoid[1] * 8, -9 * sigmoid[2] * -6, np.nan]
    np.testing.assert_allclose(out, wanted, rtol=1e-12)


def test_the_tests_of_the_gemm_pack_the_same_layouts() -> None:
    """What preparation is compared with is what the GEMM is tested on."""
    q, eight = random_weights(13, (2, 128, 192)), random_weights(14, (2, 128, 192), 8)
    zeros, scales = random_weights(15, (2, 4, 192)), random_weights(16, (2, 4, 192), 7)
    pairs = [
        (fast.marlin_weights(q, 4, False), layouts.pack_weights(q)),
        (fast.marlin_weights(eight, 8, False), layouts.pack_weights(eight, 8)),
        (fast.marlin_weights(q, 4, True), layouts.pack_weights_a8(q)),
        (fast.marlin_zero_points(zeros, False), layouts.pack_zero_points(zeros)),
        (fast.marlin_zero_points(zeros, True), layouts.pack_zero_points(zeros, 8)),
        (fast.permute_columns(scales, False), layouts.permute_scales(scales, 32)),
        (fast.permute_columns(scales, True), layouts.permute_scales(scales, 32, 8)),
        (fast.exponent_scales(scales, False), layouts.store_exponent_scales(scales)),
        (fast.exponent_scales(scales, True), layouts.store_exponent_scales(scales, 8)),
    ]
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine.reshape(-1), theirs.reshape(-1).view(mine.dtype))
    number = np.minimum(scales, 0x7E)
    np.testing.assert_array_equal(fast.nvfp4_scales(number), layouts.store_nvfp4_scales(number))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
