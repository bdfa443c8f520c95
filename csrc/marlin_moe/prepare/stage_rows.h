// Copies rows of A in the order in which tiles of the sm90 family take them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "marlin_moe/moe_gemm.h"
#include "marlin_moe/plan/sm90_tile.h"
#include "routed_rows.h"

namespace marlin_moe {

// Arguments of stage_rows(); device pointers, aligned to 16 bytes.
struct StageRowsArgs {
  const void* a;           // [rows, row_bytes]
  std::int64_t a_stride;   // bytes between rows of A, a multiple of 16
  std::int64_t row_bytes;  // of a row of A, a multiple of 16
  RoutedRows rows;
  int max_ids;  // that `out` has a place for; more of *num_tokens_past_padded are left out
  // [blocks, stages, block_size, 128 bytes]: 128 bytes of each row of a block, then the next ones.
  // Within a stage, chunks lie as Sm90Tile::a_chunk_offset() says. Padding, and what is beyond a
  // row's end, is 0.
  void* out;
};

// Pieces of 128 bytes that cover a row.
MARLIN_HOST_DEVICE constexpr std::int64_t row_stages(std::int64_t row_bytes) {
  return (row_bytes + Sm90Tile::kStageRowBytes - 1) / Sm90Tile::kStageRowBytes;
}

// Bytes of `out` for `ids` entries of sorted_token_ids.
constexpr std::size_t staged_bytes(std::int64_t ids, std::int64_t row_bytes) {
  return static_cast<std::size_t>(ids * row_stages(row_bytes) * Sm90Tile::kStageRowBytes);
}

// Launches the copy on `stream`. Rows of blocks without an expert are left as they are.
Status stage_rows(const StageRowsArgs& args, cudaStream_t stream);

}  // namespace marlin_moe
