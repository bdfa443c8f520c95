// A warp copies one row at a time, 512 bytes at once.
#include "stage_rows.h"

#include <algorithm>
#include <cstdint>

#include "launch.h"

namespace marlin_moe {

static constexpr int kWarps = 8;  // of a thread block
static constexpr int kMaxBlocks = 4096;

__global__ void stage_rows_kernel(const StageRowsArgs args) {
  const int count = min(*args.rows.num_tokens_past_padded, args.max_ids);
  const int chunks = static_cast<int>(row_stages(args.row_bytes)) * 8;
  const int row_chunks = static_cast<int>(args.row_bytes / 16);
  const int first = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  for (int position = first; position < count; position += static_cast<int>(gridDim.x) * kWarps) {
    const int block = position / args.rows.block_size;
    const int row = position - block * args.rows.block_size;
    // Negative numbers are large ones here: padding of other aligners, experts elsewhere.
    const unsigned expert = static_cast<unsigned>(args.rows.expert_ids[block]);
    if (expert >= static_cast<unsigned>(args.rows.num_experts)) continue;
    const unsigned id = static_cast<unsigned>(args.rows.sorted_token_ids[position]);
    const bool token = id < static_cast<unsigned>(args.rows.num_ids);
    const std::int64_t source = token ? id / static_cast<unsigned>(args.rows.top_k) : 0;
    const int4* from =
        reinterpret_cast<const int4*>(static_cast<const char*>(args.a) + source * args.a_stride);
    char* to = static_cast<char*>(args.out) +
               static_cast<std::int64_t>(block) * args.rows.block_size * chunks * 16;
    const std::int64_t stage_bytes =
        static_cast<std::int64_t>(args.rows.block_size) * Sm90Tile::kStageRowBytes;
#pragma unroll 4
    for (int chunk = static_cast<int>(threadIdx.x) % 32; chunk < chunks; chunk += 32) {
      const bool there = token && chunk < row_chunks;
      const int4 bytes = there ? __ldg(from + chunk) : make_int4(0, 0, 0, 0);
      *reinterpret_cast<int4*>(to + chunk / 8 * stage_bytes +
                               Sm90Tile::a_chunk_offset(row, chunk % 8)) = bytes;
    }
  }
}

Status stage_rows(const StageRowsArgs& args, cudaStream_t stream) {
  const int blocks = std::min((args.max_ids + kWarps - 1) / kWarps, kMaxBlocks);
  return launch("stage_rows", stage_rows_kernel, dim3(static_cast<unsigned>(blocks)), 32 * kWarps,
                0, stream, args);
}

}  // namespace marlin_moe
