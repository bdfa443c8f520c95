// Defines the kernel template.
#pragma once

#include "kernel.h"
#include "moe/marlin/dequantise.cuh"

namespace MARLIN_NAMESPACE_NAME {

template <ScalarTypeId a_type_id, ScalarTypeId b_type_id, ScalarTypeId c_type_id,
          ScalarTypeId s_type_id, int threads, int thread_m_blocks, int thread_n_blocks,
          int thread_k_blocks, bool m_block_size_8, int stages, int group_blocks, bool is_zp_float>
__global__ void Marlin(MARLIN_KERNEL_PARAMS) {
  const int i = blockIdx.x * threads + threadIdx.x;
  if (i < count) output[i] = thread_m_blocks * dequantise<b_type_id>(weights[i]);
}

}  // namespace MARLIN_NAMESPACE_NAME
