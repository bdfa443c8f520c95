#include "find_kernel.h"

#include "kernel.h"

namespace marlin_moe_wna16 {

static MarlinFuncPtr find_kernel(int threads) {
  const vllm::ScalarType a_type = vllm::kFloat16;
  const vllm::ScalarType b_type = vllm::kU4B8;
  const vllm::ScalarType c_type = vllm::kFloat16;
  const vllm::ScalarType s_type = vllm::kFloat16;
  const int thread_m_blocks = 1;
  const int thread_n_blocks = 8;
  const int thread_k_blocks = 8;
  const bool m_block_size_8 = false;
  const int stages = 4;
  const int group_blocks = 8;
  const bool is_zp_float = false;
  MarlinFuncPtr kernel = nullptr;
#include "kernel_selector.h"
  return kernel;
}

}  // namespace marlin_moe_wna16

bool has_smoke_kernel(int threads) { return marlin_moe_wna16::find_kernel(threads) != nullptr; }
