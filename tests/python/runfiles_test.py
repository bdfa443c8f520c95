"""The package as a Bazel dependency: it finds its library in the runfiles, and loads it.

On machines with a GPU the device is hidden.
"""

from __future__ import annotations

import os
from pathlib import Path

import marlin_moe
import pytest
from marlin_moe import _library

os.environ["CUDA_VISIBLE_DEVICES"] = ""


def test_the_library_is_beside_the_package() -> None:
    assert "MARLIN_MOE_LIBRARY" not in os.environ
    assert marlin_moe.library_path() == Path(marlin_moe.__file__).parent / "libmarlin_moe.so"


def test_the_library_loads_and_answers_without_a_gpu() -> None:
    assert marlin_moe.moe_gemm_block_size(1, 128, 8) == 8
    assert marlin_moe.moe_gemm_block_size(1, 128, 8, "kS8") == 16
    assert marlin_moe.alignment_capacity(20, 16, 16) == (20 + 16 * 15) // 16 * 16
    with pytest.raises(marlin_moe.InvalidArgumentError, match=r"^block_size = 7 is not allowed"):
        marlin_moe.alignment_capacity(20, 16, 7)


def test_the_librarys_structs_have_the_packages_size() -> None:
    from marlin_moe import _abi

    for name, parameters in _abi.FUNCTIONS.items():
        struct = parameters[0]._type_()
        struct.struct_size = 1
        more = [None] * (len(parameters) - 1)
        if name == "align_capacity" or name.endswith("workspace_size"):
            more[-1] = parameters[-1]._type_()
        with pytest.raises(marlin_moe.InvalidArgumentError) as caught:
            _library.library().call(name, struct, *more)
        size = type(struct)().struct_size
        assert (
            str(caught.value) == f"struct_size = 1 is not allowed; allowed: {size}, this library's"
        )


def test_a_call_without_a_gpu_says_so() -> None:
    x = marlin_moe.TensorView(0x7F0000000000, (4, 64), "float16", 0)
    with pytest.raises(marlin_moe.CudaError, match=r"libcuda\.so\.1 cannot be loaded|cuInit: "):
        marlin_moe.silu_and_mul(x, out=x)
