// Finds a kernel through the generated selector, and refers to it, so that it must be linked.
#include "tests/build/fake_kernel/launcher.h"

#include "kernel.h"

namespace marlin_moe_wna16 {

using KernelPointer = void (*)(int*);

static KernelPointer find_kernel(int threads, int stages, int group_blocks) {
  const vllm::ScalarType a_type = vllm::kFloat16;
  const vllm::ScalarType b_type = vllm::kU4;
  const vllm::ScalarType c_type = vllm::kFloat16;
  const vllm::ScalarType s_type = vllm::kFloat16;
  const int thread_m_blocks = 1;
  const int thread_n_blocks = 8;
  const int thread_k_blocks = 8;
  const bool m_block_size_8 = false;
  const bool is_zp_float = false;
  KernelPointer kernel = nullptr;
#include "kernel_selector.h"
  return kernel;
}

}  // namespace marlin_moe_wna16

bool has_kernel(int threads, int stages, int group_blocks) {
  return marlin_moe_wna16::find_kernel(threads, stages, group_blocks) != nullptr;
}
