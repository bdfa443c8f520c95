"""The quantised Mixture-of-Experts GEMM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from . import _abi
from ._call import Call, Empty, check_alignment, pointer
from .align import Alignment
from .errors import invalid
from .scalar_type import SIXTEEN_BITS, ScalarType, to_scalar_type, type_of_tensor
from .tensor import Tensor, TensorView
from .workspace import Workspace, scratch

# group_size of weights with one scale per output column.
GROUP_SIZE_CHANNEL = -1
# group_size of GPTQ weights that were quantised with desc_act: g_idx has each row's group.
GROUP_SIZE_ACT_ORDER = 0


class GemmConfig(NamedTuple):
    """A kernel choice in the place of the library's own.

    Attributes:
      thread_k: rows of a thread block's tile of the weights.
      thread_n: its columns.
      threads: threads of a block.
      blocks_per_sm: blocks that share a multiprocessor, 0: as many as fit.
      stripe_slack: pipeline stages that a block's share may grow by to end with a tile; -1: chosen.
    """

    thread_k: int
    thread_n: int
    threads: int
    blocks_per_sm: int = 0
    stripe_slack: int = -1


@dataclass(frozen=True)
class ExpertWeights:
    """The weights of all experts for one GEMM, in the layouts that the preparation makes.

    Attributes:
      b: int32 [num_experts, k / 16, n * bits / 2], from repack_gptq(), repack_awq(), repack_rows().
      scales: s_type [num_experts, num_groups, n], from permute_scales().
      b_type: type of the weights: `kU4`, `kU4B8`, `kU8B128`, `kFE4M3fn` or `kFE2M1f`.
      group_size: rows that share a scale: 16, 32, 64, 128; GROUP_SIZE_CHANNEL or
        GROUP_SIZE_ACT_ORDER.
      s_type: type of the scales; None: the dtype of the tensor.
      zero_points: int32 [num_experts, num_groups, n / 8], from permute_zero_points(); kU4 only.
      global_scales: float32 [num_experts], from scale_global_scales() for NVFP4, from
        permute_scales() for activations of kS8.
      bias: c_type [num_experts, n], from permute_bias(); optional.
      g_idx: int32 [num_experts, k], from sort_rows_by_group(); act-order only.
      perm: int32 [num_experts, k], likewise.
      a_factor: float32 [1], of weights packed elsewhere for activations of kS8 and groups: what all
        scales are multiples of. fused_moe() only.
    """

    b: Tensor
    scales: Tensor
    b_type: ScalarType | str
    group_size: int
    s_type: ScalarType | str | None = None
    zero_points: Tensor | None = None
    global_scales: Tensor | None = None
    bias: Tensor | None = None
    g_idx: Tensor | None = None
    perm: Tensor | None = None
    a_factor: Tensor | None = None


def moe_gemm(
    a: Tensor,
    weights: ExpertWeights,
    alignment: Alignment,
    *,
    top_k: int,
    a_type: ScalarType | str | None = None,
    a_scales: Tensor | None = None,
    c_type: ScalarType | str | None = None,
    topk_weights: Tensor | None = None,
    expert_parallel: bool = False,
    atomic_reduce: bool = False,
    config: GemmConfig | None = None,
    out: Tensor | None = None,
    workspace: Workspace | Tensor | None = None,
    stream: Any = None,
    empty: Empty | None = None,
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
      c_type: `kFloat16` or `kBFloat16`; None: a 16-bit a_type, else the type of the scales.
      topk_weights: float32 [m * top_k] or [m, top_k]; None multiplies by nothing.
      expert_parallel: whether expert_ids may hold -1. It changes the speed, not the result.
      atomic_reduce: sum by atomic additions. The last bits then vary from run to run.
      config: a kernel choice; None: the library's.
      out: c_type [m * top_k, n]; rows whose expert is -1 are not written.
      workspace: a tensor has to be aligned to 256 bytes and zeroed once before its first use, to
        serve calls with one value of `atomic_reduce` only, and none that overlap.
      stream: see the package's description, as for `empty`.
      empty: what makes the result and scratch memory.

    Returns:
      `out`, or the tensor that was made in its place.
    """
    with Call(stream, a, empty) as call:
        gemm = Gemm(call, a, weights, a_type, c_type, top_k)
        gemm.take_activations(a_scales, topk_weights)
        gemm.take_alignment(alignment)
        gemm.args.expert_parallel, gemm.args.atomic_reduce = expert_parallel, atomic_reduce
        result = gemm.take_output(out)
        gemm.plan(config)
        gemm.launch(workspace)
        return result


def moe_gemm_workspace_size(
    a: Tensor,
    weights: ExpertWeights,
    *,
    top_k: int,
    block_size: int,
    a_type: ScalarType | str | None = None,
    c_type: ScalarType | str | None = None,
    expert_parallel: bool = False,
    atomic_reduce: bool = False,
    config: GemmConfig | None = None,
) -> int:
    """Returns the bytes of workspace that moe_gemm() needs for these arguments.

    Args:
      a: as moe_gemm() takes it, as are the following.
      weights: of all experts.
      top_k: experts per token.
      block_size: of the alignment.
      a_type: type of the activations.
      c_type: type of the result.
      expert_parallel: whether blocks may be skipped.
      atomic_reduce: sum by atomic additions.
      config: a kernel choice.
    """
    with Call(None, a) as call:
        gemm = Gemm(call, a, weights, a_type, c_type, top_k)
        gemm.args.block_size = block_size
        gemm.args.expert_parallel, gemm.args.atomic_reduce = expert_parallel, atomic_reduce
        return gemm.plan(config)


def moe_gemm_choose_config(
    a: Tensor,
    weights: ExpertWeights,
    *,
    top_k: int,
    block_size: int,
    a_type: ScalarType | str | None = None,
    c_type: ScalarType | str | None = None,
) -> GemmConfig:
    """Returns the configuration that moe_gemm() takes for these arguments.

    Args:
      a: as moe_gemm() takes it, as are the following.
      weights: of all experts.
      top_k: experts per token.
      block_size: of the alignment.
      a_type: type of the activations.
      c_type: type of the result.
    """
    with Call(None, a) as call:
        args = Gemm(call, a, weights, a_type, c_type, top_k).args
        args.block_size = block_size
        found = _abi.GemmConfig()
        call.run("gemm_choose_config", args, found)
        return GemmConfig(*(int(getattr(found, name)) for name in GemmConfig._fields))


class Gemm:
    """A GEMM's operands, checked against each other, in the struct of the C interface.

    Attributes:
      args: the struct; what the constructor does not take is still empty.
    """

    def __init__(
        self,
        call: Call,
        a: Tensor,
        weights: ExpertWeights,
        a_type: ScalarType | str | None,
        c_type: ScalarType | str | None,
        top_k: int,
    ) -> None:
        self._call = call
        self._config: _abi.GemmConfig | None = None
        self._workspace_size = 0
        view = call.tensor("a", a, None, (None, None), "[m, k]", rows=True)
        self._a_type = type_of_tensor("a_type", a_type, "a", view.dtype)
        if view.dtype not in self._a_type.dtypes:
            raise invalid("a", f"dtype {view.dtype}", ", ".join(self._a_type.dtypes))
        m, k = view.shape
        self.args = _abi.GemmArgs(
            m=m,
            k=k,
            top_k=_positive("top_k", top_k),
            a_type=self._a_type,
            a_stride=view.row_stride(),
            a=view.pointer,
            group_size=weights.group_size,
            stream=call.stream,
        )
        scales = self._take_weights(weights, k)
        self._c_type = self._choose_c_type(c_type, scales)
        self.args.c_type = self._c_type
        self._take_extras(weights)

    def _take_weights(self, weights: ExpertWeights, k: int) -> ScalarType:
        """Takes weights and scales, which tell the rest of the shape; returns the scales' type."""
        call, args = self._call, self.args
        b_type = to_scalar_type("b_type", weights.b_type)
        b = call.tensor(
            "b",
            weights.b,
            ("int32", "uint32"),
            (None, k // 16, None),
            f"[num_experts, k / 16, n * bits / 2] with k = {k}, as `a` has",
        )
        args.b_type, args.b = b_type, b.pointer
        args.num_experts = b.shape[0]
        args.n = b.shape[2] * 2 // b_type.bits
        scales = call.tensor(
            "scales",
            weights.scales,
            None,
            (args.num_experts, None, args.n),
            "[num_experts, num_groups, n], as b has",
        )
        s_type = type_of_tensor("s_type", weights.s_type, "scales", scales.dtype)
        if scales.dtype not in s_type.dtypes:
            raise invalid("scales", f"dtype {scales.dtype}", ", ".join(s_type.dtypes))
        args.s_type, args.scales, args.num_groups = s_type, scales.pointer, scales.shape[1]
        return s_type

    def _choose_c_type(self, given: ScalarType | str | None, s_type: ScalarType) -> ScalarType:
        if given is not None:
            c_type = to_scalar_type("c_type", given)
        else:
            c_type = self._a_type if self._a_type in SIXTEEN_BITS else s_type
        if c_type in SIXTEEN_BITS:
            return c_type
        raise invalid("c_type", given and c_type.name, "FLOAT16, BFLOAT16")

    def _take_extras(self, weights: ExpertWeights) -> None:
        """Takes what only some weights have; what one scheme needs, the library asks for."""
        args, experts, n, k = self.args, self.args.num_experts, self.args.n, self.args.k
        groups = args.num_groups
        self._take(
            "zero_points",
            weights.zero_points,
            ("int32", "uint32"),
            (experts, groups, n // 8),
            "[num_experts, num_groups, n / 8]",
        )
        self._take(
            "global_scales", weights.global_scales, ("float32",), (experts,), "(num_experts,)"
        )
        self._take("bias", weights.bias, self._c_type.dtypes, (experts, n), "[num_experts, n]")
        for name in ("g_idx", "perm"):
            tensor = getattr(weights, name)
            self._take(name, tensor, ("int32",), (experts, k), "[num_experts, k]")

    def take_activations(self, a_scales: Tensor | None, topk_weights: Tensor | None) -> None:
        m, ids = self.args.m, self.args.m * self.args.top_k
        self._take("a_scales", a_scales, ("float32",), (m,), "(m,)")
        weights = self._take("topk_weights", topk_weights, ("float32",), None, "[m * top_k]")
        if weights is not None and weights.size != ids:
            raise invalid("topk_weights", f"shape {weights.shape}", f"m * top_k = {ids} elements")

    def take_alignment(self, alignment: Alignment) -> None:
        self.args.block_size = alignment.block_size
        for name in ("sorted_token_ids", "expert_ids"):
            self._take(name, getattr(alignment, name), ("int32",), (None,), "one-dimensional")
        used = alignment.num_tokens_past_padded
        self._take("num_tokens_past_padded", used, ("int32",), (1,), "(1,)")

    def take_output(self, out: Tensor | None) -> Any:
        """Takes the caller's result or makes one; returns it."""
        shape = (self.args.m * self.args.top_k, self.args.n)
        result, view = self._call.output("out", out, self._c_type.dtypes, shape, "[m * top_k, n]")
        self.args.c = view.pointer
        return result

    def plan(self, config: GemmConfig | None = None) -> int:
        """Lets the library check sizes and types, and choose a kernel; returns the bytes of
        workspace that it needs."""
        self._config = None if config is None else _abi.GemmConfig(**config._asdict())
        self._workspace_size = self._call.query("gemm_workspace_size", self.args, self._config)
        return self._workspace_size

    def check_pointers(self) -> None:
        """Refuses operands that are missing or not aligned; the library does so only at launch."""
        args, act_order = self.args, self.args.group_size == GROUP_SIZE_ACT_ORDER
        operands = (
            ("a", 16, True),
            ("b", 16, True),
            ("scales", 16, True),
            ("zero_points", 16, args.b_type == ScalarType.U4),
            ("global_scales", 4, args.s_type == ScalarType.FE4M3FN),
            ("bias", 16, args.bias is not None),
            ("g_idx", 16, act_order),
            ("perm", 16, act_order),
            ("topk_weights", 4, args.topk_weights is not None),
        )
        for name, alignment, needed in operands:
            address = getattr(args, name)
            if needed and not address:
                raise invalid(name, "null", "a device pointer")
            if needed:
                check_alignment(name, address, alignment)
        chunk = 128 // self._a_type.bits
        if args.a_stride < args.k or args.a_stride % chunk:
            allowed = f"a multiple of {chunk}, at least k = {args.k}"
            raise invalid("a_stride", args.a_stride, allowed)

    def launch(self, workspace: Workspace | Tensor | None) -> None:
        """Enqueues the kernel that was planned."""
        args = self.args
        use = "atomic gemm" if args.atomic_reduce else "gemm"
        with scratch(self._call, workspace, use, self._workspace_size, zeroed=True) as memory:
            args.workspace, args.workspace_bytes = memory
            self._call.run("gemm", args, self._config)

    def _take(self, name: str, tensor: Any, *checks: Any) -> TensorView | None:
        view = self._call.optional(name, tensor, *checks)
        setattr(self.args, name, pointer(view))
        return view


def _positive(name: str, given: int) -> int:
    if given < 1:
        raise invalid(name, given, "1 or more")
    return given
