// The template parameters of a kernel of the sm90 family, as named constants and types.
#pragma once

#include "marlin_moe/kernel/element_types.cuh"
#include "marlin_moe/kernel/kernel.h"
#include "marlin_moe/plan/sm90_tile.h"

namespace marlin_moe::sm90 {

using MARLIN_TYPE_NAMESPACE::ScalarType;
using MARLIN_TYPE_NAMESPACE::ScalarTypeId;
using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

template <ScalarTypeId kAId, ScalarTypeId kBId, ScalarTypeId kCId, ScalarTypeId kSId, int kRows_,
          int kThreadN_, int kBlocksPerSm, int kStages_, int kGroupBlocks_>
struct Traits {
  static constexpr ScalarTypeId kA = kAId;
  static constexpr ScalarTypeId kB = kBId;
  static constexpr ScalarTypeId kS = kSId;
  using Output = ElementType<kCId>;

  static constexpr bool kBFloat16 = kAId == MARLIN_TYPE_NAMESPACE::kBFloat16.id();
  static constexpr bool kInt8 = kAId == MARLIN_TYPE_NAMESPACE::kS8.id();

  static constexpr Sm90Tile kTile{kRows_,
                                  kThreadN_,
                                  kBlocksPerSm,
                                  ScalarType::from_id(kAId).size_bits(),
                                  ScalarType::from_id(kBId).size_bits(),
                                  ScalarType::from_id(kSId).size_bits(),
                                  kGroupBlocks_,
                                  kBId == MARLIN_TYPE_NAMESPACE::kU4.id()};
  static constexpr int kRows = kRows_;
  static constexpr int kThreadN = kThreadN_;
  // 0: as many as fit, as generated files have it.
  static constexpr int kStages = kStages_ == 0 ? kTile.stages() : kStages_;
  static constexpr int kGroupBlocks = kGroupBlocks_;
  static constexpr bool kChannel = kGroupBlocks == -1;
  static constexpr bool kGrouped = kGroupBlocks > 0;
  static constexpr bool kHasZeroPoints = kTile.has_zero_points;
  // NVFP4's blocks have a scale each, and each expert one more. Beside int8 activations each expert
  // may have one.
  static constexpr bool kNvfp4 = kSId == MARLIN_TYPE_NAMESPACE::kFE4M3fn.id();
  static constexpr bool kGlobalScale = kNvfp4 || kInt8;
  static constexpr bool kA8 = kTile.a_bits == 8;
  static constexpr bool kStagedA = Sm90Tile::takes_staged_a(kRows);
  // Products of a warpgroup for each block of B, and sums that a thread has of each.
  static constexpr int kProducts = kTile.products();
  static constexpr int kSums = kRows / 2;

  static_assert(kCId == kAId || kA8, "16-bit activations and the output have one type");
  static_assert(!kInt8 || kTile.b_bits == 4, "int8 activations go with 4-bit weights");
  static_assert(!kA8 || !kNvfp4, "NVFP4's scales go with 16-bit activations");
  static_assert(kChannel || kGrouped, "act-order has no kernel of this family");
  static_assert(kSId == kCId || kGrouped, "8-bit scales are per group");
  static_assert(kRows % 8 == 0 && kRows >= 8 && kRows <= 256, "rows are 8 to 256 in steps of 8");
  static_assert(!kInt8 || kRows % 16 == 0 || kRows <= 24,
                "wgmma of int8 has 8, 16, 24, or a multiple of 16 rows");
  static_assert(kTile.registers_suffice(), "the sums must fit in registers");
  static_assert(kProducts == 1 || kProducts == 2 || kProducts == 4, "128, 256 or 512 columns");
  static_assert(kStages >= 2 && kStages <= kTile.stages(), "the stages must fit");
};

// A warpgroup's sums of one tile. Of the i-th product, which has 64 columns of the tile, in the
// layout of wgmma.cuh: row 16 w + x is column x of the warp's 16, see weight_fragments.cuh.
template <class Traits>
using Sums = float[Traits::kProducts][Traits::kSums];

// Where a thread that multiplies stands.
//
// A tile's columns are dealt out to warps: with 512 columns each warp has a packed piece of 64,
// with 256 half of one, with 128 a quarter.
template <class Traits>
struct WarpPosition {
  static constexpr unsigned kWarpsPerPiece = 4 / Traits::kProducts;
  unsigned lane = threadIdx.x % 32;
  unsigned warp = threadIdx.x / 32;
  unsigned piece = warp / kWarpsPerPiece;
  unsigned part = warp % kWarpsPerPiece;
  unsigned column = warp * Traits::kTile.warp_columns();  // first one of the tile
};

}  // namespace marlin_moe::sm90
