"""Tokens sorted by expert, as moe_gemm() reads them."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from . import _abi
from ._call import Call, Empty, pointer
from ._library import library
from .scalar_type import ScalarType, to_scalar_type
from .tensor import Tensor
from .workspace import Workspace, scratch


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


def moe_gemm_block_size(
    m: int, num_experts: int, top_k: int, a_type: ScalarType | str = ScalarType.BFLOAT16
) -> int:
    """Returns the block size to align tokens with, from the tokens per expert.

    Args:
      m: tokens.
      num_experts: experts that they are spread over, those of other devices included.
      top_k: experts per token.
      a_type: type of the GEMM's activations; 8-bit ones have blocks of 16 and more.
    """
    return library().block_size(m, num_experts, top_k, to_scalar_type("a_type", a_type))


def alignment_capacity(num_ids: int, num_experts: int, block_size: int) -> int:
    """Returns the entries of sorted_token_ids that are used at most.

    Args:
      num_ids: tokens times experts per token.
      num_experts: experts of all devices, 1 to 1024.
      block_size: ids of a block, a multiple of 8 from 8 to 256.
    """
    args = _abi.AlignArgs(num_ids=num_ids, num_experts=num_experts, block_size=block_size)
    places = ctypes.c_int64()
    library().call("align_capacity", args, places)
    return places.value


def moe_align(
    topk_ids: Tensor,
    *,
    num_experts: int,
    block_size: int,
    expert_map: Tensor | None = None,
    drop_remote: bool = False,
    out: Alignment | None = None,
    workspace: Workspace | Tensor | None = None,
    stream: Any = None,
    empty: Empty | None = None,
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
      workspace: scratch memory, needed from a few thousand ids on; a tensor may be in any state.
      stream: see the package's description, as for `empty`.
      empty: what makes the results.
    """
    with Call(stream, topk_ids, empty) as call:
        ids = call.tensor("topk_ids", topk_ids, ("int32",), None, "[m, top_k]")
        local = call.optional(
            "expert_map", expert_map, ("int32",), (num_experts,), "(num_experts,)"
        )
        args = _abi.AlignArgs(
            num_ids=ids.size,
            num_experts=num_experts,
            block_size=block_size,
            drop_remote=drop_remote,
            topk_ids=ids.pointer,
            expert_map=pointer(local),
            stream=call.stream,
        )
        capacity = call.query("align_capacity", args)
        result = _outputs(call, out, capacity, block_size, args)
        size = call.query("align_workspace_size", args)
        with scratch(call, workspace, "align", size) as (args.workspace, args.workspace_bytes):
            call.run("align", args)
        return result


def _outputs(
    call: Call, out: Alignment | None, capacity: int, block_size: int, args: _abi.AlignArgs
) -> Alignment:
    """Takes or makes the results and tells `args` where they are."""
    given = out or Alignment(None, None, None, block_size)
    int32 = ("int32",)
    sorted_ids, args.sorted_token_ids = _output(
        call, "sorted_token_ids", given.sorted_token_ids, int32, capacity, "[capacity]"
    )
    expert_ids, args.expert_ids = _output(
        call, "expert_ids", given.expert_ids, int32, capacity // block_size, "[capacity/block_size]"
    )
    used, args.num_tokens_past_padded = _output(
        call, "num_tokens_past_padded", given.num_tokens_past_padded, int32, 1, "(1,)"
    )
    return Alignment(sorted_ids, expert_ids, used, block_size)


def _output(
    call: Call, name: str, given: Any, dtypes: tuple[str, ...], length: int, layout: str
) -> tuple[Any, int]:
    tensor, view = call.output(f"out.{name}", given, dtypes, (length,), layout)
    return tensor, view.pointer
