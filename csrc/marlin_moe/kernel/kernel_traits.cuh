// The template parameters of a kernel, as named constants and types.
#pragma once

#include "element_types.cuh"
#include "kernel.h"
#include "marlin_moe/plan/chunk_offsets.h"
#include "marlin_moe/plan/tile_shape.h"

namespace marlin_moe {

using MARLIN_TYPE_NAMESPACE::ScalarType;
using MARLIN_TYPE_NAMESPACE::ScalarTypeId;

template <ScalarTypeId kAId, ScalarTypeId kBId, ScalarTypeId kCId, ScalarTypeId kSId, int kThreads_,
          int kThreadMBlocks, int kThreadNBlocks, int kThreadKBlocks, bool kMBlockSize8,
          int kStages_, int kGroupBlocks_>
struct KernelTraits {
  static constexpr ScalarTypeId kA = kAId;
  static constexpr ScalarTypeId kB = kBId;
  static constexpr ScalarTypeId kS = kSId;
  using Output = ElementType<kCId>;

  static constexpr int kThreads = kThreads_;
  static constexpr int kStages = kStages_;
  static constexpr int kGroupBlocks = kGroupBlocks_;
  static constexpr bool kGrouped = kGroupBlocks > 0;
  static constexpr bool kChannel = kGroupBlocks == -1;
  static constexpr bool kActOrder = kGroupBlocks == 0;

  // Whether the tile has 8 rows. The weights are then the left operand of the product, which yields
  // the transposed tile: 16 columns of C by 8 tokens an instruction.
  static constexpr bool kTransposed = kMBlockSize8;

  static constexpr TileShape kShape = [] {
    TileShape shape{};
    shape.threads = kThreads_;
    shape.rows = kMBlockSize8 ? 8 : 16 * kThreadMBlocks;
    shape.thread_n = 16 * kThreadNBlocks;
    shape.thread_k = 16 * kThreadKBlocks;
    shape.stages = kStages_;
    shape.a_bits = ScalarType::from_id(kAId).size_bits();
    shape.b_bits = ScalarType::from_id(kBId).size_bits();
    shape.s_bits = ScalarType::from_id(kSId).size_bits();
    shape.group_blocks = kGroupBlocks_;
    shape.has_zero_points = kBId == MARLIN_TYPE_NAMESPACE::kU4.id();
    return shape;
  }();

  static constexpr bool kHasZeroPoints = kShape.has_zero_points;
  static constexpr bool kA8 = kShape.a_bits == 8;
  static constexpr int kWarpColumns = kShape.warp_columns();
  static constexpr int kKBlock = kShape.k_block();
  static constexpr int kRows = kShape.rows;
  static constexpr int kThreadN = kShape.thread_n;
  static constexpr int kThreadK = kShape.thread_k;
  static constexpr int kMBlocks = kShape.m_blocks();
  static constexpr int kNWarps = kShape.n_warps();
  static constexpr int kKWarps = kShape.k_warps();
  static constexpr int kGroupsPerStage = kShape.groups_per_stage();
  // 16-byte chunks of packed weights that a lane has of a warp's piece of B: k_block() rows of its
  // columns.
  static constexpr int kBChunks = kShape.b_bits / 4;
  // NVFP4's blocks have a scale each, and each expert one more.
  static constexpr bool kGlobalScale = kSId == MARLIN_TYPE_NAMESPACE::kFE4M3fn.id();
  // Int8 activations have group scales in fixed point, of which each expert may have a unit.
  static constexpr bool kMayHaveGlobalScale = kAId == MARLIN_TYPE_NAMESPACE::kS8.id();
  // Accumulator tiles of four floats per m block: 8 columns each, transposed 16 columns.
  static constexpr int kAccTiles = kTransposed ? 4 : kWarpColumns / 8;

  // 16-bit activations with an output of the other 16-bit type. What scales of that type hold may
  // be out of the activations' range, or finer: they are applied to float sums.
  static constexpr bool kMixed = !kA8 && kCId != kAId;

  static_assert(!kMixed || (kSId == kCId && !kActOrder),
                "an output of another type than the activations' goes with scales of its own type, "
                "per group or per column");
  static_assert(!kA8 || kShape.b_bits == 4 || kAId == kBId,
                "8-bit activations go with 4-bit weights, or with weights of their own type");
  static_assert(!kA8 || !kTransposed, "8-bit activations have tiles of 16 rows or more");
  static_assert(kSId == kCId || kGrouped, "8-bit scales are per group");
  static_assert(!kA8 || !kGlobalScale, "NVFP4's scales go with 16-bit activations");
  static_assert(kShape.k_blocks_per_warp() == 2,
                "a warp multiplies two blocks of B's rows in a stage");
  static_assert(!kMBlockSize8 || kThreadMBlocks == 1, "an 8-row tile is one m block");
};

// Maps the traits to the class that multiplies stages: Multiplier16 or Multiplier8 by the width of
// the activations. Generated files include the header that has theirs.
template <class Traits, bool kA8 = Traits::kA8>
struct MultiplierOf;

// Where a thread stands in its block's work on a tile. Without signs, divisions by powers of two
// are shifts.
template <class Traits>
struct ThreadPosition {
  unsigned thread = threadIdx.x;
  unsigned lane = threadIdx.x % 32;
  unsigned n_warp = (threadIdx.x / 32) % Traits::kNWarps;
  unsigned k_warp = (threadIdx.x / 32) / Traits::kNWarps;

  // Byte offset, in B's part of a stage, of a chunk of the warp's piece for its block of rows
  // `block`.
  __device__ __forceinline__ unsigned b_chunk_offset(unsigned block, unsigned chunk) const {
    return ::marlin_moe::b_chunk_offset<Traits::kThreads / 32, Traits::kBChunks>(thread / 32, block,
                                                                                 chunk);
  }
};

}  // namespace marlin_moe
