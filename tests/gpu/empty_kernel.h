// Kernels that do nothing, launched as the GEMM is and more simply, to see what of a call's host
// time is the launch itself.
#pragma once

#include <cuda_runtime_api.h>

// What is launched, and how; the numbers are those of EMPTY_LAUNCHES in moe_gemm_lib.py.
enum EmptyLaunch {
  kEmptyPlain = 0,       // no parameters, one block
  kEmptyParameters = 1,  // the parameters of a GEMM kernel, one block
  kEmptyLikeGemm = 2,    // those, a block on each multiprocessor and its shared memory
  kEmptyDriver = 3,      // the same through the driver's cuLaunchKernel
  kNumEmptyLaunches = 4,
};

// To be called once before the launches.
cudaError_t prepare_empty_launches();

cudaError_t launch_empty(EmptyLaunch kind, cudaStream_t stream);
