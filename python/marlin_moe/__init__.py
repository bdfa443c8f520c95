"""Quantised Mixture-of-Experts layers on NVIDIA GPUs, for tensors of any framework.

A binding of libmarlin_moe.so. Tensors are whatever speaks DLPack or `__cuda_array_interface__`
(torch, CuPy, JAX and others, none of which is imported), or a TensorView of memory that has no
framework. Dtypes are told by name: `bfloat16`, `int32`.

    qweight, scales = ...  # GPTQ: int32 [E, k / 8, n], bfloat16 [E, k / 128, n]
    gate_up = marlin_moe.ExpertWeights(
        b=marlin_moe.repack_gptq(qweight, b_type="kU4B8"),
        scales=marlin_moe.permute_scales(scales, b_type="kU4B8", group_size=128).scales,
        b_type="kU4B8",
        group_size=128,
    )
    out = marlin_moe.fused_moe(x, gate_up, down, topk_weights, topk_ids)

Memory. Results go to `out` where it is given. Otherwise, and for workspaces, memory is made by
`empty(shape, dtype, device)` where that is given, or else by the framework of the call's first
tensor if that is torch or CuPy; other frameworks' callers give one of the two. Nothing else
allocates. Workspaces are kept, see Workspace and clear_workspaces().

Streams. Calls enqueue work and return. `stream` is a cudaStream_t as an int, or an object with
`cuda_stream` (torch), `__cuda_stream__()` or `ptr` (CuPy); None is the current stream of the first
tensor's framework if that is torch or CuPy, else the legacy default stream. Tensors are exported
for that stream, so that it waits for what their framework still does to them on another. They have
to outlive the work, as with any other asynchronous call.

Devices. All tensors of a call are on one CUDA device, which the call makes current while it runs.
What the library asks of a device it asks once: there must be no cudaDeviceReset() between calls.

Errors are subclasses of MarlinMoeError; they name the argument, what was given and what is allowed,
and come before the launch that they concern. Importing needs neither library nor GPU; calls raise
LibraryError or CudaError where these are missing.
"""

from ._library import library_path
from .activations import (
    QuantizedActivations,
    quantize_activations,
    silu_and_mul,
    topk_sum,
)
from .align import Alignment, alignment_capacity, moe_align, moe_gemm_block_size
from .errors import (
    CudaError,
    InsufficientWorkspaceError,
    InvalidArgumentError,
    LibraryError,
    MarlinMoeError,
    NoKernelError,
)
from .gemm import (
    GROUP_SIZE_ACT_ORDER,
    GROUP_SIZE_CHANNEL,
    ExpertWeights,
    GemmConfig,
    moe_gemm,
    moe_gemm_choose_config,
    moe_gemm_workspace_size,
)
from .layer import fused_moe
from .prepare import (
    PermutedScales,
    SortedRows,
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
from .tensor import SupportsCudaArrayInterface, SupportsDLPack, Tensor, TensorView
from .workspace import Workspace, clear_workspaces

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
    "NoKernelError",
    "PermutedScales",
    "QuantizedActivations",
    "ScalarType",
    "SortedRows",
    "SupportsCudaArrayInterface",
    "SupportsDLPack",
    "Tensor",
    "TensorView",
    "Workspace",
    "alignment_capacity",
    "clear_workspaces",
    "fused_moe",
    "library_path",
    "moe_align",
    "moe_gemm",
    "moe_gemm_block_size",
    "moe_gemm_choose_config",
    "moe_gemm_workspace_size",
    "permute_bias",
    "permute_scales",
    "permute_zero_points",
    "quantize_activations",
    "repack_awq",
    "repack_gptq",
    "repack_rows",
    "scale_global_scales",
    "silu_and_mul",
    "sort_rows_by_group",
    "topk_sum",
]
