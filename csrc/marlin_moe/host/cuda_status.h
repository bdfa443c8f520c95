// How errors of the CUDA runtime become a Status, for all entry points of the host API.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "marlin_moe/status.h"

namespace marlin_moe {

// kCudaError for an error that a function of the runtime has just returned, naming `what` failed:
// the function, or a kernel. The runtime keeps it as the thread's last error too, where the
// caller's next check would take it for its own: it is cleared. An error of the caller's, before
// calls that succeed, stays.
inline Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();
  return {StatusCode::kCudaError, std::string(what) + ": " + cudaGetErrorString(error)};
}

}  // namespace marlin_moe
