// One thread block gathers one row at a time.
#include "permute_columns.h"

#include <cstdint>

#include "launch.h"

namespace marlin_moe {

static constexpr int kThreads = 256;
static constexpr int kMaxBlocks = 4096;

__global__ void permute_columns_kernel(const PermuteColumnsArgs args) {
  const int count = *args.rows.num_tokens_past_padded;
  for (int position = blockIdx.x; position < count; position += gridDim.x) {
    // Negative numbers are large ones here: padding of other aligners, experts elsewhere.
    const unsigned id = static_cast<unsigned>(args.rows.sorted_token_ids[position]);
    const unsigned expert =
        static_cast<unsigned>(args.rows.expert_ids[position / args.rows.block_size]);
    if (id >= static_cast<unsigned>(args.rows.num_ids)) continue;
    if (expert >= static_cast<unsigned>(args.rows.num_experts)) continue;
    const std::uint16_t* from =
        static_cast<const std::uint16_t*>(args.a) +
        static_cast<std::int64_t>(id / static_cast<unsigned>(args.rows.top_k)) * args.a_stride;
    const int2* perm =
        reinterpret_cast<const int2*>(args.perm + static_cast<std::int64_t>(expert) * args.k);
    std::uint32_t* to =
        static_cast<std::uint32_t*>(args.out) + static_cast<std::int64_t>(id) * (args.k / 2);
    for (int pair = threadIdx.x; pair < args.k / 2; pair += kThreads) {
      const int2 columns = perm[pair];
      to[pair] = from[columns.x] | static_cast<std::uint32_t>(from[columns.y]) << 16;
    }
  }
}

Status permute_columns(const PermuteColumnsArgs& args, cudaStream_t stream) {
  const int blocks = args.max_ids < kMaxBlocks ? args.max_ids : kMaxBlocks;
  return launch("permute_columns", permute_columns_kernel, dim3(static_cast<unsigned>(blocks)),
                kThreads, 0, stream, args);
}

}  // namespace marlin_moe
