"""The references of prepare_reference.py a second time: loops over single elements.

Each follows the text of the layouts from the reader's side, where the fast ones follow the
packer's: it asks which element a place holds, or finds a place by counting.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def weights_read_by_lanes(
    words: np.ndarray, k: int, n: int, bits: int, eight_bit_a: bool
) -> np.ndarray:
    """Recovers one expert's weights [k, n] from Marlin's layout as the GEMM's lanes read them."""
    out = np.full((k, n), -1, dtype=np.int64)
    flat = words.reshape(-1)
    tile_rows, tile_columns = (32, 32) if eight_bit_a else (16, 64)
    for k_tile in range(k // tile_rows):
        for n_tile in range(n // tile_columns):
            first = (k_tile * (n // tile_columns) + n_tile) * 32 * bits
            for lane in range(32):
                places = list(range(first + lane * bits, first + (lane + 1) * bits))
                own = [int(flat[place]) for place in places]
                row, column = k_tile * tile_rows, n_tile * tile_columns + lane // 4
                for down, right, value in _READERS[bits, eight_bit_a](own, lane % 4):
                    out[row + down, column + right] = value
    return out


def _read_4(words: list[int], quarter: int) -> list[tuple[int, int, int]]:
    """One mask leaves two neighbouring rows; shifts give rows + 8, column + 8, both."""
    found = []
    for j, word in enumerate(words):
        for shift, (down, right) in enumerate([(0, 0), (8, 0), (0, 8), (8, 8)]):
            pair = (word >> (4 * shift)) & 0x000F000F
            found.append((2 * quarter + down, 16 * j + right, pair & 0xFFFF))
            found.append((2 * quarter + down + 1, 16 * j + right, pair >> 16))
    return found


def _read_8(words: list[int], quarter: int) -> list[tuple[int, int, int]]:
    """Bytes 0 and 2 are neighbouring rows, 1 and 3 those 8 further down."""
    found = []
    for i, word in enumerate(words):
        column = 16 * (i // 2) + 8 * (i % 2)
        for byte, row in enumerate([0, 8, 1, 9]):
            found.append((2 * quarter + row, column, (word >> (8 * byte)) & 0xFF))
    return found


def _read_4_beside_8(words: list[int], quarter: int) -> list[tuple[int, int, int]]:
    """One mask leaves four neighbouring rows in bytes; the other nibbles are 16 rows down."""
    found = []
    for i, word in enumerate(words):
        column = 16 * (i // 2) + 8 * (i % 2)
        for down in (0, 16):
            quad = (word >> (4 * (down // 16))) & 0x0F0F0F0F
            for row in range(4):
                found.append((4 * quarter + row + down, column, (quad >> (8 * row)) & 0xFF))
    return found


def _read_8_beside_8(words: list[int], quarter: int) -> list[tuple[int, int, int]]:
    """The bytes of a word are four neighbouring rows; the next word has those 16 rows down."""
    found = []
    for i, word in enumerate(words):
        for row in range(4):
            value = (word >> (8 * row)) & 0xFF
            found.append((4 * quarter + row + 16 * (i % 2), 8 * (i // 2), value))
    return found


# By the bits of a weight, and whether activations have eight bits.
_READERS = {
    (4, False): _read_4,
    (8, False): _read_8,
    (4, True): _read_4_beside_8,
    (8, True): _read_8_beside_8,
}


def column_of(position: int, channel: bool) -> int:
    """The column that a position of stored scales holds."""
    if channel:
        block, rest = divmod(position, 32)
        return 32 * block + 2 * (rest // 8) + (0, 1, 8, 9, 16, 17, 24, 25)[rest % 8]
    block, rest = divmod(position, 64)
    return 64 * block + rest // 8 + 8 * (rest % 8)


def zero_points_read(words: np.ndarray, n: int, eight_bit_a: bool) -> np.ndarray:
    """Recovers a row [n] of zero points as a lane of the GEMM reads them.

    The word of lane column c in each 64 columns has the columns c + 8 t. With 16-bit activations,
    shift 4 j of the mask 0x000f000f leaves t = 2 j and 2 j + 1; with 8-bit ones, nibble t is t's.
    """
    out = np.full(n, -1, dtype=np.int64)
    for index, word in enumerate(int(w) for w in words):
        block, c = divmod(index, 8)
        for t in range(8):
            shift = 4 * t if eight_bit_a else 4 * (t // 2) + 16 * (t % 2)
            out[64 * block + c + 8 * t] = (word >> shift) & 15
    return out


def awq_element(words: np.ndarray, column: int, bits: int) -> int:
    """The element of one row packed as AWQ does it."""
    per_word = 32 // bits
    order = (0, 2, 4, 6, 1, 3, 5, 7) if bits == 4 else (0, 2, 1, 3)
    position = order.index(column % per_word)
    return (int(words[column // per_word]) >> (bits * position)) & ((1 << bits) - 1)


def gptq_element(words: np.ndarray, row: int, column: int, bits: int) -> int:
    """The element of one expert's weights packed as GPTQ does it."""
    per_word = 32 // bits
    return (int(words[row // per_word, column]) >> (bits * (row % per_word))) & ((1 << bits) - 1)


def fp8_nibble_value(nibble: int, zero: int) -> int:
    """The integer that the kernel with e4m3 activations makes of an encoded nibble."""
    return -((nibble + zero + 1) & 15) if nibble + zero >= 16 else nibble


def e4m3_value(byte: int) -> Fraction:
    exponent, mantissa = (byte >> 3) & 15, byte & 7
    if exponent == 0:
        magnitude = Fraction(mantissa, 8) / 64
    else:
        magnitude = (1 + Fraction(mantissa, 8)) * Fraction(2) ** (exponent - 7)
    return -magnitude if byte & 0x80 else magnitude


def nearest_e4m3(value: float) -> int:
    """The byte of the e4m3 number next to a finite value, ties to the even byte."""
    exact = abs(Fraction(value))
    best = min(range(0x7F), key=lambda byte: (abs(e4m3_value(byte) - exact), byte % 2))
    return best | (0x80 if np.signbit(value) else 0)


def align(
    expert_of_id: list[int],
    num_experts: int,
    block_size: int,
    expert_map: list[int] | None = None,
    drop_remote: bool = False,
) -> tuple[list[int], list[int]]:
    """Returns (sorted_token_ids, expert_ids), as far as they are used."""
    sorted_ids: list[int] = []
    expert_ids: list[int] = []
    for expert in range(num_experts):
        local = expert if expert_map is None else expert_map[expert]
        if drop_remote and local < 0:
            continue
        ids = [i for i, owner in enumerate(expert_of_id) if owner == expert]
        while len(ids) % block_size:
            ids.append(len(expert_of_id))
        sorted_ids += ids
        expert_ids += [local] * (len(ids) // block_size)
    return sorted_ids, expert_ids
