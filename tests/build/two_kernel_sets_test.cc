// Links two sets of kernels that differ in their namespace, and selects from the second.
#include "tests/build/fake_kernel/kernel.h"
#include "tests/build/fake_kernel/launcher.h"

namespace other {

static auto find_kernel(int threads) -> void (*)(int*) {
  const vllm::ScalarType a_type = vllm::kFloat16;
  const vllm::ScalarType b_type = vllm::kU4;
  const vllm::ScalarType c_type = vllm::kFloat16;
  const vllm::ScalarType s_type = vllm::kFloat16;
  const int thread_m_blocks = 1;
  const int thread_n_blocks = 8;
  const int thread_k_blocks = 8;
  const bool m_block_size_8 = false;
  const int stages = 4;
  const int group_blocks = 4;
  const bool is_zp_float = false;
  void (*kernel)(int*) = nullptr;
#include "tests/build/other_kernels/kernel_selector.h"
  return kernel;
}

}  // namespace other

int main() {
  const bool first = has_kernel(256, 4, 4);
  const bool second = other::find_kernel(256) != nullptr && other::find_kernel(128) == nullptr;
  return first && second ? 0 : 1;
}
