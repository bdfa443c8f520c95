"""The package as a Bazel dependency: it finds its library in the runfiles, and loads it.

On machines with a GPU the device is hidden.
"""

from __future__ import annotations

import os
from pathlib import Path

import marlin_moe
import pytest
from frameworks import Tensor

os.environ["CUDA_VISIBLE_DEVICES"] = ""


def test_the_library_is_beside_the_package() -> None:
    assert "MARLIN_MOE_LIBRARY" not in os.environ
    assert marlin_moe.library_path() == Path(marlin_moe.__file__).parent / "libmarlin_moe_ffi.so"


def test_the_library_loads_and_answers_without_a_gpu() -> None:
    assert marlin_moe.moe_gemm_block_size(1, 128, 8) == 8
    assert marlin_moe.alignment_capacity(20, 16, 16) == (20 + 16 * 15) // 16 * 16


def test_a_call_without_a_gpu_says_so() -> None:
    x = Tensor((4, 128), "float16")
    with pytest.raises(marlin_moe.CudaError, match=r"^cudaGetDevice: "):
        marlin_moe.silu_and_mul(x, out=Tensor((4, 64), "float16"))
