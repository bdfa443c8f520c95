#include "tests/gpu/read_kernel.h"

static constexpr int kThreads = 256;

// Each block reads one chunk of one expert's part of one operand: blocks count the chunks of the
// first operand, expert by expert, then those of the next.
template <int kLoads>
static __global__ void __launch_bounds__(kThreads) read_kernel(const ReadArgs args) {
  constexpr std::int64_t kChunk = 16 * kThreads * kLoads;
  std::int64_t block = blockIdx.x;
  for (const ReadOperand& operand : args.operands) {
    const std::int64_t chunks = (operand.expert_bytes + kChunk - 1) / kChunk;
    if (block >= chunks * args.num_experts) {
      block -= chunks * args.num_experts;
      continue;
    }
    const std::int64_t expert = args.experts[block / chunks];
    const char* part = static_cast<const char*>(operand.begin) + expert * operand.expert_bytes;
    const std::int64_t first = block % chunks * kChunk + threadIdx.x * 16;
    int4 words[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const std::int64_t offset = first + i * (16 * kThreads);
      words[i] = offset < operand.expert_bytes
                     ? __ldcs(reinterpret_cast<const int4*>(part + offset))
                     : make_int4(0, 0, 0, 0);
    }
    int bits = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) bits |= words[i].x | words[i].y | words[i].z | words[i].w;
    // So that no load is left out; random bits never are this.
    if (bits == 1) *args.sink = bits;
    return;
  }
}

template <int kLoads>
static cudaError_t launch(const ReadArgs& args, cudaStream_t stream) {
  constexpr std::int64_t kChunk = 16 * kThreads * kLoads;
  std::int64_t blocks = 0;
  for (const ReadOperand& operand : args.operands) {
    blocks += (operand.expert_bytes + kChunk - 1) / kChunk * args.num_experts;
  }
  read_kernel<kLoads><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t launch_read(const ReadArgs& args, int way, cudaStream_t stream) {
  switch (way) {
    case 0:
      return launch<1>(args, stream);
    case 1:
      return launch<2>(args, stream);
    case 2:
      return launch<4>(args, stream);
    case 3:
      return launch<8>(args, stream);
    case 4:
      return launch<16>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}
