// The template parameters of a kernel, as named constants and types.
#pragma once

#include "dequant.cuh"
#include "element_types.cuh"
#include "kernel.h"
#include "tile_shape.h"

namespace marlin_moe {

using MARLIN_TYPE_NAMESPACE::ScalarType;
using MARLIN_TYPE_NAMESPACE::ScalarTypeId;

template <ScalarTypeId kAId, ScalarTypeId kBId, ScalarTypeId kCId, ScalarTypeId kSId, int kThreads_,
          int kThreadMBlocks, int kThreadNBlocks, int kThreadKBlocks, bool kMBlockSize8, int kStages_,
          int kGroupBlocks_>
struct KernelTraits {
  using Element = ElementType<kAId>;
  using Output = ElementType<kCId>;
  using Weight = WeightDecoder<kBId, kAId>;
  using Scale = ScaleDecoder<kSId, kAId>;

  static constexpr int kThreads = kThreads_;
  static constexpr int kStages = kStages_;
  static constexpr int kGroupBlocks = kGroupBlocks_;
  static constexpr bool kGrouped = kGroupBlocks > 0;
  static constexpr bool kChannel = kGroupBlocks == -1;
  static constexpr bool kActOrder = kGroupBlocks == 0;

  // Whether the tile has 8 rows. The weights are then the left operand of the product, which yields
  // the transposed tile: 16 columns of C by 8 tokens an instruction.
  static constexpr bool kTransposed = kMBlockSize8;

  static constexpr TileShape kShape{kThreads,
                                    kMBlockSize8 ? 8 : 16 * kThreadMBlocks,
                                    16 * kThreadNBlocks,
                                    16 * kThreadKBlocks,
                                    kStages,
                                    ScalarType::from_id(kAId).size_bits(),
                                    ScalarType::from_id(kBId).size_bits(),
                                    ScalarType::from_id(kSId).size_bits(),
                                    kGroupBlocks,
                                    Weight::kHasZeroPoints};

  static constexpr int kRows = kShape.rows;
  static constexpr int kThreadN = kShape.thread_n;
  static constexpr int kThreadK = kShape.thread_k;
  static constexpr int kMBlocks = kShape.m_blocks();
  static constexpr int kNWarps = kShape.n_warps();
  static constexpr int kKWarps = kShape.k_warps();
  static constexpr int kGroupsPerStage = kShape.groups_per_stage();
  // Words of packed weights that a lane has of a 16×16 tile.
  static constexpr int kWordsPerTile = kShape.b_bits / 4;
  // NVFP4's blocks have a scale each, and each expert one more.
  static constexpr bool kGlobalScale = kSId == MARLIN_TYPE_NAMESPACE::kFE4M3fn.id();
  // Accumulator tiles of four floats per m block: 8 columns each, transposed 16 columns.
  static constexpr int kAccTiles = kTransposed ? 4 : 8;

  static_assert(kCId == kAId, "16-bit activations and the output have one type");
  static_assert(kSId == kCId || kGrouped, "8-bit scales are per group");
  static_assert(kShape.k_blocks_per_warp() == 2, "a warp multiplies two 16-row blocks in a stage");
  static_assert(!kMBlockSize8 || kThreadMBlocks == 1, "an 8-row tile is one m block");
};

// Where a thread stands in its block's work on a tile.
template <class Traits>
struct ThreadPosition {
  int thread = threadIdx.x;
  int lane = threadIdx.x % 32;
  int n_warp = (threadIdx.x / 32) % Traits::kNWarps;
  int k_warp = (threadIdx.x / 32) / Traits::kNWarps;
};

}  // namespace marlin_moe
