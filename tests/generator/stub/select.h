// The function around the generated selector.
#pragma once

#include "kernel.h"

using Kernel = void (*)(marlin_moe_wna16::KernelArguments*);

// The kernel that the selector chooses, or null.
Kernel Select(const vllm::ScalarType& a_type, const vllm::ScalarType& b_type,
              const vllm::ScalarType& c_type, const vllm::ScalarType& s_type, int threads,
              int thread_m_blocks, int thread_n_blocks, int thread_k_blocks, bool m_block_size_8,
              int stages, int group_blocks, bool is_zp_float);
