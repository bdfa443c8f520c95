"""Reference of the MoE GEMM in float64, and the alignment of tokens to blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Alignment:
    """Ids by expert in blocks, as the kernel reads them (int32 NumPy arrays).

    Attributes:
      sorted_token_ids: ids of each block, valid ones first, padded with the number of ids; entries
        past `num_tokens_past_padded` hold no block.
      expert_ids: expert of each block, -1 for experts of another device.
      num_tokens_past_padded: [1], entries of sorted_token_ids in use.
    """

    sorted_token_ids: np.ndarray
    expert_ids: np.ndarray
    num_tokens_past_padded: np.ndarray


def moe_align(
    expert_of_id: np.ndarray,
    num_experts: int,
    block_size: int,
    expert_map: np.ndarray | None = None,
) -> Alignment:
    """Sorts ids by expert and pads each expert's to whole blocks.

    Args:
      expert_of_id: [m * top_k] global expert of each id.
      num_experts: global number of experts.
      block_size: ids in a block.
      expert_map: [num_experts] local expert of each global one, -1 for those of other devices;
        None keeps the numbers.

    Returns:
      The alignment, with sorted_token_ids as long as the kernel's contract asks for:
      ids + num_experts * (block_size - 1), rounded up to a block.
    """
    ids = len(expert_of_id)
    counts = np.bincount(expert_of_id, minlength=num_experts)
    blocks = -(-counts // block_size)
    capacity = -(-(ids + num_experts * (block_size - 1)) // block_size)
    sorted_ids = np.full(capacity * block_size, ids, dtype=np.int32)
    order = np.argsort(expert_of_id, kind="stable")
    first_slot = (np.cumsum(blocks) - blocks) * block_size
    first_rank = np.cumsum(counts) - counts
    ranks = np.arange(ids)
    experts = expert_of_id[order]
    sorted_ids[first_slot[experts] + ranks - first_rank[experts]] = order
    local = np.arange(num_experts) if expert_map is None else expert_map
    expert_ids = np.full(capacity, -1, dtype=np.int32)
    expert_ids[: blocks.sum()] = np.repeat(local, blocks)
    past = np.array([blocks.sum() * block_size], dtype=np.int32)
    return Alignment(sorted_ids, expert_ids, past)


def random_routing(rng: np.random.Generator, m: int, num_experts: int, top_k: int) -> np.ndarray:
    """Returns the expert of each id, [m * top_k]: distinct for a token where there are enough."""
    if top_k > num_experts:
        return rng.integers(0, num_experts, size=m * top_k)
    keys = rng.random((m, num_experts))
    return np.argpartition(keys, top_k - 1, axis=1)[:, :top_k].reshape(-1)


def reference(
    a: Any,
    weights: Callable[[int], Any],
    local_expert_of_id: np.ndarray,
    top_k: int,
    out: Any,
    bias: Any = None,
    topk_weights: Any = None,
) -> Any:
    """Fills `out` with the exact product, and returns it.

    Args:
      a: float64 [m, K].
      weights: returns the dequantised float64 [K, N] of a local expert.
      local_expert_of_id: [m * top_k], -1: the row of `out` is left as it is.
      top_k: experts per token.
      out: float64 [m * top_k, N].
      bias: float64 [E, N] or None.
      topk_weights: float64 [m * top_k] or None.
    """
    for expert in np.unique(local_expert_of_id):
        if expert < 0:
            continue
        ids = np.flatnonzero(local_expert_of_id == expert)
        product = a[ids // top_k] @ weights(int(expert))
        if bias is not None:
            product = product + bias[int(expert)]
        if topk_weights is not None:
            product = product * topk_weights[ids][:, None]
        out[ids] = product
    return out
