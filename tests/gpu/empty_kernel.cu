#include "tests/gpu/empty_kernel.h"

#include <cuda.h>

#include "marlin_moe/kernel/kernel.h"

using Params = MARLIN_NAMESPACE_NAME::KernelParams;

static __global__ void empty_kernel() {}
static __global__ void empty_kernel_with_parameters(const __grid_constant__ Params) {}

static constexpr int kThreads = 256;
static constexpr int kSharedBytes = 64 << 10;

using LaunchFunction = CUresult (*)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned,
                                    unsigned, unsigned, CUstream, void**, void**);

static int multiprocessors = 0;
static cudaFunction_t driver_function = nullptr;
static LaunchFunction driver_launch = nullptr;

static const void* symbol() { return reinterpret_cast<const void*>(empty_kernel_with_parameters); }

cudaError_t prepare_empty_launches() {
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error == cudaSuccess) {
    error =
        cudaFuncSetAttribute(symbol(), cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  }
  if (error == cudaSuccess) error = cudaGetFuncBySymbol(&driver_function, symbol());
  if (error != cudaSuccess) return error;
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result{};
  error =
      cudaGetDriverEntryPointByVersion("cuLaunchKernel", &entry, 12000, cudaEnableDefault, &result);
  driver_launch = reinterpret_cast<LaunchFunction>(entry);
  return error;
}

cudaError_t launch_empty(EmptyLaunch kind, cudaStream_t stream) {
  Params params{};
  void* arguments[] = {&params};
  const auto blocks = static_cast<unsigned>(multiprocessors);
  switch (kind) {
    case kEmptyPlain:
      return cudaLaunchKernel(reinterpret_cast<const void*>(empty_kernel), dim3(1), dim3(kThreads),
                              nullptr, 0, stream);
    case kEmptyParameters:
      return cudaLaunchKernel(symbol(), dim3(1), dim3(kThreads), arguments, 0, stream);
    case kEmptyLikeGemm:
      return cudaLaunchKernel(symbol(), dim3(blocks), dim3(kThreads), arguments, kSharedBytes,
                              stream);
    default:
      return driver_launch(driver_function, blocks, 1, 1, kThreads, 1, 1, kSharedBytes, stream,
                           arguments, nullptr) == CUDA_SUCCESS
                 ? cudaSuccess
                 : cudaErrorLaunchFailure;
  }
}
