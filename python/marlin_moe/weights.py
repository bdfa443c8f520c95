"""The weights of all experts for one GEMM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ._function import Function
from .checkpoints import awq, compressed_tensors, fp8, gptq, mxfp4, nvfp4
from .checkpoints.matrix import Matrix, joined
from .checkpoints.prepared import Target, fields_of
from .checkpoints.tensors import projections

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


@dataclass(frozen=True, eq=False)
class ExpertWeights:
    """The weights of all experts for one GEMM, in the layouts that the preparation makes.

    Made from a checkpoint's tensors by from_gptq(), from_awq(), from_fp8(), from_mxfp4(),
    from_nvfp4() and from_compressed_tensors(), or from tensors that were prepared one by one. They
    are checked when the object is made, and kept alive by it. What they were prepared for is part
    of it: GEMMs with other activations or results are refused.

    The from_ functions take `tensors` as read_experts() returns them: a mapping of the checkpoint's
    names to tensors on the GPU, each with the experts as its first dimension or as a list of one
    for each expert; or two such mappings, gate and up, which come side by side. They have these
    arguments in common:

      gate_up: for one mapping that has gate and up: `concatenated`, gate in the first half of the
        columns, or `interleaved`, gate in the even ones; None: it is another matrix.
      a_type: activations to prepare for: `kS8`, `kFE4M3fn`, or None: those of c_type. `kFloat16`
        beside c_type `kBFloat16`, and the other way round, are for moe_gemm(), and for kernels of
        a scheme of one's own.
      c_type: type of results. Scales and biases are converted to it; ones that it cannot hold are
        refused.
      n, k: sizes to fill up to with zeros; None: what the GEMM takes, where each of gate and up is
        filled up as the rows of a down projection with the same groups are.

    Attributes:
      b: int32 [num_experts, k / 16, n * bits / 2], from repack_gptq(), repack_awq(), repack_rows().
      scales: s_type [num_experts, num_groups, n], from permute_scales().
      b_type: type of the weights: `kU4`, `kU4B8`, `kU8B128`, `kFE4M3fn` or `kFE2M1f`.
      group_size: rows that share a scale: 16, 32, 64, 128; GROUP_SIZE_CHANNEL or
        GROUP_SIZE_ACT_ORDER.
      a_type: activations that they were prepared for: `kS8`, `kFE4M3fn`, `kFloat16`, `kBFloat16`,
        or None: those of c_type.
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
      column_parts: 2: gate and up side by side; 1: a single matrix; 0: not known.
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
    column_parts: int = 0
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

    @classmethod
    def from_gptq(
        cls,
        tensors: Any,
        *,
        bits: int = 4,
        group_size: int | None = None,
        sym: bool | None = None,
        desc_act: bool | None = None,
        checkpoint_format: str = "gptq",
        gate_up: str | None = None,
        a_type: str | None = None,
        c_type: str = "kBFloat16",
        n: int | None = None,
        k: int | None = None,
    ) -> ExpertWeights:
        """Prepares GPTQ weights: qweight, scales, and qzeros, g_idx, bias where there are some.

        Symmetric weights become kU4B8 or kU8B128, others kU4 with zero points. A g_idx that only
        counts groups is left out; any other one is act-order.

        Args:
          tensors: see above, as gate_up, a_type, c_type, n and k are.
          bits: 4 or 8.
          group_size: of the quantization_config; None: that of the tensors.
          sym: likewise.
          desc_act: likewise.
          checkpoint_format: `gptq`, whose qzeros are one less than the zeros, or `gptq_v2`.
        """
        options = gptq.Options(bits, group_size, sym, desc_act, checkpoint_format)
        return cls._prepared(
            gptq.read(projections(tensors), options), gate_up, Target(a_type, c_type, n, k)
        )

    @classmethod
    def from_awq(
        cls,
        tensors: Any,
        *,
        group_size: int | None = None,
        gate_up: str | None = None,
        a_type: str | None = None,
        c_type: str = "kBFloat16",
        n: int | None = None,
        k: int | None = None,
    ) -> ExpertWeights:
        """Prepares AWQ weights of four bits: qweight, qzeros, scales, and bias if there is one.

        Args:
          tensors: see above, as gate_up, a_type, c_type, n and k are.
          group_size: of the quantization_config; None: that of the tensors.
        """
        return cls._prepared(
            awq.read(projections(tensors), group_size), gate_up, Target(a_type, c_type, n, k)
        )

    @classmethod
    def from_fp8(
        cls,
        tensors: Any,
        *,
        gate_up: str | None = None,
        a_type: str | None = None,
        c_type: str = "kBFloat16",
        n: int | None = None,
        k: int | None = None,
    ) -> ExpertWeights:
        """Prepares e4m3 weights: weight, weight_scale or weight_scale_inv, and bias if any.

        The scale's shape tells what it is for: all, an output column, a group of rows, or a block
        of 128 x 128. e8m0 scales of 32 rows are MXFP8. An input_scale is left out: activations are
        quantised row by row, or not at all.

        Args:
          tensors: see above, as gate_up, a_type, c_type, n and k are.
        """
        return cls._prepared(fp8.read(projections(tensors)), gate_up, Target(a_type, c_type, n, k))

    @classmethod
    def from_mxfp4(
        cls,
        tensors: Any,
        *,
        gate_up: str | None = None,
        a_type: str | None = None,
        c_type: str = "kBFloat16",
        n: int | None = None,
        k: int | None = None,
    ) -> ExpertWeights:
        """Prepares MXFP4 weights: blocks, scales, bias, or weight_packed, weight_scale.

        gpt-oss's gate_up_proj is `interleaved`; its layers need the activation `swigluoai`.

        Args:
          tensors: see above, as gate_up, a_type, c_type, n and k are.
        """
        return cls._prepared(
            mxfp4.read(projections(tensors)), gate_up, Target(a_type, c_type, n, k)
        )

    @classmethod
    def from_nvfp4(
        cls,
        tensors: Any,
        *,
        requantize_scales: bool = False,
        gate_up: str | None = None,
        a_type: str | None = None,
        c_type: str = "kBFloat16",
        n: int | None = None,
        k: int | None = None,
    ) -> ExpertWeights:
        """Prepares NVFP4 weights: weight or weight_packed, weight_scale, and the scale for all.

        That is weight_scale_2, which multiplies, in ModelOpt's checkpoints, and
        weight_global_scale, which divides, in those of compressed-tensors.

        Args:
          tensors: see above, as gate_up, a_type, c_type, n and k are.
          requantize_scales: whether gate and up may have different scales for all: scales of 16
            rows are then rounded anew. Otherwise they are refused.
        """
        return cls._prepared(
            nvfp4.read(projections(tensors), requantize_scales),
            gate_up,
            Target(a_type, c_type, n, k),
        )

    @classmethod
    def from_compressed_tensors(
        cls,
        tensors: Any,
        weights: Any,
        *,
        requantize_scales: bool = False,
        gate_up: str | None = None,
        a_type: str | None = None,
        c_type: str = "kBFloat16",
        n: int | None = None,
        k: int | None = None,
    ) -> ExpertWeights:
        """Prepares weights that compressed-tensors has written.

        Args:
          tensors: see above, as gate_up, a_type, c_type, n and k are.
          weights: `config_groups.group_0.weights` of the checkpoint's quantization_config.
          requantize_scales: as from_nvfp4() takes it.
        """
        return cls._prepared(
            compressed_tensors.read(projections(tensors), weights, requantize_scales),
            gate_up,
            Target(a_type, c_type, n, k),
        )

    @classmethod
    def _prepared(
        cls, matrices: list[Matrix], gate_up: str | None, target: Target
    ) -> ExpertWeights:
        return cls(**fields_of(joined(matrices, gate_up), target))
