// Declares a kernel template that compiles fast and takes every type of the table.
#pragma once

#include <cuda_runtime_api.h>

#include "csrc/marlin_moe/scalar_type.hpp"

#define MARLIN_KERNEL_PARAMS int* arguments

#ifndef MARLIN_NAMESPACE_NAME
#define MARLIN_NAMESPACE_NAME marlin_moe_wna16
#endif

namespace MARLIN_NAMESPACE_NAME {

using MARLIN_TYPE_NAMESPACE::ScalarTypeId;

template <ScalarTypeId a_type, ScalarTypeId b_type, ScalarTypeId c_type, ScalarTypeId s_type,
          int threads, int thread_m_blocks, int thread_n_blocks, int thread_k_blocks,
          bool m_block_size_8, int stages, int group_blocks, bool is_zp_float>
__global__ void Marlin(MARLIN_KERNEL_PARAMS);

}  // namespace MARLIN_NAMESPACE_NAME
