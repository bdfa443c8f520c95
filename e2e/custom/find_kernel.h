// Finds the kernel of custom_int4 in the namespace MARLIN_NAMESPACE_NAME. The includer defines it.
#pragma once

#include "kernel.h"

namespace MARLIN_NAMESPACE_NAME {

inline const void* find_kernel(int threads) {
  const vllm::ScalarType a_type = vllm::kFloat16;
  const vllm::ScalarType b_type = vllm::kU4B8;
  const vllm::ScalarType c_type = vllm::kFloat16;
  const vllm::ScalarType s_type = vllm::kFloat16;
  const int thread_m_blocks = 1;
  const int thread_n_blocks = 8;
  const int thread_k_blocks = 4;
  const bool m_block_size_8 = false;
  const int stages = 4;
  const int group_blocks = 4;
  const bool is_zp_float = false;
  MarlinFuncPtr kernel = nullptr;
#include "kernel_selector.h"
  return reinterpret_cast<const void*>(kernel);
}

}  // namespace MARLIN_NAMESPACE_NAME
