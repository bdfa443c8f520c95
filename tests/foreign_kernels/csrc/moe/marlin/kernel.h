// Declares the kernel template: what generated files and the launcher see of it.
#pragma once

#include "core/scalar_type.hpp"

#define MARLIN_KERNEL_PARAMS const int* __restrict__ weights, float* __restrict__ output, int count

namespace MARLIN_NAMESPACE_NAME {

using types::ScalarTypeId;

template <ScalarTypeId a_type_id, ScalarTypeId b_type_id, ScalarTypeId c_type_id,
          ScalarTypeId s_type_id, int threads, int thread_m_blocks, int thread_n_blocks,
          int thread_k_blocks, bool m_block_size_8, int stages, int group_blocks, bool is_zp_float>
__global__ void Marlin(MARLIN_KERNEL_PARAMS);

}  // namespace MARLIN_NAMESPACE_NAME
