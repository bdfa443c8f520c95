"""Rules that compile CUDA."""

load("//cuda/private:cuda_library.bzl", _cuda_library = "cuda_library", _cuda_objects = "cuda_objects")
load("//cuda/private:requires_cuda.bzl", _requires_cuda = "requires_cuda")
load("//cuda/private:settings.bzl", _CudaArchsInfo = "CudaArchsInfo", _cuda_archs = "cuda_archs")
load(
    "//cuda/private:toolchain.bzl",
    _cuda_toolchain = "cuda_toolchain",
    _find_cuda_toolchain = "find_cuda_toolchain",
    _use_cuda_toolchain = "use_cuda_toolchain",
)

CudaArchsInfo = _CudaArchsInfo
cuda_archs = _cuda_archs
cuda_library = _cuda_library
cuda_objects = _cuda_objects
cuda_toolchain = _cuda_toolchain
find_cuda_toolchain = _find_cuda_toolchain
requires_cuda = _requires_cuda
use_cuda_toolchain = _use_cuda_toolchain
