"""The quantised Mixture-of-Experts GEMM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ._function import Function, needed
from ._library import function
from .align import Alignment

# group_size of weights with one scale per output column.
GROUP_SIZE_CHANNEL = -1
# group_size of GPTQ weights that were quantised with desc_act: g_idx has each row's group.
GROUP_SIZE_ACT_ORDER = 0

_expert_weights = Function(
    "expert_weights",
    "b",
    "scales",
    "b_type",
    "group_size",
    "a_type",
    "c_type",
    "s_type",
    "zero_points",
    "global_scales",
    "bias",
    "g_idx",
    "perm",
    "a_factor",
)
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
      gather_first: of 16-bit activations and tiles of sm90 with 96 rows or more: 1 copies the rows
        of A into scratch memory first, in the order in which tiles take them, 0 gathers them anew
        for each tile; -1: chosen.
    """

    thread_k: int
    thread_n: int
    threads: int
    blocks_per_sm: int = 0
    stripe_slack: int = -1
    gather_first: int = -1


@dataclass(frozen=True, eq=False)
class ExpertWeights:
    """The weights of all experts for one GEMM, in the layouts that the preparation makes.

    The tensors are checked when the object is made, and kept alive by it. What they were prepared
    for is part of it: GEMMs with other activations or results are refused.

    Attributes:
      b: int32 [num_experts, k / 16, n * bits / 2], from repack_gptq(), repack_awq(), repack_rows().
      scales: s_type [num_experts, num_groups, n], from permute_scales().
      b_type: type of the weights: `kU4`, `kU4B8`, `kU8B128`, `kFE4M3fn` or `kFE2M1f`.
      group_size: rows that share a scale: 16, 32, 64, 128; GROUP_SIZE_CHANNEL or
        GROUP_SIZE_ACT_ORDER.
      a_type: activations that they were prepared for: `kS8`, `kFE4M3fn`, or None: those of 16 bits.
      c_type: type of results that they were prepared for; None: that of 16-bit scales, `kBFloat16`
        for MXFP4. NVFP4 needs the one that scale_global_scales() was given.
      s_type: type of the scales; None: the dtype of the tensor.
      zero_points: int32 [num_experts, num_groups, n / 8], from permute_zero_points(); kU4 only.
      global_scales: float32 [num_experts], from scale_global_scales() for NVFP4, from
        permute_scales() for activations of kS8.
      bias: c_type [num_experts, n], from permute_bias(); optional.
      g_idx: int32 [num_experts, k], from sort_rows_by_group(); act-order only.
      perm: int32 [num_experts, k], likewise.
      a_factor: float32 [1], of weights packed elsewhere for activations of kS8 and groups: what all
        scales are multiples of. MoeLayer only.
    """

    b: Any
    scales: Any
    b_type: str
    group_size: int
    a_type: str | None = None
    c_type: str | None = None
    s_type: str | None = None
    zero_points: Any = None
    global_scales: Any = None
    bias: Any = None
    g_idx: Any = None
    perm: Any = None
    a_factor: Any = None
    handle: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the tensors; raises InvalidArgumentError if they do not go together."""
        handle = _expert_weights(
            self.b,
            self.scales,
            self.b_type,
            self.group_size,
            self.a_type,
            self.c_type,
            self.s_type,
            self.zero_points,
            self.global_scales,
            self.bias,
            self.g_idx,
            self.perm,
            self.a_factor,
        )
        object.__setattr__(self, "handle", handle)


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
