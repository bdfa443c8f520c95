// Fills the stages of the shared-memory pipeline from global memory.
//
// A stage holds `thread_k` columns of the block's rows of A, the thread_k × thread_n tile of B, and
// the scales and zero points that belong to it.
#pragma once

#include <cstdint>

#include "kernel_traits.cuh"
#include "marlin_moe/plan/chunk_offsets.h"
#include "ptx.cuh"
#include "tile_rows.cuh"

namespace marlin_moe {

template <class Traits>
class StageLoader {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  __device__ __forceinline__ StageLoader(const Params& params, SharedAddress shared)
      : params_(params), shared_(shared) {}

  // Points the loader at stage `k_tile` of a tile: its rows, an expert's weights, and the columns
  // from n_tile * thread_n on.
  __device__ __forceinline__ void begin_tile(const TileRows<Traits>& rows, int expert, int n_tile,
                                             int k_tile) {
    begin_a(rows, k_tile);
    begin_b(expert, n_tile, k_tile);
    if constexpr (Traits::kGrouped) begin_scales(expert, n_tile);
  }

  // Issues the copies of stage `k_tile` into the slot that begins at byte `slot`. Each call is for
  // the stage that follows the last call's.
  __device__ __forceinline__ void issue(int k_tile, unsigned slot) {
    const SharedAddress stage = shared_ + slot;
    for_each_copy(k_tile, stage, [](Copy16& copy, SharedAddress to, const void* from, bool valid) {
      copy.issue(to, from, valid);
    });
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) a_[pass] += Traits::kThreadK * kABytes;
    b_ += b_row_bytes() * (Traits::kThreadK / Traits::kKBlock);
#if MARLIN_SM75_PATH
    issued_ = true;
    issued_stage_ = stage;
#endif
  }

  // Stores what the last issue() loaded, where copies are not asynchronous. To be called before the
  // next issue(), with as much work as possible between the two.
  __device__ __forceinline__ void land() {
#if MARLIN_SM75_PATH
    if (!issued_) return;
    issued_ = false;
    for_each_copy(0, issued_stage_,
                  [](const Copy16& copy, SharedAddress to, const void*, bool) { copy.land(to); });
#endif
  }

 private:
  static constexpr TileShape kShape = Traits::kShape;
  static constexpr int kABytes = kShape.a_bits / 8;
  static constexpr int kChunkElements = 16 / kABytes;
  static constexpr int kChunksPerRow = Traits::kThreadK / kChunkElements;
  static constexpr int kRowsPerPass = Traits::kThreads / kChunksPerRow;
  static constexpr int kPasses = (Traits::kRows + kRowsPerPass - 1) / kRowsPerPass;
  static constexpr bool kFullPasses = Traits::kRows % kRowsPerPass == 0;
  static_assert(kRowsPerPass % 8 == 0, "the XOR must not change from pass to pass");

  // Calls `visit` with each of the thread's copies of stage `k_tile`, and where it goes and comes
  // from.
  template <class Visit>
  __device__ __forceinline__ void for_each_copy(int k_tile, SharedAddress stage, Visit visit) {
    visit_a(stage, visit);
    visit_b(stage, visit);
    if constexpr (Traits::kGrouped) visit_scales(k_tile, stage, visit);
  }

  // Nothing is read through the address of an invalid chunk, wherever it points.
  __device__ __forceinline__ void begin_a(const TileRows<Traits>& rows, int k_tile) {
    const unsigned column = position_.thread % kChunksPerRow * kChunkElements;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const unsigned row = position_.thread / kChunksPerRow + pass * kRowsPerPass;
      const int id = kFullPasses || row < Traits::kRows ? rows.id(row) : params_.num_ids;
      a_valid_[pass] = id < params_.num_ids;
      const std::int64_t a_row = id / params_.a_row_divisor;
      a_[pass] = static_cast<const char*>(params_.a) +
                 (a_row * params_.a_stride + k_tile * Traits::kThreadK + column) * kABytes;
    }
  }

  template <class Visit>
  __device__ __forceinline__ void visit_a(SharedAddress stage, Visit visit) {
    const unsigned first_row = position_.thread / kChunksPerRow;
    const SharedAddress to =
        stage + kShape.a_offset() +
        a_chunk_offset<kChunksPerRow>(first_row, position_.thread % kChunksPerRow);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      if (kFullPasses || first_row + pass * kRowsPerPass < Traits::kRows) {
        visit(a_copies_[pass], to + pass * kRowsPerPass * kChunksPerRow * 16, a_[pass],
              a_valid_[pass]);
      }
    }
  }

  // B is packed in pieces, of 16 rows × 64 columns or, for 8-bit A, of 32 × 32. The warp that will
  // multiply a piece copies it, 32 chunks at a time.
  static constexpr int kBChunks = Traits::kBChunks;
  static constexpr unsigned kPieceBytes = 32 * kBChunks * 16;

  // Bytes of a row of pieces.
  __device__ __forceinline__ unsigned b_row_bytes() const {
    return static_cast<unsigned>(params_.n) * (kPieceBytes / Traits::kWarpColumns);
  }

  __device__ __forceinline__ void begin_b(int expert, int n_tile, int k_tile) {
    const unsigned piece = n_tile * Traits::kNWarps + position_.n_warp;
    const unsigned k_block = expert * (static_cast<unsigned>(params_.k) / Traits::kKBlock) +
                             k_tile * (Traits::kThreadK / Traits::kKBlock) + 2 * position_.k_warp;
    b_valid_ = piece * Traits::kWarpColumns < static_cast<unsigned>(params_.n);
    b_ = static_cast<const char*>(params_.b) + std::uint64_t{k_block} * b_row_bytes() +
         (piece * kPieceBytes + position_.lane * 16);
  }

  template <class Visit>
  __device__ __forceinline__ void visit_b(SharedAddress stage, Visit visit) {
    const SharedAddress to = stage + kShape.b_offset();
#pragma unroll
    for (int sub = 0; sub < 2; ++sub) {
#pragma unroll
      for (int i = 0; i < kBChunks; ++i) {
        visit(b_copies_[sub][i], to + position_.b_chunk_offset(sub, 32 * i + position_.lane),
              b_ + sub * b_row_bytes() + 32 * 16 * i, b_valid_);
      }
    }
  }

  static constexpr int kScaleBytes = kShape.s_bits / 8;
  static constexpr int kScaleChunks = Traits::kThreadN * kScaleBytes / 16;
  static constexpr int kZeroChunks = Traits::kThreadN / 32;
  static_assert(Traits::kGroupsPerStage * kScaleChunks <= Traits::kThreads,
                "one copy per thread brings a stage's scales");

  // Bytes of a group's scales and of its zero points.
  __device__ __forceinline__ unsigned s_row_bytes() const {
    return static_cast<unsigned>(params_.n) * kScaleBytes;
  }
  __device__ __forceinline__ unsigned zp_row_bytes() const {
    return static_cast<unsigned>(params_.n) / 2;
  }

  __device__ __forceinline__ void begin_scales(int expert, int n_tile) {
    const unsigned first_group = expert * params_.num_groups;
    const unsigned column = n_tile * Traits::kThreadN;
    const unsigned s_group = first_group + position_.thread / kScaleChunks;
    const unsigned s_column = column + position_.thread % kScaleChunks * (16 / kScaleBytes);
    s_valid_ = s_column < static_cast<unsigned>(params_.n);
    s_ = static_cast<const char*>(params_.scales) + std::uint64_t{s_group} * s_row_bytes() +
         s_column * kScaleBytes;
    if constexpr (Traits::kHasZeroPoints) {
      const unsigned zp_group = first_group + position_.thread / kZeroChunks;
      const unsigned zp_column = column + position_.thread % kZeroChunks * 32;
      zp_valid_ = zp_column < static_cast<unsigned>(params_.n);
      zp_ = static_cast<const char*>(params_.zero_points) +
            std::uint64_t{zp_group} * zp_row_bytes() + zp_column / 2;
    }
  }

  template <class Visit>
  __device__ __forceinline__ void visit_scales(int k_tile, SharedAddress stage, Visit visit) {
    constexpr int kStageBlocks = Traits::kThreadK / 16;
    const unsigned group = static_cast<unsigned>(k_tile) * kStageBlocks / Traits::kGroupBlocks;
    if (position_.thread < Traits::kGroupsPerStage * kScaleChunks) {
      visit(s_copy_, stage + kShape.s_offset() + position_.thread * 16,
            s_ + std::uint64_t{group} * s_row_bytes(), s_valid_);
    }
    if constexpr (Traits::kHasZeroPoints) {
      if (position_.thread < Traits::kGroupsPerStage * kZeroChunks) {
        visit(zp_copy_, stage + kShape.zp_offset() + position_.thread * 16,
              zp_ + std::uint64_t{group} * zp_row_bytes(), zp_valid_);
      }
    }
  }

  const Params& params_;
  SharedAddress shared_;
  ThreadPosition<Traits> position_;
  const char* a_[kPasses];
  bool a_valid_[kPasses];
  const char* b_;
  bool b_valid_;
  const char* s_;
  bool s_valid_;
  const char* zp_;
  bool zp_valid_;
  Copy16 a_copies_[kPasses];
  Copy16 b_copies_[2][kBChunks];
  Copy16 s_copy_;
  Copy16 zp_copy_;
#if MARLIN_SM75_PATH
  bool issued_ = false;
  SharedAddress issued_stage_;
#endif
};

}  // namespace marlin_moe
