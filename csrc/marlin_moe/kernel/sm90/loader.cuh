// The loading warpgroup: keeps the stages full, and tells the others what a tile's rows are.
//
// Weights, scales and zero points of a stage are rows of neighbouring bytes, which one thread has
// the copy engine bring. So it does with A where it is staged, one piece for each stage. Otherwise
// rows of A are gathered by the block's ids, 16 bytes for each thread: eight threads have a row's
// part of a stage, sixteen rows go at a time.
#pragma once

#include <cstdint>

#include "async_copy.cuh"
#include "marlin_moe/kernel/expert_blocks.cuh"
#include "sm90_pipeline.cuh"
#include "sm90_traits.cuh"
#include "tile_walk.cuh"
#include "uniform.cuh"

namespace marlin_moe::sm90 {

template <class Traits>
class Loader {
 public:
  __device__ __forceinline__ Loader(const Params& params, const SharedLayout<Traits>& shared)
      : params_(params), shared_(shared) {}

  // Loads everything that the block works on, while stages and slots become empty.
  __device__ __forceinline__ void run(const TileWalk& walk, ExpertBlocks blocks) {
    const int units = uniform(walk.units());
#pragma unroll 1
    for (int unit = blockIdx.x; unit < units; unit += params_.stripes) {
      const Work work = walk.work(unit);
      const int block = uniform(blocks.find(work.tile.row_block));
      int id[kPasses];
      load_ids(block, id);  // while the expert is loaded, too
      begin_tile(id, uniform(blocks.expert(block)), uniform(work.tile.n_tile));
      if (staged()) a_[0] = block * (params_.tile_stages * kStageChunks);
      const int k_begin = uniform(work.k_begin);
      const int k_end = uniform(work.k_end);
#pragma unroll 1
      for (int k_stage = k_begin; k_stage < k_end; ++k_stage) load_stage(k_stage);
    }
  }

 private:
  static constexpr Sm90Tile kTile = Traits::kTile;
  static constexpr int kChunks = Sm90Tile::kStageRowBytes / 16;  // that a stage has of a row of A
  static constexpr int kLoaders = Sm90Tile::kLoaders;
  static constexpr int kStageChunks = kTile.a_bytes() / 16;
  // Warps of which one thread each has a share of a stage's bulk copies. One thread for all of them
  // is the least work, but slower than the products of many rows of 8-bit activations.
  static constexpr int kShares = Traits::kA8 && Traits::kStagedA ? kLoaders / 32 : 1;
  static constexpr int kRowsPerPass = kLoaders / kChunks;
  // Tiles with as many rows seldom share their weights with another tile.
  static constexpr int kMostRowsOnce = 32;
  static constexpr int kPasses = (Traits::kRows + kRowsPerPass - 1) / kRowsPerPass;
  static_assert(kRowsPerPass == 16, "SharedLayout::init_barriers() counts the rows' first threads");

  __device__ __forceinline__ bool staged() const { return rows_are_staged<Traits>(params_); }

  __device__ __forceinline__ bool in_tile(int pass) const {
    return Traits::kRows % kRowsPerPass == 0 || row_ + pass * kRowsPerPass < Traits::kRows;
  }

  __device__ __forceinline__ bool is_token(int pass) const { return tokens_ >> pass & 1; }

  // The ids of the thread's rows of a block; -1 where it has none.
  __device__ __forceinline__ void load_ids(int block, int (&id)[kPasses]) const {
    const int* ids =
        params_.sorted_token_ids + static_cast<std::int64_t>(block) * Traits::kRows + row_;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      id[pass] = in_tile(pass) ? __ldg(ids + pass * kRowsPerPass) : -1;
    }
  }

  __device__ __forceinline__ void begin_tile(const int (&id)[kPasses], int expert, int n_tile) {
    // A block without an expert is multiplied all the same if the caller did not say that there
    // may be one: with any expert's weights, for no row of C.
    const unsigned num_ids = expert < 0 ? 0 : params_.num_ids;
    expert_ = max(expert, 0);
    const unsigned row_chunks = static_cast<unsigned>(params_.a_stride / (16 * 8 / kTile.a_bits));
    tokens_ = 0;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const bool token = static_cast<unsigned>(id[pass]) < num_ids;
      tokens_ |= token ? 1u << pass : 0;
      a_[pass] = token ? id[pass] / params_.a_row_divisor * row_chunks : 0;
    }
    first_column_ = n_tile * Traits::kThreadN;
    columns_ = min(Traits::kThreadN, params_.n - first_column_);
    // Of the expert's first rows of weights, and the first of the tile's columns.
    const std::int64_t k_block = static_cast<std::int64_t>(expert_) * (params_.k / kTile.block_k());
    b_ = static_cast<const char*>(params_.b) +
         (k_block * row_pieces() + first_column_ / kTile.piece_columns()) * kTile.piece_bytes();
    fill_slot(id);
  }

  __device__ __forceinline__ void load_stage(int k_stage) {
    wait_barrier(shared_.stage_empty(stage_.index), stage_.parity ^ 1);
    const SharedAddress stage = shared_.stage(stage_.index);
    const SharedAddress full = shared_.stage_full(stage_.index);
    if (thread_ == 0) {
      arrive_and_expect(full, stage_bulk_bytes() + (staged() ? kTile.a_bytes() : 0));
    }
    const int share = kShares == 1 ? 0 : static_cast<int>(thread_) / 32;
    if (thread_ % (kLoaders / kShares) == 0) {
      if (staged() && share == kShares - 1) copy_rows(k_stage, stage, full);
      load_weights(k_stage, stage, full, share);
      load_scales(k_stage, stage, full, (share + 1) % kShares);
    }
    if (staged()) {
      arrive(full);
    } else {
      gather_rows(k_stage, stage);
      arrive_after_copies(full);
    }
    stage_.advance();
  }

  __device__ __forceinline__ void copy_rows(int k_stage, SharedAddress stage,
                                            SharedAddress full) const {
    const std::uint64_t chunk = std::uint64_t{a_[0]} + k_stage * kStageChunks;
    copy_bulk(stage, static_cast<const char*>(params_.staged_a) + chunk * 16, kTile.a_bytes(),
              full);
  }

  __device__ __forceinline__ void gather_rows(int k_stage, SharedAddress stage) const {
    const int k_byte = k_stage * Sm90Tile::kStageRowBytes + chunk_ * 16;
    const char* a = static_cast<const char*>(params_.a) + k_byte;
    // Only a stage of 8-bit activations can reach beyond k. There are zeros.
    const bool in_k = !Traits::kA8 || k_byte < params_.k;
    // Chunks are exchanged alike in every pass.
    const SharedAddress to = stage + Sm90Tile::a_chunk_offset(row_, chunk_);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      if (in_tile(pass)) {
        copy_async_16(to + pass * kRowsPerPass * Sm90Tile::kStageRowBytes,
                      a + std::uint64_t{a_[pass]} * 16, in_k && is_token(pass));
      }
    }
  }

  // Pieces of B that cover n.
  __device__ __forceinline__ int row_pieces() const { return params_.n / kTile.piece_columns(); }
  __device__ __forceinline__ unsigned stage_bulk_bytes() const {
    const unsigned columns = columns_;
    return Sm90Tile::kStageBlocks * (columns / kTile.piece_columns() * kTile.piece_bytes()) +
           kTile.scale_rows() * (columns * kTile.s_bits / 8) +
           kTile.zero_point_rows() * (columns / 2);
  }

  // Every kShares-th of a stage's blocks of weights, from the `share`-th on.
  __device__ __forceinline__ void load_weights(int k_stage, SharedAddress stage, SharedAddress full,
                                               int share) const {
    const std::int64_t row_bytes = static_cast<std::int64_t>(row_pieces()) * kTile.piece_bytes();
    const int first = k_stage * Sm90Tile::kStageBlocks;
    // Blocks of the stage beyond k are multiplied by zeros: any weights do there.
    const int last = Traits::kA8 ? params_.k / kTile.block_k() - first - 1 : Sm90Tile::kStageBlocks;
    const char* b = b_ + first * row_bytes;
#pragma unroll
    for (int j = 0; j < Sm90Tile::kStageBlocks; j += kShares) {
      const int i = j + share;
      const SharedAddress to =
          stage + kTile.b_offset() + i * (kTile.pieces() * kTile.piece_bytes());
      const void* from = b + min(i, last) * row_bytes;
      const unsigned bytes = columns_ / kTile.piece_columns() * kTile.piece_bytes();
      if constexpr (Traits::kRows <= kMostRowsOnce) {
        copy_bulk_once(to, from, bytes, full);
      } else {
        copy_bulk(to, from, bytes, full);
      }
    }
  }

  // The same of its rows of scales and zero points.
  __device__ __forceinline__ void load_scales(int k_stage, SharedAddress stage, SharedAddress full,
                                              int share) const {
    const int group =
        Traits::kGrouped ? k_stage * (kTile.stage_k() / 16) / max(Traits::kGroupBlocks, 1) : 0;
    // The stage's last row that the expert has. It stands for those beyond k, too.
    const int last = Traits::kA8 ? params_.num_groups - group - 1 : kTile.scale_rows();
    // The first element of the tile's columns in the first of the stage's rows of scales.
    const std::int64_t first =
        (static_cast<std::int64_t>(expert_) * params_.num_groups + group) * params_.n +
        first_column_;
#pragma unroll
    for (int j = 0; j < kTile.scale_rows(); j += kShares) {
      const int i = j + share;
      if (kTile.scale_rows() % kShares != 0 && i >= kTile.scale_rows()) break;
      const std::int64_t from = first + static_cast<std::int64_t>(min(i, last)) * params_.n;
      copy_bulk(stage + kTile.scales_offset() + i * kTile.scale_row_bytes(),
                static_cast<const char*>(params_.scales) + from * kTile.s_bits / 8,
                columns_ * kTile.s_bits / 8, full);
    }
#pragma unroll
    for (int j = 0; j < kTile.zero_point_rows(); j += kShares) {
      const int i = j + share;
      if (kTile.zero_point_rows() % kShares != 0 && i >= kTile.zero_point_rows()) break;
      const std::int64_t from = first + static_cast<std::int64_t>(min(i, last)) * params_.n;
      copy_bulk(stage + kTile.zero_points_offset() + i * kTile.zero_point_row_bytes(),
                static_cast<const char*>(params_.zero_points) + from / 2, columns_ / 2, full);
    }
  }

  // What the epilogue needs: ids (padding: -1), top-k weights, scales of the rows, and vectors of
  // the tile's columns.
  __device__ __forceinline__ void fill_slot(const int (&id)[kPasses]) {
    wait_barrier(shared_.slot_empty(slot_.index), slot_.parity ^ 1);
    const SharedAddress slot = shared_.slot(slot_.index);
    const SharedAddress full = shared_.slot_full(slot_.index);
    if (chunk_ == 0) {
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        if (!in_tile(pass)) continue;
        const SharedAddress to = slot + (row_ + pass * kRowsPerPass) * 4;
        const bool token = is_token(pass);
        store_shared(to, static_cast<std::uint32_t>(token ? id[pass] : -1));
        if (params_.topk_weights != nullptr && token) {
          copy_async_4(to + kTile.weights_offset(), params_.topk_weights + id[pass]);
        } else {
          store_shared(to + kTile.weights_offset(), 1.0f);
        }
        if (Traits::kA8 && token) {
          copy_async_4(to + kTile.row_scales_offset(),
                       params_.a_scales + id[pass] / params_.a_row_divisor);
        }
      }
      if (thread_ == 0) load_columns(slot, full);
      arrive_after_copies(full);
      arrive(full);
    }
    slot_.advance();
  }

  __device__ __forceinline__ void load_columns(SharedAddress slot, SharedAddress full) const {
    const unsigned bytes = columns_ * 2;
    const std::int64_t from = (static_cast<std::int64_t>(expert_) * params_.n + first_column_) * 2;
    if constexpr (Traits::kGlobalScale) {
      // Beside int8 activations there may be none.
      const bool there = !Traits::kInt8 || params_.global_scales != nullptr;
      store_shared(slot + kTile.global_scale_offset(),
                   there ? __ldg(params_.global_scales + expert_) : 1.0f);
    }
    arrive_and_expect(full, (Traits::kChannel ? bytes : 0) + (params_.bias != nullptr ? bytes : 0));
    if constexpr (Traits::kChannel) {
      copy_bulk(slot + kTile.column_scales_offset(),
                static_cast<const char*>(params_.scales) + from, bytes, full);
    }
    if (params_.bias != nullptr) {
      copy_bulk(slot + kTile.bias_offset(), static_cast<const char*>(params_.bias) + from, bytes,
                full);
    }
  }

  const Params& params_;
  const SharedLayout<Traits>& shared_;
  unsigned thread_ = threadIdx.x - 128 * Sm90Tile::kWarpgroups;
  unsigned chunk_ = thread_ % kChunks;
  unsigned row_ = thread_ / kChunks;  // of a pass
  RingCursor<Traits::kStages> stage_;
  RingCursor<Sm90Tile::kTileSlots> slot_;

  // Of the tile:
  int expert_;
  int first_column_;
  int columns_;  // that are columns of C
  const char* b_;
  unsigned tokens_;  // a bit for each of the thread's rows that is not padding
  // In units of 16 bytes: where the rows begin in A; where A is staged, the first one says where
  // the tile's stages begin.
  unsigned a_[kPasses];
};

}  // namespace marlin_moe::sm90
