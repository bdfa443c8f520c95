"""Tests of the layouts against scalar loops that follow what a lane of the kernel reads."""

from __future__ import annotations

import sys

import layouts
import moe_reference
import number_formats
import numpy as np
import pytest

SHAPES = [(1, 16, 64), (2, 64, 128), (3, 128, 192)]


def unpack_like_a_warp(words: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Recovers [K, N] from one expert's packed weights, lane by lane, as the fragments need it.

    A lane reads 16 bytes of each 16x64 tile. The two nibbles of word j that the mask 0x000f000f
    leaves after a shift are the lane's values for two neighbouring rows: shift 0 column c and rows
    r, r + 1; 4 the rows + 8; 8 the column + 8; 12 both.
    """
    out = np.full((rows, columns), -1, dtype=np.int64)
    flat = words.reshape(rows // 16, -1).astype(np.int64) & 0xFFFFFFFF
    for k_tile in range(rows // 16):
        for n_tile in range(columns // 64):
            for lane in range(32):
                for j in range(4):
                    word = int(flat[k_tile, n_tile * 128 + lane * 4 + j])
                    row = k_tile * 16 + 2 * (lane % 4)
                    column = n_tile * 64 + j * 16 + lane // 4
                    for shift, (down, right) in enumerate([(0, 0), (8, 0), (0, 8), (8, 8)]):
                        pair = (word >> (4 * shift)) & 0x000F000F
                        out[row + down, column + right] = pair & 0xFFFF
                        out[row + down + 1, column + right] = pair >> 16
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_weights_are_what_the_lanes_read(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    q = rng.integers(0, 16, size=shape, dtype=np.uint8)
    packed = layouts.pack_weights(q)
    assert packed.dtype == np.int32
    assert packed.shape == (shape[0], shape[1] // 16, 2 * shape[2])
    for expert in range(shape[0]):
        np.testing.assert_array_equal(
            unpack_like_a_warp(packed[expert], shape[1], shape[2]), q[expert]
        )


def unpack_bytes_like_a_warp(words: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """As unpack_like_a_warp() for 8-bit weights: 32 bytes of each 16x64 tile to a lane.

    Bytes 0 and 2 of a word are two neighbouring rows, bytes 1 and 3 the rows 8 below them; the
    second word of a 16x16 tile is the column + 8.
    """
    out = np.full((rows, columns), -1, dtype=np.int64)
    flat = words.reshape(rows // 16, -1).astype(np.int64) & 0xFFFFFFFF
    for k_tile in range(rows // 16):
        for n_tile in range(columns // 64):
            for lane in range(32):
                for j in range(4):
                    for half in range(2):
                        word = int(flat[k_tile, n_tile * 256 + lane * 8 + j * 2 + half])
                        row = k_tile * 16 + 2 * (lane % 4)
                        column = n_tile * 64 + j * 16 + lane // 4 + 8 * half
                        out[row, column] = word & 0xFF
                        out[row + 1, column] = (word >> 16) & 0xFF
                        out[row + 8, column] = (word >> 8) & 0xFF
                        out[row + 9, column] = word >> 24
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_8_bit_weights_are_what_the_lanes_read(shape: tuple[int, int, int]) -> None:
    q = np.random.default_rng(8).integers(0, 256, size=shape, dtype=np.uint8)
    packed = layouts.pack_weights(q, 8)
    assert packed.shape == (shape[0], shape[1] // 16, 4 * shape[2])
    for expert in range(shape[0]):
        np.testing.assert_array_equal(
            unpack_bytes_like_a_warp(packed[expert], shape[1], shape[2]), q[expert]
        )


def unpack_a8_like_a_warp(words: np.ndarray, rows: int, columns: int, bits: int) -> np.ndarray:
    """Recovers [K, N] from one expert's weights packed for 8-bit activations.

    Four neighbouring rows of the lane's column, and the four rows 16 below them: at four bits the
    low and the high nibbles of a word's bytes, at eight bits the bytes of two words.
    """
    out = np.full((rows, columns), -1, dtype=np.int64)
    flat = words.reshape(-1).astype(np.int64) & 0xFFFFFFFF
    for k_tile in range(rows // 32):
        for n_tile in range(columns // 32):
            for lane in range(32):
                for t in range(4):
                    first = (k_tile * (columns // 32) + n_tile) * 32 * bits
                    own = flat[first + (lane * 4 + t) * bits // 4 :]
                    upper, lower = (own[0], own[0] >> 4) if bits == 4 else (own[0], own[1])
                    row, column = k_tile * 32 + 4 * (lane % 4), n_tile * 32 + lane // 4 + 8 * t
                    for byte in range(4):
                        mask = (1 << bits) - 1
                        out[row + byte, column] = (upper >> (8 * byte)) & mask
                        out[row + 16 + byte, column] = (lower >> (8 * byte)) & mask
    return out


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", [(1, 32, 64), (2, 64, 128), (3, 96, 192)])
def test_weights_for_8_bit_activations_are_what_the_lanes_read(
    shape: tuple[int, int, int], bits: int
) -> None:
    q = np.random.default_rng(9).integers(0, 1 << bits, size=shape, dtype=np.uint8)
    packed = layouts.pack_weights_a8(q, bits)
    assert packed.shape == (shape[0], shape[1] // 32, bits * shape[2])
    for expert in range(shape[0]):
        np.testing.assert_array_equal(
            unpack_a8_like_a_warp(packed[expert], shape[1], shape[2], bits), q[expert]
        )


def test_a_single_weight_lands_in_the_documented_word_and_nibble() -> None:
    q = np.zeros((1, 32, 128), dtype=np.uint8)
    # Tile (1, 1); row 13 = 2 * 2 + 9: lane % 4 = 2; column 64 + 38 = tile 2, half 0, lane / 4 = 6.
    q[0, 16 + 13, 64 + 38] = 15
    packed = layouts.pack_weights(q).view(np.uint32)
    expected = np.zeros((1, 2, 256), dtype=np.uint32)
    # Element 3 (row + 9 of the first column) is at nibble 5 of NIBBLE_ORDER.
    expected[0, 1, 128 + (6 * 4 + 2) * 4 + 2] = 15 << (4 * layouts.NIBBLE_ORDER.index(3))
    np.testing.assert_array_equal(packed, expected)


def test_weights_that_do_not_fill_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="K = 24, N = 64"):
        layouts.pack_weights(np.zeros((1, 24, 64), dtype=np.uint8))


def test_grouped_scales_are_transposed_within_64_columns() -> None:
    values = np.arange(2 * 3 * 128).reshape(2, 3, 128)
    out = layouts.permute_grouped(values)
    for block in range(2):
        for i in range(8):
            for j in range(8):
                position, column = block * 64 + 8 * i + j, block * 64 + i + 8 * j
                np.testing.assert_array_equal(out[..., position], values[..., column])


def test_channel_scales_are_reordered_within_32_columns() -> None:
    values = np.arange(2 * 1 * 64).reshape(2, 1, 64)
    out = layouts.permute_channel(values)
    for block in range(2):
        for i in range(4):
            for t, offset in enumerate([0, 1, 8, 9, 16, 17, 24, 25]):
                position, column = block * 32 + 8 * i + t, block * 32 + 2 * i + offset
                np.testing.assert_array_equal(out[..., position], values[..., column])


def test_scales_take_the_order_of_their_group_size() -> None:
    values = np.arange(128).reshape(1, 2, 64)
    one_group = values[:, :1]
    np.testing.assert_array_equal(
        layouts.permute_scales(one_group, -1), layouts.permute_channel(one_group)
    )
    for group_size in (0, 32, 128):
        np.testing.assert_array_equal(
            layouts.permute_scales(values, group_size), layouts.permute_grouped(values)
        )
        np.testing.assert_array_equal(
            layouts.permute_scales(one_group, group_size), layouts.permute_channel(one_group)
        )


def test_zero_points_are_interleaved_within_eight_after_the_permutation() -> None:
    rng = np.random.default_rng(2)
    zero_points = rng.integers(0, 16, size=(2, 3, 128), dtype=np.uint8)
    packed = layouts.pack_zero_points(zero_points)
    assert packed.shape == (2, 3, 16)
    words = packed.astype(np.int64) & 0xFFFFFFFF
    recovered = np.full(zero_points.shape, 255, dtype=np.int64)
    for word in range(16):
        block, i = divmod(word, 8)
        for nibble, element in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
            column = block * 64 + i + 8 * element
            recovered[..., column] = (words[..., word] >> (4 * nibble)) & 15
    np.testing.assert_array_equal(recovered, zero_points)


def test_zero_points_for_8_bit_activations_are_permuted_and_not_interleaved() -> None:
    rng = np.random.default_rng(10)
    zero_points = rng.integers(0, 16, size=(2, 3, 64), dtype=np.uint8)
    words = layouts.pack_zero_points(zero_points, 8).astype(np.int64) & 0xFFFFFFFF
    assert words.shape == (2, 3, 8)
    for word in range(8):
        for nibble in range(8):
            np.testing.assert_array_equal(
                (words[..., word] >> (4 * nibble)) & 15, zero_points[..., word + 8 * nibble]
            )


def scalar_e4m3(code: int) -> float:
    """The number that an e4m3 code stands for, by the format's definition."""
    sign, exponent, mantissa = code >> 7, (code >> 3) & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return float("nan")
    size = (1 + mantissa / 8) * 2.0 ** (exponent - 7) if exponent else mantissa / 8 * 2.0**-6
    return -size if sign else size


def test_codes_of_floating_point_types_have_the_values_of_their_formats() -> None:
    np.testing.assert_array_equal(
        number_formats.VALUES["kFE4M3fn"], [scalar_e4m3(code) for code in range(256)]
    )
    magnitudes = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    expected = magnitudes + [-size for size in magnitudes]
    np.testing.assert_array_equal(number_formats.VALUES["kFE2M1f"], expected)
    e8m0 = number_formats.VALUES["kFE8M0fnu"]
    assert [e8m0[0], e8m0[127], e8m0[254]] == [2.0**-127, 1.0, 2.0**127] and np.isnan(e8m0[255])
    signed = number_formats.VALUES["kS8"]
    assert [signed[0], signed[127], signed[128], signed[255]] == [0, 127, -128, -1]


def test_nvfp4_scales_read_as_the_kernel_reads_them() -> None:
    codes = np.arange(128, dtype=np.uint8)[:127].repeat(2)[:128].reshape(1, 1, 128)
    codes[..., 64:] = np.arange(63, 127)
    stored = layouts.store_nvfp4_scales(codes)
    assert stored.dtype == np.uint8
    for block in range(2):
        for i in range(8):
            for t in range(8):
                # Columns i + 8 t of a lane's eight; bytes 1 and 2 of four are exchanged.
                byte = block * 64 + 8 * i + [0, 2, 1, 3, 4, 6, 5, 7][t]
                bits = np.array([int(stored[0, 0, byte]) << 7], dtype=np.uint16)
                value = float(bits.view(np.float16)[0]) / 128
                assert value == scalar_e4m3(int(codes[0, 0, block * 64 + i + 8 * t]))


def test_all_nvfp4_scales_are_exact_in_their_byte() -> None:
    codes = np.zeros((1, 1, 128), dtype=np.uint8)
    codes[0, 0, :127] = np.arange(127)
    stored = np.sort(layouts.store_nvfp4_scales(codes)[0, 0])
    values = np.sort(np.array([scalar_e4m3(int(code)) for code in codes[0, 0]]))
    halves = (stored.astype(np.uint16) << 7).view(np.float16).astype(np.float64)
    np.testing.assert_array_equal(halves, values * 128)


@pytest.mark.parametrize("a_bits,b_type", [(8, "kFE2M1f"), (8, "kFE4M3fn"), (16, "kFE2M1f")])
def test_exponent_scales_stand_where_the_lanes_look_for_them(a_bits: int, b_type: str) -> None:
    codes = np.random.default_rng(11).integers(0, 249, size=(2, 3, 64), dtype=np.uint8)
    stored = layouts.store_exponent_scales(codes, a_bits, b_type)
    power = 6 if b_type == "kFE2M1f" else 0
    for position in range(64):
        if a_bits == 16:
            byte = position // 4 * 4 + [0, 2, 1, 3][position % 4]
            column = position // 8 + 8 * (position % 8)
            np.testing.assert_array_equal(stored[..., byte], codes[..., column])
        else:
            offset = [0, 1, 8, 9, 16, 17, 24, 25][position % 8]
            column = position // 32 * 32 + position % 32 // 8 * 2 + offset
            np.testing.assert_array_equal(stored[..., position], codes[..., column] + power)


def test_weights_for_e4m3_activations_are_coded_by_their_zero_point() -> None:
    for zero in range(16):
        q = np.arange(16, dtype=np.uint8)
        coded = layouts.encode_for_e4m3(q, np.uint8(zero))
        expected = [value - zero if value >= zero else 15 - value for value in range(16)]
        assert coded.dtype == np.uint8
        np.testing.assert_array_equal(coded, expected)


def test_fixed_point_scales_are_within_half_a_step() -> None:
    scales = np.random.default_rng(12).random((2, 3, 64)) + 0.01
    scales[1] *= 30_000
    stored, units = layouts.fixed_point_scales(scales)
    assert stored.dtype == np.int16 and (stored.max(axis=(1, 2)) == 4096).all()
    restored = stored * units[:, None, None]
    assert (np.abs(restored - scales).max(axis=(1, 2)) <= units / 2 * (1 + 1e-9)).all()


def test_dequantised_weights_follow_their_type() -> None:
    scales = np.array([[2.0, 0.5], [4.0, 1.0]])
    groups = np.array([0, 0, 1])
    q = np.array([[0, 1], [7, 8], [15, 9]], dtype=np.uint8)
    zeros = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    expected = {
        "kU4B8": [[-16, -3.5], [-2, 0], [28, 1]],
        "kU4": [[-2, -0.5], [12, 3], [48, 5]],
        "kU8B128": [[-256, -63.5], [-242, -60], [-452, -119]],
        "kFE2M1f": [[0, 0.25], [12, 0], [-24, -0.5]],
        "kFE4M3fn": [[0, 2**-10], [7 * 2**-8, 2**-7], [15 * 2**-7, 9 * 2**-9]],
    }
    for b_type, values in expected.items():
        zero_points = zeros if b_type == "kU4" else None
        weights = layouts.dequantise(q, scales, zero_points, groups, b_type)
        np.testing.assert_array_equal(weights, values)


def test_act_order_sorts_rows_and_keeps_the_order_within_a_group() -> None:
    g_idx = np.array([[1, 0, 1, 0], [0, 2, 1, 0]], dtype=np.int32)
    perm, ordered = layouts.sort_rows_by_group(g_idx)
    np.testing.assert_array_equal(perm, [[1, 3, 0, 2], [0, 3, 2, 1]])
    np.testing.assert_array_equal(ordered, [[0, 0, 1, 1], [0, 0, 1, 2]])
    q = np.arange(8, dtype=np.uint8).reshape(2, 4, 1)
    np.testing.assert_array_equal(layouts.take_rows(q, perm)[..., 0], [[1, 3, 0, 2], [4, 7, 6, 5]])


def test_act_order_product_is_unchanged_by_sorting() -> None:
    rng = np.random.default_rng(3)
    q = rng.integers(0, 16, size=(1, 64, 64), dtype=np.uint8)
    g_idx = rng.permutation(np.arange(64) // 32)[None].astype(np.int32)
    scales = rng.random((2, 64)).astype(np.float16)
    perm, ordered = layouts.sort_rows_by_group(g_idx)
    a = rng.standard_normal((4, 64))
    plain = a @ layouts.dequantise(q[0], scales, None, g_idx[0])
    rows = layouts.take_rows(q, perm)[0]
    gathered = a[:, perm[0]] @ layouts.dequantise(rows, scales, None, ordered[0])
    np.testing.assert_allclose(gathered, plain, rtol=1e-12)


def check_alignment(
    expert_of_id: np.ndarray, num_experts: int, block_size: int, expert_map: np.ndarray | None
) -> None:
    alignment = moe_reference.moe_align(expert_of_id, num_experts, block_size, expert_map)
    ids = len(expert_of_id)
    used = int(alignment.num_tokens_past_padded[0])
    assert used % block_size == 0
    assert len(alignment.sorted_token_ids) >= ids + num_experts * (block_size - 1)
    assert (alignment.sorted_token_ids[used:] == ids).all()
    seen = []
    for block in range(used // block_size):
        entries = alignment.sorted_token_ids[block * block_size : (block + 1) * block_size]
        valid = entries[entries < ids]
        assert len(valid) > 0
        assert (entries[len(valid) :] == ids).all()
        experts = set(expert_of_id[valid])
        assert len(experts) == 1
        local = experts.pop() if expert_map is None else expert_map[experts.pop()]
        assert alignment.expert_ids[block] == local
        seen.extend(valid)
    assert sorted(seen) == list(range(ids))


@pytest.mark.parametrize("block_size", [8, 16, 48, 64])
def test_alignment_puts_every_id_into_a_block_of_its_expert(block_size: int) -> None:
    rng = np.random.default_rng(5)
    for m, num_experts, top_k in [(1, 5, 1), (17, 5, 8), (123, 12, 2), (40, 64, 8)]:
        routing = moe_reference.random_routing(rng, m, num_experts, top_k)
        check_alignment(routing, num_experts, block_size, None)
        expert_map = np.where(np.arange(num_experts) % 4 == 2, np.arange(num_experts) // 4, -1)
        check_alignment(routing, num_experts, block_size, expert_map)


def test_no_tokens_make_no_blocks() -> None:
    alignment = moe_reference.moe_align(np.zeros(0, dtype=np.int64), 4, 16)
    assert int(alignment.num_tokens_past_padded[0]) == 0


def test_routing_gives_a_token_distinct_experts() -> None:
    rng = np.random.default_rng(6)
    routing = moe_reference.random_routing(rng, 50, 12, 8).reshape(50, 8)
    assert all(len(set(row)) == 8 for row in routing)
    assert routing.min() >= 0 and routing.max() < 12


def test_reference_follows_the_definition_id_by_id() -> None:
    rng = np.random.default_rng(7)
    m, k, n, experts, top_k = 5, 16, 8, 3, 2
    a = rng.standard_normal((m, k))
    weights = rng.standard_normal((experts, k, n))
    bias = rng.standard_normal((experts, n))
    routing = np.array([0, 1, 2, -1, 1, 0, 2, 2, -1, 0])
    scale = rng.random(m * top_k)
    out = np.full((m * top_k, n), np.nan)
    moe_reference.reference(a, weights.__getitem__, routing, top_k, out, bias, scale)
    for row, expert in enumerate(routing):
        if expert < 0:
            assert np.isnan(out[row]).all()
        else:
            expected = (a[row // top_k] @ weights[expert] + bias[expert]) * scale[row]
            np.testing.assert_allclose(out[row], expected, rtol=1e-12)


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
