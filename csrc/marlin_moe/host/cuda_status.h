// How errors of the CUDA runtime become a Status, for all entry points of the host API.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "marlin_moe/status.h"

namespace marlin_moe {

// kCudaError for an error, naming `what` failed: a function of the runtime, or a kernel.
inline Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  return {StatusCode::kCudaError, std::string(what) + ": " + cudaGetErrorString(error)};
}

}  // namespace marlin_moe
