"""The quantised Mixture-of-Experts GEMM."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._function import Function, needed
from ._library import function
from .align import Alignment
from .weights import ExpertWeights

_moe_gemm = Function(
    "moe_gemm",
    "a",
    "weights",
    "sorted_token_ids",
    "expert_ids",
    "num_tokens_past_padded",
    "block_size",
    "top_k",
    "a_type",
    "a_scales",
    "topk_weights",
    "expert_parallel",
    "atomic_reduce",
    "config",
    "out",
)
_choose_config = Function("moe_gemm_choose_config", "a", "weights", "top_k", "block_size", "a_type")


class GemmConfig(NamedTuple):
    """A kernel choice in the place of the library's own.

    Attributes:
      thread_k: rows of a thread block's tile of the weights.
      thread_n: its columns.
      threads: threads of a block.
      blocks_per_sm: blocks that share a multiprocessor, 0: as many as fit.
      stripe_slack: pipeline stages that a block's share may grow by to end with a tile; -1: chosen.
      gather_first: of tiles of sm90 with 96 rows or more: 1 copies the rows of A into scratch
        memory first, in the order in which tiles take them, 0 gathers them anew for each tile;
        -1: chosen.
    """

    thread_k: int
    thread_n: int
    threads: int
    blocks_per_sm: int = 0
    stripe_slack: int = -1
    gather_first: int = -1


def moe_gemm(
    a: Any,
    weights: ExpertWeights,
    alignment: Alignment,
    *,
    top_k: int,
    a_type: str | None = None,
    a_scales: Any = None,
    topk_weights: Any = None,
    expert_parallel: bool = False,
    atomic_reduce: bool = False,
    config: GemmConfig | None = None,
    out: Any = None,
) -> Any:
    """Multiplies each token with the weights of its experts.

    C[id, :] = (sum_k A[id / top_k, k] * dequant(B[e])[k, :] + bias[e, :]) * topk_weights[id]

    for every id of `alignment`, e being the expert of its block.

    Args:
      a: a_type [m, k]; rows may have gaps, of multiples of 16 bytes.
      weights: of all experts.
      alignment: from moe_align().
      top_k: experts per token: id / top_k is the row of A.
      a_type: `kFloat16`, `kBFloat16`, `kS8` or `kFE4M3fn`; None: the dtype of `a`.
      a_scales: float32 [m], 8-bit a_type: what a row is multiplied by, see quantize_activations().
      topk_weights: float32 [m * top_k] or [m, top_k]; None multiplies by nothing.
      expert_parallel: whether expert_ids may hold -1. It changes the speed, not the result.
      atomic_reduce: sum by atomic additions. The last bits then vary from run to run.
      config: a kernel choice; None: the library's.
      out: the weights' c_type [m * top_k, n]; rows whose expert is -1 are not written.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    blocks = needed("alignment", alignment, Alignment)
    made = _moe_gemm(
        a,
        needed("weights", weights, ExpertWeights).handle,
        blocks.sorted_token_ids,
        blocks.expert_ids,
        blocks.num_tokens_past_padded,
        blocks.block_size,
        top_k,
        a_type,
        a_scales,
        topk_weights,
        expert_parallel,
        atomic_reduce,
        config,
        out,
    )
    return out if made is None else made


def moe_gemm_choose_config(
    a: Any,
    weights: ExpertWeights,
    *,
    top_k: int,
    block_size: int,
    a_type: str | None = None,
) -> GemmConfig:
    """Returns the configuration that moe_gemm() takes for these arguments.

    Args:
      a: as moe_gemm() takes it, as are the following.
      weights: of all experts.
      top_k: experts per token.
      block_size: of the alignment.
      a_type: type of the activations.
    """
    handle = needed("weights", weights, ExpertWeights).handle
    return GemmConfig(*_choose_config(a, handle, top_k, block_size, a_type))


def clear_workspaces() -> None:
    """Lets go of the scratch memory that GEMMs keep for each stream and each captured graph.

    The work that uses it has to be finished, and the graphs that hold it gone: synchronise before.
    """
    function("clear_workspaces")()
