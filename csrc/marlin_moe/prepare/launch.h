// How the kernels beside the GEMM are launched.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "marlin_moe/host/cuda_status.h"

namespace marlin_moe {

// Launches a kernel. Errors of earlier calls are left for their own callers to find.
template <class... Parameters, class... Arguments>
Status launch(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads,
              std::size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cuda_status(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...),
                     name);
}

}  // namespace marlin_moe
