// What the foreign tree offers its users, once for each form of the selector.
#pragma once

namespace foreign {

struct Ops {
  // The kernel for a block's threads and rows; throws if there is none.
  const void* (*find)(int threads, int thread_m_blocks);
  // Decodes `count` weights on the device; throws if there is no kernel or no device.
  void (*run)(const int* weights, float* output, int count, int threads, int thread_m_blocks);
};

extern const Ops chain_ops;
extern const Ops switch_ops;

}  // namespace foreign
