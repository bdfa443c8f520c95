// Defines the fake kernels.
#pragma once

#include "kernel.h"

namespace MARLIN_NAMESPACE_NAME {

template <vllm::ScalarTypeId a_type, vllm::ScalarTypeId b_type, vllm::ScalarTypeId c_type,
          vllm::ScalarTypeId s_type, int threads, int thread_m_blocks, int thread_n_blocks,
          int thread_k_blocks, bool m_block_size_8, int stages, int group_blocks, bool is_zp_float>
__global__ void Marlin(MARLIN_KERNEL_PARAMS) {
  *arguments = {a_type,         b_type,          c_type,          s_type,
                threads,        thread_m_blocks, thread_n_blocks, thread_k_blocks,
                m_block_size_8, stages,          group_blocks,    is_zp_float};
}

}  // namespace MARLIN_NAMESPACE_NAME
