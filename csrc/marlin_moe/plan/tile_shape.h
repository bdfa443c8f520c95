// The shape of one thread block's tile, and where everything lies in its shared memory.
//
// Plain constexpr C++: the kernel, the launcher and the tests compute the same numbers from it.
#pragma once

#include "host_device.h"

namespace marlin_moe {

// Template parameters of a kernel that decide its tile, in elements.
struct TileShape {
  int threads;
  int rows;      // of A and C: 8, 16, 32, 48 or 64
  int thread_n;  // columns of B and C
  int thread_k;  // depth of a pipeline stage
  int stages;
  int a_bits;
  int b_bits;
  int s_bits;
  int group_blocks;  // 16-row blocks per scale; <= 0: no scales in the pipeline
  bool has_zero_points;

  // A warp covers 64 columns, with 8-bit A 32; further warps split the stage along k.
  MARLIN_HOST_DEVICE constexpr int warp_columns() const { return a_bits == 8 ? 32 : 64; }
  MARLIN_HOST_DEVICE constexpr int n_warps() const { return thread_n / warp_columns(); }
  MARLIN_HOST_DEVICE constexpr int k_warps() const { return threads / 32 / n_warps(); }
  // Rows of B that one tensor-core product covers, and how many such blocks a warp has in a stage.
  MARLIN_HOST_DEVICE constexpr int k_block() const { return a_bits == 8 ? 32 : 16; }
  MARLIN_HOST_DEVICE constexpr int k_blocks_per_warp() const {
    return thread_k / k_block() / k_warps();
  }
  MARLIN_HOST_DEVICE constexpr int m_blocks() const { return (rows + 15) / 16; }
  MARLIN_HOST_DEVICE constexpr int rows_per_m_block() const { return rows < 16 ? rows : 16; }

  // Scale rows that one stage touches.
  MARLIN_HOST_DEVICE constexpr int groups_per_stage() const {
    if (group_blocks <= 0) return 0;
    const int stage_blocks = thread_k / 16;
    return stage_blocks > group_blocks ? stage_blocks / group_blocks : 1;
  }

  MARLIN_HOST_DEVICE constexpr int a_stage_bytes() const { return rows * thread_k * a_bits / 8; }
  MARLIN_HOST_DEVICE constexpr int b_stage_bytes() const {
    return thread_k * thread_n * b_bits / 8;
  }
  MARLIN_HOST_DEVICE constexpr int s_stage_bytes() const {
    return groups_per_stage() * thread_n * s_bits / 8;
  }
  MARLIN_HOST_DEVICE constexpr int zp_stage_bytes() const {
    return has_zero_points ? groups_per_stage() * thread_n * b_bits / 8 : 0;
  }
  MARLIN_HOST_DEVICE constexpr int stage_bytes() const {
    return a_stage_bytes() + b_stage_bytes() + s_stage_bytes() + zp_stage_bytes();
  }

  // Row stride, in floats, of the buffer that sums the k warps' partial results. The 8 extra floats
  // put the four rows that a half-warp writes into different banks.
  MARLIN_HOST_DEVICE constexpr int reduction_stride() const { return thread_n + 8; }
  MARLIN_HOST_DEVICE constexpr int reduction_bytes() const {
    return k_warps() * rows_per_m_block() * reduction_stride() * 4;
  }

  // Offsets of a stage's parts, in bytes from the stage's start.
  MARLIN_HOST_DEVICE constexpr int a_offset() const { return 0; }
  MARLIN_HOST_DEVICE constexpr int b_offset() const { return a_stage_bytes(); }
  MARLIN_HOST_DEVICE constexpr int s_offset() const { return b_offset() + b_stage_bytes(); }
  MARLIN_HOST_DEVICE constexpr int zp_offset() const { return s_offset() + s_stage_bytes(); }

  // Ids and factors of the rows lie behind the pipeline, whose memory the reduction buffer shares.
  MARLIN_HOST_DEVICE constexpr int ids_offset() const {
    const int pipeline = stages * stage_bytes();
    return pipeline > reduction_bytes() ? pipeline : reduction_bytes();
  }
  MARLIN_HOST_DEVICE constexpr int row_weights_offset() const { return ids_offset() + rows * 4; }
  // Scales of 8-bit A's rows.
  MARLIN_HOST_DEVICE constexpr int row_scales_offset() const {
    return row_weights_offset() + rows * 4;
  }
  // Dynamic shared memory of a block, in bytes.
  MARLIN_HOST_DEVICE constexpr int shared_memory_bytes() const {
    return row_scales_offset() + (a_bits == 8 ? rows * 4 : 0);
  }
  // Floats of one tile's partial sums.
  MARLIN_HOST_DEVICE constexpr int tile_elements() const { return rows * thread_n; }
};

}  // namespace marlin_moe
