// Fills the stages of the shared-memory pipeline from global memory.
//
// A stage holds `thread_k` columns of the block's rows of A, the thread_k × thread_n tile of B, and
// the scales and zero points that belong to it.
#pragma once

#include <cstdint>

#include "kernel_traits.cuh"
#include "ptx.cuh"

namespace marlin_moe {

// Byte offset of a 16-byte chunk in A's part of a stage. Rows lie one after another; a row's chunks
// are exchanged by XOR with its number among the rows that share 128 bytes of banks, so that eight
// lanes that read one chunk of eight rows, and eight lanes that write the chunks of one row, meet
// eight different groups of banks.
template <int kChunksPerRow>
__device__ __forceinline__ int a_chunk_offset(int row, int chunk) {
  static_assert(kChunksPerRow == 4 || kChunksPerRow % 8 == 0,
                "rows of 64 bytes, or of 128 times n");
  const int turn = kChunksPerRow == 4 ? row / 2 % 4 : row % 8;
  return (row * kChunksPerRow + (chunk ^ turn)) * 16;
}

// Byte offset of a 16-byte chunk of a warp's piece of B: the piece's chunk `chunk` of its block
// `sub`. Of two chunks per lane, those of lanes 4 to 7 (mod 8) change places, so that eight lanes
// that read one chunk each meet eight different groups of banks.
template <class Traits>
__device__ __forceinline__ int b_chunk_offset(const ThreadPosition<Traits>& position, int sub,
                                              int chunk) {
  constexpr int kChunks = Traits::kBChunks;
  if (kChunks == 2) chunk ^= chunk / 8 % 2;
  const int warp = position.thread / 32;
  return ((sub * (Traits::kThreads / 32) + warp) * (32 * kChunks) + chunk) * 16;
}

template <class Traits>
class StageLoader {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  __device__ __forceinline__ StageLoader(const Params& params, char* shared)
      : params_(params), shared_(shared) {}

  // Points the loader at a tile: the rows whose ids lie in shared memory at `ids`, an expert's
  // weights, and the columns from n_tile * thread_n on.
  __device__ __forceinline__ void begin_tile(const int* ids, int expert, int n_tile, int k_tile) {
    begin_a(ids);
    begin_b(expert, n_tile, k_tile);
    if constexpr (Traits::kGrouped) begin_scales(expert, n_tile);
  }

  // Issues the copies of stage `k_tile` into slot `slot`. Stages are issued in ascending order.
  __device__ __forceinline__ void issue(int k_tile, int slot) {
    char* stage = shared_ + slot * kShape.stage_bytes();
    issue_a(k_tile, stage);
    issue_b(stage);
    if constexpr (Traits::kGrouped) issue_scales(k_tile, stage);
  }

 private:
  static constexpr TileShape kShape = Traits::kShape;
  static constexpr int kABytes = kShape.a_bits / 8;
  static constexpr int kChunkElements = 16 / kABytes;
  static constexpr int kChunksPerRow = Traits::kThreadK / kChunkElements;
  static constexpr int kRowsPerPass = Traits::kThreads / kChunksPerRow;
  static constexpr int kPasses = (Traits::kRows + kRowsPerPass - 1) / kRowsPerPass;
  static_assert(kRowsPerPass % 8 == 0, "the XOR must not change from pass to pass");

  __device__ __forceinline__ void begin_a(const int* ids) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = position_.thread / kChunksPerRow + pass * kRowsPerPass;
      const int id = row < Traits::kRows ? ids[row] : params_.num_ids;
      a_valid_[pass] = id < params_.num_ids;
      const std::int64_t a_row = a_valid_[pass] ? id / params_.a_row_divisor : 0;
      a_[pass] =
          static_cast<const char*>(params_.a) +
          (a_row * params_.a_stride + position_.thread % kChunksPerRow * kChunkElements) * kABytes;
    }
  }

  __device__ __forceinline__ void issue_a(int k_tile, char* stage) {
    const int first_row = position_.thread / kChunksPerRow;
    char* to = stage + kShape.a_offset() +
               a_chunk_offset<kChunksPerRow>(first_row, position_.thread % kChunksPerRow);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      if (Traits::kRows % kRowsPerPass == 0 || first_row + pass * kRowsPerPass < Traits::kRows) {
        copy_async_16(to + pass * kRowsPerPass * kChunksPerRow * 16,
                      a_[pass] + static_cast<std::int64_t>(k_tile) * (Traits::kThreadK * kABytes),
                      a_valid_[pass]);
      }
    }
  }

  // B is packed in pieces, of 16 rows × 64 columns or, for 8-bit A, of 32 × 32. The warp that will
  // multiply a piece copies it, 32 chunks at a time.
  static constexpr int kBChunks = Traits::kBChunks;

  __device__ __forceinline__ void begin_b(int expert, int n_tile, int k_tile) {
    const int n_pieces = params_.n / Traits::kWarpColumns;
    const int piece = n_tile * Traits::kNWarps + position_.n_warp;
    const std::int64_t k_block = static_cast<std::int64_t>(expert) * (params_.k / Traits::kKBlock) +
                                 k_tile * (Traits::kThreadK / Traits::kKBlock) +
                                 2 * position_.k_warp;
    b_valid_ = piece < n_pieces;
    b_ = static_cast<const int4*>(params_.b) +
         (k_block * n_pieces + (b_valid_ ? piece : 0)) * (32 * kBChunks) + position_.lane;
  }

  __device__ __forceinline__ void issue_b(char* stage) {
    const int row_stride = params_.n / Traits::kWarpColumns * (32 * kBChunks);  // in chunks
    char* to = stage + kShape.b_offset();
#pragma unroll
    for (int sub = 0; sub < 2; ++sub) {
#pragma unroll
      for (int i = 0; i < kBChunks; ++i) {
        copy_async_16(to + b_chunk_offset<Traits>(position_, sub, 32 * i + position_.lane),
                      b_ + sub * row_stride + 32 * i, b_valid_);
      }
    }
    b_ += static_cast<std::int64_t>(row_stride) * (Traits::kThreadK / Traits::kKBlock);
  }

  static constexpr int kScaleBytes = kShape.s_bits / 8;
  static constexpr int kScaleChunks = Traits::kThreadN * kScaleBytes / 16;
  static constexpr int kZeroChunks = Traits::kThreadN / 32;
  static_assert(Traits::kGroupsPerStage * kScaleChunks <= Traits::kThreads,
                "one copy per thread brings a stage's scales");

  __device__ __forceinline__ void begin_scales(int expert, int n_tile) {
    const std::int64_t first_group = static_cast<std::int64_t>(expert) * params_.num_groups;
    const int column = n_tile * Traits::kThreadN;
    const int scale_column = column + position_.thread % kScaleChunks * (16 / kScaleBytes);
    s_valid_ = scale_column < params_.n;
    s_ = static_cast<const char*>(params_.scales) +
         (first_group * params_.n + (s_valid_ ? scale_column : 0)) * kScaleBytes;
    if constexpr (Traits::kHasZeroPoints) {
      const int zero_column = column + position_.thread % kZeroChunks * 32;
      zp_valid_ = zero_column < params_.n;
      zp_ = static_cast<const char*>(params_.zero_points) +
            (first_group * params_.n + (zp_valid_ ? zero_column : 0)) / 2;
    }
  }

  __device__ __forceinline__ void issue_scales(int k_tile, char* stage) {
    constexpr int kStageBlocks = Traits::kThreadK / 16;
    const int first_group = k_tile * kStageBlocks / Traits::kGroupBlocks;
    if (position_.thread < Traits::kGroupsPerStage * kScaleChunks) {
      const int group = first_group + position_.thread / kScaleChunks;
      copy_async_16(stage + kShape.s_offset() + position_.thread * 16,
                    s_ + static_cast<std::int64_t>(group) * params_.n * kScaleBytes, s_valid_);
    }
    if constexpr (Traits::kHasZeroPoints) {
      if (position_.thread < Traits::kGroupsPerStage * kZeroChunks) {
        const int group = first_group + position_.thread / kZeroChunks;
        copy_async_16(stage + kShape.zp_offset() + position_.thread * 16,
                      zp_ + static_cast<std::int64_t>(group) * params_.n / 2, zp_valid_);
      }
    }
  }

  const Params& params_;
  char* shared_;
  ThreadPosition<Traits> position_;
  const char* a_[kPasses];
  bool a_valid_[kPasses];
  const int4* b_;
  bool b_valid_;
  const char* s_;
  bool s_valid_;
  const char* zp_;
  bool zp_valid_;
};

}  // namespace marlin_moe
