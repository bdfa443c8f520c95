// Launches the foreign tree's kernels. FOREIGN_KERNELS is their namespace within foreign.
#include "tests/foreign_kernels/csrc/moe/ops.h"

#include "core/check.h"

#define MARLIN_NAMESPACE_NAME foreign::FOREIGN_KERNELS
#include "kernel.h"

namespace foreign {

using Kernel = void (*)(MARLIN_KERNEL_PARAMS);

static Kernel select_kernel(int threads, int thread_m_blocks) {
  const types::ScalarType a_type = types::kFloat16;
  const types::ScalarType b_type = types::kU4B8;
  const types::ScalarType c_type = types::kFloat16;
  const types::ScalarType s_type = types::kFloat16;
  const int thread_n_blocks = 8;
  const int thread_k_blocks = 8;
  const bool m_block_size_8 = false;
  const int stages = 4;
  const int group_blocks = 8;
  const bool is_zp_float = false;
  Kernel kernel = nullptr;
#include "kernel_selector.h"
  return kernel;
}

static const void* find(int threads, int thread_m_blocks) {
  return reinterpret_cast<const void*>(select_kernel(threads, thread_m_blocks));
}

static void run(const int* weights, float* output, int count, int threads, int thread_m_blocks) {
  const Kernel kernel = select_kernel(threads, thread_m_blocks);
  kernel<<<(count + threads - 1) / threads, threads>>>(weights, output, count);
  const cudaError_t error = cudaGetLastError();
  FOREIGN_CHECK(error == cudaSuccess, "launch: ", cudaGetErrorString(error));
}

const Ops FOREIGN_OPS = {find, run};

}  // namespace foreign
