// Defines the fake kernel: it stores some of its template arguments.
#pragma once

#include "kernel.h"

namespace MARLIN_NAMESPACE_NAME {

template <ScalarTypeId a_type, ScalarTypeId b_type, ScalarTypeId c_type, ScalarTypeId s_type,
          int threads, int thread_m_blocks, int thread_n_blocks, int thread_k_blocks,
          bool m_block_size_8, int stages, int group_blocks, bool is_zp_float>
__global__ void Marlin(MARLIN_KERNEL_PARAMS) {
  arguments[0] = threads;
  arguments[1] = stages;
  arguments[2] = group_blocks;
}

}  // namespace MARLIN_NAMESPACE_NAME
