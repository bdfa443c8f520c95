// A kernel that only reads the weights of some experts: no GEMM that reads them takes less time.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// One operand: an expert's part of it is `expert_bytes` long, a multiple of 16, and the parts
// follow each other.
struct ReadOperand {
  const void* begin;
  std::int64_t expert_bytes;
};

constexpr int kMostReadOperands = 3;

// What one launch reads: the parts of experts[0 .. num_experts) of each operand.
struct ReadArgs {
  ReadOperand operands[kMostReadOperands];  // without bytes where there are fewer
  const int* experts;                       // on the device
  int num_experts;
  int* sink;  // on the device; written to if all that a thread read is zeros but for one bit
};

// Ways to read: how many 16-byte loads a thread has under way, 2^way.
constexpr int kNumReadWays = 5;

cudaError_t launch_read(const ReadArgs& args, int way, cudaStream_t stream);
