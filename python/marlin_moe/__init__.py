"""Quantised Mixture-of-Experts layers on NVIDIA GPUs, for tensors of any framework.

A binding of libmarlin_moe_ffi.so with apache-tvm-ffi. Tensors are whatever exports itself by
DLPack: PyTorch's, CuPy's and others. Calls with JAX's arrays become part of XLA's program. No
framework is imported here; tvm-ffi, which the first call imports, looks for torch.

    experts = "model.layers.0.mlp.experts.{expert}.{projection}.{tensor}"
    parts = marlin_moe.read_experts(folder, experts, projections=["gate_proj", "up_proj"])
    gate_up = marlin_moe.ExpertWeights.from_gptq(parts)
    [down] = marlin_moe.read_experts(folder, experts, projections=["down_proj"])
    down = marlin_moe.ExpertWeights.from_gptq(down)
    layer = marlin_moe.MoeLayer(gate_up, down)
    out = layer(x, topk_weights, topk_ids)

Memory. Results go to `out` where it is given. Otherwise they and scratch memory are made by the
framework of the call's first tensor, if that is PyTorch or CuPy. XLA makes its results, and scratch
memory then comes from a pool of the library's, as it does with other frameworks. GEMMs keep scratch
memory for each stream and each captured graph: see clear_workspaces().

Streams. Calls enqueue work on the current stream of the first tensor's framework, or XLA's, and
return; with other frameworks on the legacy default stream. Tensors have to outlive the work, as
with any other asynchronous call; ExpertWeights keep theirs alive.

Devices. All tensors of a call are on one CUDA device, which the call makes current while it runs.

Errors are subclasses of MarlinMoeError; they name the argument, what was given and what is allowed,
and come before the launch that they concern. Importing needs neither library nor GPU; calls raise
LibraryError or CudaError where these are missing.
"""

from ._library import library_path
from .activations import (
    QuantizedActivations,
    gelu_and_mul,
    quantize_activations,
    silu_and_mul,
    swigluoai_and_mul,
    topk_sum,
)
from .align import Alignment, alignment_capacity, moe_align, moe_gemm_block_size
from .checkpoints import read_experts
from .errors import (
    CudaError,
    InsufficientWorkspaceError,
    InvalidArgumentError,
    LibraryError,
    MarlinMoeError,
    NoKernelError,
)
from .gemm import (
    GemmConfig,
    clear_workspaces,
    moe_gemm,
    moe_gemm_choose_config,
)
from .layer import MoeLayer, fused_moe
from .prepare import (
    PaddedShape,
    PermutedScales,
    SortedRows,
    padded_shape,
    permute_bias,
    permute_scales,
    permute_zero_points,
    repack_awq,
    repack_gptq,
    repack_rows,
    scale_global_scales,
    sort_rows_by_group,
)
from .scalar_type import ScalarType
from .tuning import tune
from .weights import GROUP_SIZE_ACT_ORDER, GROUP_SIZE_CHANNEL, ExpertWeights

__version__ = "0.1.0"

__all__ = [
    "GROUP_SIZE_ACT_ORDER",
    "GROUP_SIZE_CHANNEL",
    "Alignment",
    "CudaError",
    "ExpertWeights",
    "GemmConfig",
    "InsufficientWorkspaceError",
    "InvalidArgumentError",
    "LibraryError",
    "MarlinMoeError",
    "MoeLayer",
    "NoKernelError",
    "PaddedShape",
    "PermutedScales",
    "QuantizedActivations",
    "ScalarType",
    "SortedRows",
    "alignment_capacity",
    "clear_workspaces",
    "fused_moe",
    "gelu_and_mul",
    "library_path",
    "moe_align",
    "moe_gemm",
    "moe_gemm_block_size",
    "moe_gemm_choose_config",
    "padded_shape",
    "permute_bias",
    "permute_scales",
    "permute_zero_points",
    "quantize_activations",
    "read_experts",
    "repack_awq",
    "repack_gptq",
    "repack_rows",
    "scale_global_scales",
    "silu_and_mul",
    "sort_rows_by_group",
    "swigluoai_and_mul",
    "topk_sum",
    "tune",
]
