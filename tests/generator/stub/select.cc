// Includes the generated selector the way a launcher does; nothing else, so that it can be timed.
#include "select.h"

Kernel Select(const vllm::ScalarType& a_type, const vllm::ScalarType& b_type,
              const vllm::ScalarType& c_type, const vllm::ScalarType& s_type, int threads,
              int thread_m_blocks, int thread_n_blocks, int thread_k_blocks, bool m_block_size_8,
              int stages, int group_blocks, bool is_zp_float) {
  Kernel kernel = nullptr;
#include "kernel_selector.h"
  return kernel;
}
