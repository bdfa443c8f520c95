// Declares the template that generated files instantiate. A fake kernel stores its own template
// arguments, so that a caller learns which one it has.
#pragma once

#include <array>

#include "scalar_types.h"

#define __global__
#define MARLIN_KERNEL_PARAMS KernelArguments* arguments

#ifndef MARLIN_NAMESPACE_NAME
#define MARLIN_NAMESPACE_NAME marlin_moe_wna16
#endif

namespace MARLIN_NAMESPACE_NAME {

using KernelArguments = std::array<std::int64_t, 12>;

template <vllm::ScalarTypeId a_type, vllm::ScalarTypeId b_type, vllm::ScalarTypeId c_type,
          vllm::ScalarTypeId s_type, int threads, int thread_m_blocks, int thread_n_blocks,
          int thread_k_blocks, bool m_block_size_8, int stages, int group_blocks, bool is_zp_float>
__global__ void Marlin(MARLIN_KERNEL_PARAMS);

}  // namespace MARLIN_NAMESPACE_NAME
