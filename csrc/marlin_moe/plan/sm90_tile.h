// The shape of a tile of the sm90 family, and where everything lies in its shared memory.
//
// Plain constexpr C++: the kernel, the launcher and the tests compute the same numbers from it.
#pragma once

#include <cstdint>

#include "marlin_moe/plan/host_device.h"
#include "marlin_moe/plan/part_count.h"

namespace marlin_moe {

// Template parameters of a kernel that decide its tile, in elements.
//
// Two warpgroups multiply, each half of the tile's columns; a third one loads. A stage has 128
// bytes of each row of A: it is 64 rows of B deep with 16-bit activations, 128 with 8-bit ones.
struct Sm90Tile {
  int rows;           // of A and C: 8 to 256 in steps of 8
  int thread_n;       // columns of B and C: 128, 256 or 512
  int blocks_per_sm;  // 1 or 2
  int a_bits;
  int b_bits;
  int s_bits;
  int group_blocks;  // 16 rows of B each, per scale; <= 0: one scale per column
  bool has_zero_points;

  static constexpr int kWarpgroups = 2;  // that multiply
  static constexpr int kWarps = 4 * kWarpgroups;
  static constexpr int kLoaders = 128;  // threads that load
  static constexpr int kStageRowBytes = 128;
  static constexpr int kStageBlocks = 4;  // of B in a stage, each what an instruction multiplies
  static constexpr int kMaxStages = 8;
  // Tiles whose ids, weights, scales and bias are in shared memory: the one that is written to C,
  // and the one that is multiplied or loaded meanwhile.
  static constexpr int kTileSlots = 2;
  // Tokens that a warp writes to C at a time, and columns of C that it has.
  static constexpr int kStagingRows = 16;

  // Of a multiprocessor, and what the system takes for each block (CUDA programming guide, 9.0).
  static constexpr int kSharedBytes = 228 * 1024;
  static constexpr int kReservedBytes = 1024;
  // Swizzled rows have to begin at multiples of it.
  static constexpr int kAlignment = 1024;

  MARLIN_HOST_DEVICE constexpr int threads() const { return 128 * kWarpgroups + kLoaders; }
  MARLIN_HOST_DEVICE constexpr int warpgroup_columns() const { return thread_n / kWarpgroups; }
  // wgmma instructions that a warpgroup issues for each block of B: 64 columns each.
  MARLIN_HOST_DEVICE constexpr int products() const { return warpgroup_columns() / 64; }
  MARLIN_HOST_DEVICE constexpr int warp_columns() const { return thread_n / kWarps; }
  // Of them, with 8-bit activations: how many are summed together over the rows of a scale, in sums
  // beside those of the tile. As many as registers allow.
  MARLIN_HOST_DEVICE constexpr int batch_products() const {
    int count = products();
    while (count > 1 && sums(count) > kMostSums) count /= 2;
    return count;
  }
  MARLIN_HOST_DEVICE constexpr bool registers_suffice() const {
    return sums(a_bits == 8 ? batch_products() : 0) <= kMostSums;
  }

  // Rows of B in a stage, and in one of its blocks.
  MARLIN_HOST_DEVICE constexpr int stage_k() const { return kStageRowBytes * 8 / a_bits; }
  MARLIN_HOST_DEVICE constexpr int block_k() const { return stage_k() / kStageBlocks; }
  // Packed pieces of block_k() rows, 1,024 weights each, that lie next to each other in a tile.
  MARLIN_HOST_DEVICE constexpr int piece_columns() const { return 1024 / block_k(); }
  MARLIN_HOST_DEVICE constexpr int pieces() const { return thread_n / piece_columns(); }
  MARLIN_HOST_DEVICE constexpr int piece_bytes() const { return 1024 * b_bits / 8; }

  // Rows of scales and of zero points in a stage.
  MARLIN_HOST_DEVICE constexpr int scale_rows() const {
    if (group_blocks <= 0) return 0;
    return 16 * group_blocks < stage_k() ? stage_k() / (16 * group_blocks) : 1;
  }
  MARLIN_HOST_DEVICE constexpr int zero_point_rows() const {
    if (!has_zero_points) return 0;
    return group_blocks <= 0 ? 1 : scale_rows();
  }
  MARLIN_HOST_DEVICE constexpr int scale_row_bytes() const { return thread_n * s_bits / 8; }
  MARLIN_HOST_DEVICE constexpr int zero_point_row_bytes() const { return thread_n / 2; }

  // Where 16 bytes of a row of A lie in a stage: chunks of a row are exchanged by XOR, as wgmma
  // expects (wgmma.cuh).
  static MARLIN_HOST_DEVICE constexpr int a_chunk_offset(int row, int chunk) {
    return row * kStageRowBytes + (chunk ^ row % 8) * 16;
  }
  // Whether kernels of tiles with as many rows take A staged (prepare/stage_rows.h). Those with
  // fewer wait for weights, not for A.
  static MARLIN_HOST_DEVICE constexpr bool takes_staged_a(int rows) { return rows >= 96; }
  // Rows of A in a stage.
  MARLIN_HOST_DEVICE constexpr int a_bytes() const { return rows * kStageRowBytes; }

  // A stage: rows of A, pieces of B, scales, zero points.
  MARLIN_HOST_DEVICE constexpr int b_offset() const { return a_bytes(); }
  MARLIN_HOST_DEVICE constexpr int scales_offset() const {
    return b_offset() + kStageBlocks * pieces() * piece_bytes();
  }
  MARLIN_HOST_DEVICE constexpr int zero_points_offset() const {
    return scales_offset() + scale_rows() * scale_row_bytes();
  }
  MARLIN_HOST_DEVICE constexpr int stage_bytes() const {
    return align(zero_points_offset() + zero_point_rows() * zero_point_row_bytes(), kAlignment);
  }

  // Rows of C on their way out of a warp.
  MARLIN_HOST_DEVICE constexpr int staging_bytes() const {
    return kWarps * kStagingRows * warp_columns() * 2;
  }

  // A tile's slot: ids, top-k weights, scales of 8-bit rows of A, scales of the columns, their
  // bias, the global scale.
  MARLIN_HOST_DEVICE constexpr int weights_offset() const { return rows * 4; }
  MARLIN_HOST_DEVICE constexpr int row_scales_offset() const { return rows * 8; }
  MARLIN_HOST_DEVICE constexpr int column_scales_offset() const {
    return rows * (a_bits == 8 ? 12 : 8);
  }
  MARLIN_HOST_DEVICE constexpr int bias_offset() const {
    return column_scales_offset() + (group_blocks <= 0 ? thread_n * 2 : 0);
  }
  MARLIN_HOST_DEVICE constexpr int global_scale_offset() const {
    return bias_offset() + thread_n * 2;
  }
  MARLIN_HOST_DEVICE constexpr int slot_bytes() const { return global_scale_offset() + 16; }

  // Barriers: full and empty of each stage and of each tile's slot. Behind them a word for each
  // warpgroup that sums parts of a tile.
  MARLIN_HOST_DEVICE constexpr int barrier_bytes(int stages) const {
    return 16 * (stages + kTileSlots) + 4 * kWarpgroups;
  }
  MARLIN_HOST_DEVICE constexpr int shared_bytes(int stages) const {
    return kAlignment + stages * stage_bytes() + staging_bytes() + kTileSlots * slot_bytes() +
           barrier_bytes(stages);
  }
  // How many stages fit: 0 if not even two do.
  MARLIN_HOST_DEVICE constexpr int stages() const {
    const int limit = kSharedBytes / blocks_per_sm - kReservedBytes;
    int stages = kMaxStages;
    while (stages > 0 && shared_bytes(stages) > limit) --stages;
    return stages < 2 ? 0 : stages;
  }

  // Registers of a thread of either kind. A block gets its registers when it starts, as many for
  // each of its threads, in units of 8.
  MARLIN_HOST_DEVICE constexpr int loader_registers() const { return rows <= 80 ? 24 : 40; }
  MARLIN_HOST_DEVICE constexpr int multiplier_registers() const {
    const int at_start = 65536 / blocks_per_sm / threads() / 8 * 8;
    const int left = at_start * threads() - loader_registers() * kLoaders;
    return left / (128 * kWarpgroups) / 8 * 8;
  }

  // Workspace of a grid of `blocks` thread blocks that may cut tiles along k: floats of partial
  // sums, one tile for each block, and counters of parts, one for each warpgroup of a tile. Tiles
  // are cut if they are no more than half of the blocks (tile_walk.cuh).
  constexpr std::int64_t partial_floats(int blocks) const {
    return static_cast<std::int64_t>(blocks) * rows * thread_n;
  }
  static constexpr std::int64_t counter_bytes(int blocks) {
    return static_cast<std::int64_t>(blocks / 2) * kWarpgroups * sizeof(PartCount::Word);
  }

 private:
  static constexpr int kMostSums = 192;  // of a thread
  MARLIN_HOST_DEVICE constexpr int sums(int batch) const { return rows / 2 * (products() + batch); }
  static MARLIN_HOST_DEVICE constexpr int align(int value, int unit) {
    return (value + unit - 1) / unit * unit;
  }
};

}  // namespace marlin_moe
