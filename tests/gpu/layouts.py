"""Quantisation and the memory layouts of the MoE GEMM's operands.

Every function takes NumPy arrays or PyTorch tensors (on any device) and returns the same kind; the
layouts are reshapes and transposes, so that large weights are packed at memory speed.

E experts, K rows (the reduction), N columns, G scale rows.
"""

from __future__ import annotations

import functools
from typing import Any

import number_formats
import numpy as np

GROUP_CHANNEL = -1
GROUP_ACT_ORDER = 0

# Position p of a packed word's eight nibbles holds element NIBBLE_ORDER[p].
NIBBLE_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
# Byte p of a word of 8-bit weights, or of four 8-bit scales, holds element BYTE_ORDER[p].
BYTE_ORDER = (0, 2, 1, 3)


def _transpose(array: Any, axes: tuple[int, ...]) -> Any:
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(array.transpose(axes))
    return array.permute(axes).contiguous()


def _as_int32(array: Any) -> Any:
    """Reinterprets groups of four bytes as little-endian words."""
    if isinstance(array, np.ndarray):
        return array.view(np.int32)
    import torch

    return array.view(torch.int32)


def _words_from_nibbles(nibbles: Any) -> Any:
    """Packs [..., 8 * w] values below 16, lowest nibble first, into int32 [..., w]."""
    return _as_int32(nibbles[..., 0::2] | (nibbles[..., 1::2] << 4))


def pack_weights(q: Any, bits: int = 4) -> Any:
    """Packs weights for 16-bit activations, uint8 [E, K, N], into int32 [E, K / 16, N * bits / 2].

    A tile of 16 rows and 64 columns is 32 * bits consecutive words: four 16x16 tiles j for each of
    the 32 lanes of a warp. Lane i holds the column i / 4 (from element 4 on: that column + 8) and
    the rows 2 * (i % 4) + {0, 1, 8, 9}. Its eight 4-bit elements are the word lane * 4 + j, in
    NIBBLE_ORDER; its eight 8-bit elements are the two words from (lane * 4 + j) * 2 on, each in
    BYTE_ORDER.
    """
    experts, rows, columns = q.shape
    if rows % 16 or columns % 64:
        raise ValueError(f"K = {rows}, N = {columns}: K must be a multiple of 16, N of 64")
    # row = 8 * high + 2 * pair + odd; column = 16 * j + 8 * half + lane_column.
    # Axes: 0 expert, 1 k tile, 2 high, 3 pair, 4 odd, 5 n tile, 6 j, 7 half, 8 lane_column.
    split = q.reshape(experts, rows // 16, 2, 4, 2, columns // 64, 4, 2, 8)
    if bits == 8:
        # Element half * 4 + high * 2 + odd is byte odd * 2 + high of word half.
        ordered = _transpose(split, (0, 1, 5, 8, 3, 6, 7, 4, 2))
        return _as_int32(ordered.reshape(experts, rows // 16, columns * 16))
    # Element half * 4 + high * 2 + odd lies at nibble odd * 4 + half * 2 + high.
    ordered = _transpose(split, (0, 1, 5, 8, 3, 6, 4, 7, 2))
    nibbles = ordered.reshape(experts, rows // 16, columns * 16)
    return _words_from_nibbles(nibbles)


def pack_weights_a8(q: Any, bits: int = 4) -> Any:
    """Packs weights for 8-bit activations, uint8 [E, K, N], into int32 [E, K / 32, bits * N].

    A tile of 32 rows and 32 columns is 32 * bits consecutive words. Lane i holds the columns
    i / 4 + 8 * t, of which elements 0 to 3 are the rows 4 * (i % 4) + {0, 1, 2, 3}, elements 4 to 7
    the rows 16 below those. The eight 4-bit elements are the word i * 4 + t, in NIBBLE_ORDER_A8;
    the eight 8-bit elements are the two words from (i * 4 + t) * 2 on, in order.
    """
    experts, rows, columns = q.shape
    if rows % 32 or columns % 32:
        raise ValueError(f"K = {rows}, N = {columns}: both must be multiples of 32")
    # row = 16 * high + 4 * quad + r; column = 8 * t + lane_column.
    # Axes: 0 expert, 1 k tile, 2 high, 3 quad, 4 r, 5 n tile, 6 t, 7 lane_column.
    split = q.reshape(experts, rows // 32, 2, 4, 4, columns // 32, 4, 8)
    if bits == 8:
        ordered = _transpose(split, (0, 1, 5, 7, 3, 6, 2, 4))
        return _as_int32(ordered.reshape(experts, rows // 32, columns * 32))
    # Element high * 4 + r lies at nibble 2 * r + high.
    ordered = _transpose(split, (0, 1, 5, 7, 3, 6, 4, 2))
    return _words_from_nibbles(ordered.reshape(experts, rows // 32, columns * 32))


def encode_for_e4m3(q: Any, zeros: Any) -> Any:
    """Returns 4-bit weights, uint8, as e4m3 activations have them, before they are packed.

    Not less than the zero point (an array that broadcasts, or a number): the difference. Less:
    15 - q, so that GPTQ's, with the zero point 8, are a sign and a magnitude less one.
    """
    less = q < zeros
    return (q - zeros) * ~less + (15 - q) * less


def permute_grouped(values: Any) -> Any:
    """Reorders [..., N] as grouped scales are stored.

    Within 64 columns, position 8 * i + j holds column i + 8 * j.
    """
    *lead, columns = values.shape
    split = values.reshape(-1, columns // 64, 8, 8)
    return _transpose(split, (0, 1, 3, 2)).reshape(*lead, columns)


def permute_channel(values: Any) -> Any:
    """Reorders [..., N] as per-channel scales and the bias are stored.

    Within 32 columns, position 8 * i + t holds column 2 * i + [0, 1, 8, 9, 16, 17, 24, 25][t].
    """
    *lead, columns = values.shape
    split = values.reshape(-1, columns // 32, 4, 4, 2)
    return _transpose(split, (0, 1, 3, 2, 4)).reshape(*lead, columns)


def permute_scales(scales: Any, group_size: int, a_bits: int = 16) -> Any:
    """Reorders scales [E, G, N] as the kernels read them for a group size and activation width.

    A single group is one scale per channel, whatever the group size.
    """
    if group_size == GROUP_CHANNEL or scales.shape[1] == 1 or a_bits == 8:
        return permute_channel(scales)
    return permute_grouped(scales)


def interleave_bytes(values: Any) -> Any:
    """Reorders [..., N] of bytes as 8-bit scales are stored, in BYTE_ORDER within four."""
    fours = values.reshape(*values.shape[:-1], values.shape[-1] // 4, 4)
    return fours[..., list(BYTE_ORDER)].reshape(values.shape)


@functools.cache
def _nvfp4_bytes() -> np.ndarray:
    values = number_formats.VALUES["kFE4M3fn"][:128] * 2.0**7
    bits = values.astype(np.float16).view(np.uint16)
    return (bits >> 7).astype(np.uint8)


def store_nvfp4_scales(codes: Any) -> Any:
    """Turns NVFP4's block scales, non-negative e4m3 codes [E, G, N], into the bytes in memory.

    Each is the upper byte of the f16 number of 2^7 times the scale, without its sign: five bits of
    exponent and three of mantissa, exact for all codes.
    """
    if isinstance(codes, np.ndarray):
        stored = _nvfp4_bytes()[codes]
    else:
        import torch

        stored = torch.from_numpy(_nvfp4_bytes()).to(codes.device)[codes.int()]
    return interleave_bytes(permute_grouped(stored))


def store_exponent_scales(codes: Any, a_bits: int = 16, b_type: str = "kFE2M1f") -> Any:
    """Turns the scales of MXFP4 and MXFP8, e8m0 codes [E, G, N], into the bytes in memory.

    For 8-bit activations they hold the 2^6 by which e2m1 is too small as e4m3.
    """
    if a_bits == 8:
        raised = codes + (6 if b_type == "kFE2M1f" else 0)
        raised[codes == 255] = 255  # NaN stays NaN
        return permute_channel(raised)
    return interleave_bytes(permute_grouped(codes))


# Largest of the fixed-point numbers that int8 activations have as group scales.
FIXED_POINT_ONE = 4096


def fixed_point_scales(scales: Any) -> tuple[Any, Any]:
    """Returns scales [E, G, N] as int16 multiples of a unit, and the units [E].

    An expert's unit, its largest scale / FIXED_POINT_ONE, is its global scale: int8 activations
    have both.
    """
    if isinstance(scales, np.ndarray):
        units = scales.max(axis=(1, 2)) / FIXED_POINT_ONE
        return np.rint(scales / units[:, None, None]).astype(np.int16), units
    import torch

    units = scales.amax(dim=(1, 2)) / FIXED_POINT_ONE
    return torch.round(scales / units[:, None, None]).to(torch.int16), units


def pack_zero_points(zero_points: Any, a_bits: int = 16) -> Any:
    """Packs 4-bit zero points, uint8 [E, G, N], into int32 [E, G, N / 8].

    They have the order of grouped scales, also with one scale per channel. For 16-bit activations
    position p of eight then holds element NIBBLE_ORDER[p]; for 8-bit ones element p.
    """
    experts, groups, columns = zero_points.shape
    permuted = permute_grouped(zero_points)
    if a_bits == 16:
        eights = permuted.reshape(experts, groups, columns // 8, 8)
        permuted = eights[..., list(NIBBLE_ORDER)].reshape(experts, groups, columns)
    return _words_from_nibbles(permuted)


def sort_rows_by_group(g_idx: Any) -> tuple[Any, Any]:
    """Returns (perm, sorted g_idx), both [E, K] int32, of act-order's g_idx [E, K].

    Row r of the packed weights is row perm[r] of the original ones. Rows of one group keep their
    order.
    """
    if isinstance(g_idx, np.ndarray):
        perm = np.argsort(g_idx, axis=1, kind="stable").astype(np.int32)
        return perm, np.take_along_axis(g_idx, perm.astype(np.int64), axis=1).astype(np.int32)
    import torch

    ordered, perm = torch.sort(g_idx, dim=1, stable=True)
    return perm.to(torch.int32), ordered.to(torch.int32)


def take_rows(q: Any, perm: Any) -> Any:
    """Returns q [E, K, N] with the rows of each expert in the order of perm [E, K]."""
    if isinstance(q, np.ndarray):
        return q[np.arange(q.shape[0])[:, None], perm]
    import torch

    return torch.stack([rows.index_select(0, order) for rows, order in zip(q, perm, strict=True)])


def dequantise(
    q: Any, scales: Any, zero_points: Any, row_groups: Any, b_type: str = "kU4B8"
) -> Any:
    """Returns the float64 weights of one expert, [K, N], exactly.

    Args:
      q: uint8 codes [K, N].
      scales: [G, N].
      zero_points: uint8 [G, N] where b_type has them, or None.
      row_groups: [K], the row of scales for each row of q.
      b_type: what the codes mean.
    """
    values = number_formats.decode(q, b_type)
    if zero_points is not None:
        values = values - _float64(zero_points)[row_groups]
    return values * _float64(scales)[row_groups]


def _float64(array: Any) -> Any:
    return array.astype(np.float64) if isinstance(array, np.ndarray) else array.double()
