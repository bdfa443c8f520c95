"""Tokens sorted by expert, as moe_gemm() reads them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._function import Function, merged, parts


class Alignment(NamedTuple):
    """What moe_align() writes, all int32 on the device.

    Attributes:
      sorted_token_ids: [capacity] ids by expert, each expert's padded to whole blocks with num_ids.
      expert_ids: [capacity / block_size] expert of each block, -1 for blocks to skip.
      num_tokens_past_padded: [1] entries of sorted_token_ids in use.
      block_size: ids of a block, a multiple of 8 from 8 to 256.
    """

    sorted_token_ids: Any
    expert_ids: Any
    num_tokens_past_padded: Any
    block_size: int


_block_size = Function("moe_gemm_block_size", "m", "num_experts", "top_k", "a_type")
_capacity = Function("alignment_capacity", "num_ids", "num_experts", "block_size")
_moe_align = Function(
    "moe_align",
    "topk_ids",
    "num_experts",
    "block_size",
    "expert_map",
    "drop_remote",
    "out.sorted_token_ids",
    "out.expert_ids",
    "out.num_tokens_past_padded",
)


def moe_gemm_block_size(m: int, num_experts: int, top_k: int, a_type: str = "kBFloat16") -> int:
    """Returns the block size to align tokens with, from the tokens per expert.

    Args:
      m: tokens.
      num_experts: experts that they are spread over, those of other devices included.
      top_k: experts per token.
      a_type: type of the GEMM's activations; 8-bit ones have blocks of 16 and more.
    """
    return int(_block_size(m, num_experts, top_k, a_type))


def alignment_capacity(num_ids: int, num_experts: int, block_size: int) -> int:
    """Returns the entries of sorted_token_ids that are used at most.

    Args:
      num_ids: tokens times experts per token.
      num_experts: experts of all devices, 1 to 1024.
      block_size: ids of a block, a multiple of 8 from 8 to 256.
    """
    return int(_capacity(num_ids, num_experts, block_size))


def moe_align(
    topk_ids: Any,
    *,
    num_experts: int,
    block_size: int,
    expert_map: Any = None,
    drop_remote: bool = False,
    out: Alignment | None = None,
) -> Alignment:
    """Sorts the ids of a MoE layer by expert and pads each expert's to whole blocks.

    Id i is entry i of `topk_ids`: token i / top_k, choice i % top_k.

    Args:
      topk_ids: int32 [m, top_k] or [m * top_k], expert of each id. Ids whose entry is not from 0 to
        num_experts - 1 get no place.
      num_experts: experts of all devices, 1 to 1024.
      block_size: ids of a block, as moe_gemm_block_size() says.
      expert_map: int32 [num_experts], expert parallelism: local expert of each, -1 for those
        elsewhere.
      drop_remote: whether ids of experts elsewhere get no place; otherwise they fill blocks with
        expert -1.
      out: where the result goes; its block_size is not looked at.
    """
    given = parts("out", out, Alignment)[:3]
    made = _moe_align(topk_ids, num_experts, block_size, expert_map, drop_remote, *given)
    sorted_token_ids, expert_ids, used = merged(given, made)
    return Alignment(sorted_token_ids, expert_ids, used, block_size)
