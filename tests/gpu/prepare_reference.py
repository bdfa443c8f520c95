"""NumPy references of everything around the GEMM: layouts, quantised activations, alignment.

Weights are uint8 [E, K, N] of small integers, one element each; E experts, K rows, N columns, G
scale rows. The layouts are written as index lists, as packers write them, and applied to whole
arrays; the tests compare each with a loop over single elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EIGHT_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
FOUR_ORDER = (0, 2, 1, 3)
EIGHT_OF_BYTES_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)


def pack_words(values: np.ndarray, bits: int) -> np.ndarray:
    """Packs [..., w * 32 / bits] small integers, lowest first, into uint32 [..., w]."""
    per_word = 32 // bits
    split = values.reshape(*values.shape[:-1], -1, per_word).astype(np.uint32)
    words = np.zeros(split.shape[:-1], dtype=np.uint32)
    for position in range(per_word):
        words |= split[..., position] << np.uint32(position * bits)
    return words


def _reordered(values: np.ndarray, order: list[int] | tuple[int, ...]) -> np.ndarray:
    """Applies an order to each run of len(order) entries of the last axis."""
    split = values.reshape(*values.shape[:-1], -1, len(order))
    return np.ascontiguousarray(split[..., list(order)].reshape(values.shape))


def _tile_order(bits: int, eight_bit_a: bool) -> tuple[list[tuple[int, int]], int, int]:
    """Returns (row, column) of a tile's elements in the packed order, and the tile's shape."""
    elements: list[tuple[int, int]] = []
    for lane in range(32):
        if eight_bit_a:
            rows = [4 * (lane % 4) + r for r in (0, 1, 2, 3, 16, 17, 18, 19)]
            eight = EIGHT_OF_BYTES_ORDER if bits == 4 else range(8)
            order = [8 * half + i for half in (0, 1) for i in eight]
        else:
            rows = [2 * (lane % 4) + r for r in (0, 1, 8, 9)]
            order = [4 * half + i for half in (0, 1) for i in FOUR_ORDER]
            order = list(EIGHT_ORDER) if bits == 4 else order
        for tile in range(2 if eight_bit_a else 4):
            own = [(r, 16 * tile + c + lane // 4) for c in (0, 8) for r in rows]
            elements += [own[i] for i in order]
    return (elements, 32, 32) if eight_bit_a else (elements, 16, 64)


def marlin_weights(q: np.ndarray, bits: int, eight_bit_a: bool) -> np.ndarray:
    """Packs weights [E, K, N] into Marlin's layout, uint32 [E, K / 16, N * bits / 2]."""
    elements, tile_rows, tile_columns = _tile_order(bits, eight_bit_a)
    experts, rows, columns = q.shape
    split = q.reshape(
        experts, rows // tile_rows, tile_rows, columns // tile_columns, tile_columns
    ).transpose(0, 1, 3, 2, 4)
    flat = split.reshape(-1, tile_rows * tile_columns)
    ordered = flat[:, [row * tile_columns + column for row, column in elements]]
    return pack_words(ordered, bits).reshape(experts, rows // 16, columns * bits // 2)


def gptq_weights(q: np.ndarray, bits: int) -> np.ndarray:
    """Packs weights along their rows: uint32 [E, K * bits / 32, N]."""
    return np.ascontiguousarray(pack_words(q.transpose(0, 2, 1), bits).transpose(0, 2, 1))


def awq_columns(values: np.ndarray, bits: int) -> np.ndarray:
    """Packs [..., N] along the columns in AWQ's order: uint32 [..., N * bits / 32]."""
    return pack_words(_reordered(values, EIGHT_ORDER if bits == 4 else FOUR_ORDER), bits)


def row_bytes(q: np.ndarray, bits: int) -> np.ndarray:
    """Packs weights as rows of output columns: uint8 [E, N, K * bits / 8]."""
    columns_first = np.ascontiguousarray(q.transpose(0, 2, 1))
    if bits == 8:
        return columns_first
    return columns_first[..., 0::2] | (columns_first[..., 1::2] << 4)


def take_rows(q: np.ndarray, perm: np.ndarray) -> np.ndarray:
    """Returns q [E, K, N] with the rows of each expert in the order of perm [E, K]."""
    return np.take_along_axis(q, perm[:, :, None].astype(np.int64), axis=1)


def fp8_nibbles(q: np.ndarray, zeros: np.ndarray | int) -> np.ndarray:
    """Encodes 4-bit integers q that stand for q - zeros, as kernels with e4m3 activations do."""
    signed = q.astype(np.int16)
    return np.where(signed >= zeros, signed - zeros, 15 - signed).astype(np.uint8)


GROUPED_ORDER = [i + 8 * j for i in range(8) for j in range(8)]
CHANNEL_ORDER = [2 * i + offset for i in range(4) for offset in (0, 1, 8, 9, 16, 17, 24, 25)]


def permute_columns(values: np.ndarray, channel: bool) -> np.ndarray:
    """Reorders [..., N] as scales are stored: per channel (and the bias), or grouped."""
    return _reordered(values, CHANNEL_ORDER if channel else GROUPED_ORDER)


def marlin_zero_points(zeros: np.ndarray, eight_bit_a: bool) -> np.ndarray:
    """Packs zero points uint8 [E, G, N] into uint32 [E, G, N / 8]."""
    ordered = permute_columns(zeros, channel=False)
    return pack_words(ordered if eight_bit_a else _reordered(ordered, EIGHT_ORDER), 4)


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Rounds float32 to bfloat16, ties to even; returns the bits, uint16. NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), rounded)


def half_bits(values: np.ndarray, bfloat16: bool) -> np.ndarray:
    """Rounds float32 to a 16-bit type; returns the bits, uint16."""
    if bfloat16:
        return bfloat16_bits(values)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32).astype(np.float16).view(np.uint16)


def half_values(bits: np.ndarray, bfloat16: bool) -> np.ndarray:
    """Returns the float32 values of a 16-bit type's bits."""
    if bfloat16:
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(bits).view(np.float16).astype(np.float32)


def scale_bits(bits: np.ndarray, power: int, bfloat16: bool) -> np.ndarray:
    """Multiplies 16-bit numbers by 2 ** power."""
    if power == 0:
        return bits
    return scaled_bits(half_values(bits, bfloat16), power, bfloat16)


def scaled_bits(values: np.ndarray, power: int, bfloat16: bool) -> np.ndarray:
    """Multiplies float32 numbers by 2 ** power and rounds them to a 16-bit type."""
    with np.errstate(over="ignore"):
        return half_bits(values * np.float32(2.0**power), bfloat16)


def e4m3_values() -> np.ndarray:
    """Returns the value of each e4m3 byte, float32 [256]; NaN for 0x7f and 0xff."""
    values = []
    for byte in range(256):
        exponent, mantissa = (byte >> 3) & 15, byte & 7
        value = (
            mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        )
        if byte & 0x7F == 0x7F:
            value = float("nan")
        values.append(-value if byte & 0x80 else value)
    return np.array(values, dtype=np.float32)


def e4m3_bytes(values: np.ndarray) -> np.ndarray:
    """Rounds float32 to e4m3, ties to even, beyond 448 to 448; returns uint8. NaN becomes 0x7f."""
    finite = e4m3_values()[:0x7F].astype(np.float64)
    middles = (finite[:-1] + finite[1:]) / 2
    magnitudes = np.abs(np.nan_to_num(values, nan=0.0, posinf=1e9, neginf=1e9)).astype(np.float64)
    # A tie goes down from an even number, whose byte is even, and up from an odd one.
    below = np.searchsorted(middles, magnitudes, side="left")
    above = np.searchsorted(middles, magnitudes, side="right")
    result = np.where(below % 2 == 0, below, above).astype(np.uint8)
    result |= np.signbit(values).astype(np.uint8) << 7
    return np.where(np.isnan(values), np.uint8(0x7F), result)


def nvfp4_scales(scales: np.ndarray) -> np.ndarray:
    """Converts e4m3 bytes [E, G, N] of NVFP4 scales as they are stored, uint8."""
    with np.errstate(invalid="ignore"):
        halves = (e4m3_values()[scales] * np.float32(128)).astype(np.float16).view(np.uint16)
    stored = ((halves & 0x7FFF) >> 7).astype(np.uint8)
    return _reordered(permute_columns(stored, channel=False), FOUR_ORDER)


def exponent_scales(scales: np.ndarray, eight_bit_a: bool, b_type: str = "kFE2M1f") -> np.ndarray:
    """Converts e8m0 bytes [E, G, N] of MXFP4's or MXFP8's scales as they are stored, uint8."""
    if not eight_bit_a:
        return _reordered(permute_columns(scales, channel=False), FOUR_ORDER)
    power = 6 if b_type == "kFE2M1f" else 0
    raised = np.minimum(scales.astype(np.int16) + power, 254).astype(np.uint8)
    return permute_columns(np.where(scales == 255, scales, raised), channel=True)


def expand_blocks(scales: np.ndarray, n: int, parts: int, columns: int) -> np.ndarray:
    """Repeats scales [E, G, any] for the columns of their blocks: [E, G, n].

    Each of the parts of n begins with a block of its own; its last block may be smaller.
    """
    split = scales.reshape(*scales.shape[:2], parts, -1)
    repeated = np.repeat(split, columns, axis=-1)[..., : n // parts]
    return repeated.reshape(*scales.shape[:2], n)


def fixed_point_scales(bits: np.ndarray, bfloat16: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns 16-bit scales as fixed_point_multiples() does."""
    return fixed_point_multiples(half_values(bits, bfloat16))


def fixed_point_multiples(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns scales [E, G, N] as int16 multiples of a unit of each expert, and the units.

    An expert's unit is its largest magnitude / 4096. Where that is no number, the multiples are 0.
    """
    units = (np.abs(values).max(axis=(1, 2)) / np.float32(4096)).astype(np.float32)
    usable = np.isfinite(units) & (units > 0)
    divisors = np.where(usable, units, np.float32(1))[:, None, None]
    multiples = np.where(usable[:, None, None], np.rint(values / divisors), np.float32(0))
    return multiples.astype(np.int16), units


def quantise_rows(values: np.ndarray, e4m3: bool) -> tuple[np.ndarray, np.ndarray]:
    """Quantises float32 [m, k] by rows; returns (uint8 bytes [m, k], float32 scales [m])."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scales = np.abs(values).max(axis=1) / np.float32(448 if e4m3 else 127)
        divisors = np.where(scales == 0, np.float32(1), scales)
        scaled = values / divisors[:, None]
    if e4m3:
        return e4m3_bytes(scaled), scales
    rounded = np.clip(np.rint(np.nan_to_num(scaled, nan=0.0)), -127, 127)
    return rounded.astype(np.int8).view(np.uint8), scales


@dataclass(frozen=True)
class Alignment:
    """What moe_align() writes: int32 arrays, as long as what is used."""

    sorted_token_ids: np.ndarray
    expert_ids: np.ndarray
    num_tokens_past_padded: int


def align(
    expert_of_id: np.ndarray,
    num_experts: int,
    block_size: int,
    expert_map: np.ndarray | None = None,
    drop_remote: bool = False,
) -> Alignment:
    """Sorts ids by expert and pads each expert's to whole blocks with the number of ids."""
    local = np.arange(num_experts) if expert_map is None else expert_map
    valid = (expert_of_id >= 0) & (expert_of_id < num_experts)
    if drop_remote:
        valid &= local[np.where(valid, expert_of_id, 0)] >= 0
    ids = np.flatnonzero(valid)
    ids = ids[np.argsort(expert_of_id[ids], kind="stable")]
    counts = np.bincount(expert_of_id[ids], minlength=num_experts)
    blocks = -(-counts // block_size)
    used = int(blocks.sum()) * block_size
    result = np.full(used, len(expert_of_id), dtype=np.int32)
    starts = (np.cumsum(blocks) - blocks) * block_size
    ranks = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    result[np.repeat(starts, counts) + ranks] = ids
    return Alignment(result, np.repeat(local, blocks).astype(np.int32), used)


def topk_sum(values: np.ndarray, top_k: int, written: np.ndarray | None = None) -> np.ndarray:
    """Sums float32 [m * top_k, n] over top_k in order; rows not `written` are left out."""
    split = values.reshape(-1, top_k, values.shape[-1])
    sums = np.zeros((split.shape[0], values.shape[-1]), dtype=np.float32)
    for j in range(top_k):
        if written is None:
            sums += split[:, j]
        else:
            rows = written.reshape(-1, top_k)[:, j]
            sums[rows] += split[rows, j]
    return sums


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# What comes of a gate g and of the value u beside it, in the order of the C++ enumeration.
ACTIVATIONS: dict[str, Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]] = {
    "silu": lambda g, u, alpha, limit: g * _sigmoid(g) * u,
    "gelu": lambda g, u, alpha, limit: g * np.vectorize(math.erfc)(-g / math.sqrt(2)) / 2 * u,
    "gelu_tanh": lambda g, u, alpha, limit: (
        g * _sigmoid(2 * math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)) * u
    ),
    "swigluoai": lambda g, u, alpha, limit: (
        np.minimum(g, limit)
        * _sigmoid(alpha * np.minimum(g, limit))
        * (np.clip(u, -limit, limit) + 1)
    ),
}


def act_and_mul(
    values: np.ndarray,
    activation: str = "silu",
    *,
    interleaved: bool = False,
    alpha: float = 1.702,
    limit: float = 7.0,
) -> np.ndarray:
    """Returns the activation of [m, 2 n] in float64: gates are the first half, or even columns."""
    values = values.astype(np.float64)
    gate, up = (values[:, ::2], values[:, 1::2]) if interleaved else np.split(values, 2, axis=1)
    with np.errstate(over="ignore"):
        return ACTIVATIONS[activation](gate, up, alpha, limit)
