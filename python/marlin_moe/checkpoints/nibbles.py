"""Four-bit elements of 32-bit words: other orders of them.

Words are int32: shifts to the left wrap, and shifts to the right are masked.
"""

from __future__ import annotations

from typing import Any

from .. import _arrays

# AWQ: element i of a word is column AWQ_ORDER[i] of eight.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def nibble(words: Any, index: int) -> Any:
    """Returns element `index` of each word."""
    return (words >> (4 * index)) & 15


def to_awq_order(words: Any) -> Any:
    """Reorders words whose element i is column i of eight."""
    ordered = nibble(words, AWQ_ORDER[0])
    for place, column in enumerate(AWQ_ORDER[1:], start=1):
        ordered = ordered | (nibble(words, column) << (4 * place))
    return ordered


def rows_to_awq(words: Any) -> Any:
    """Packs along the columns what was packed along the rows.

    Args:
      words: int32 [experts, k / 8, n]: element i of word r is row 8 * r + i.

    Returns:
      int32 [experts, k, n / 8], in AWQ's order.
    """
    experts, word_rows, n = words.shape
    columns = words.reshape(experts, word_rows, n // 8, 8)
    packed: Any = None
    for place, column in enumerate(AWQ_ORDER):
        of_column = columns[..., column]
        rows = [(nibble(of_column, row) << (4 * place))[:, :, None] for row in range(8)]
        placed = _arrays.concatenate(rows, 2)
        packed = placed if packed is None else packed | placed
    return packed.reshape(experts, word_rows * 8, n // 8)
