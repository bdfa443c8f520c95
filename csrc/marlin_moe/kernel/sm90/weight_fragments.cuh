// A warp's packed weights of a stage as wgmma's left operand.
//
// In Marlin's 16 × 64 pieces, lane 4 g + q holds of 16-column tile j the rows 2q + {0, 1, 8, 9} of
// columns 16 j + g and 16 j + g + 8 (layout.h). That is what wgmma's left operand wants of the lane
// for rows 16 w + g and 16 w + g + 8, k = 2q + {0, 1, 8, 9}, if product j's row 16 w + x stands for
// column 16 j + x of warp w's columns:
//
//   columns of the tile   | warp 0: 0 … 63      | warp 1: 64 … 127    | …     (512 columns)
//   product 0             | 0 … 15              | 64 … 79             | …
//   product 1             |       16 … 31       |       80 … 95       | …
//   …
//
// So a lane's words are read as they are packed, and decoded in place.
#pragma once

#include <cstdint>

#include "marlin_moe/kernel/dequant.cuh"
#include "marlin_moe/plan/host_device.h"
#include "sm90_traits.cuh"

namespace marlin_moe::sm90 {

template <class Traits>
class WeightFragments {
 public:
  using Scale = ScaleDecoder<Traits::kS, Traits::kB, Traits::kA>;

  // What a finished sum still has to be multiplied by, as a power of two.
  static constexpr int kSumPower = Traits::kGrouped ? Scale::kSumPower : 0;

  // Words of packed weights that a lane has of 16 rows of B.
  static constexpr int kWordsPerProduct = Traits::kTile.b_bits / 4;
  struct Packed {
    std::uint32_t words[Traits::kProducts * kWordsPerProduct];
  };
  // The left operands of the warp's products with 16 rows of B.
  using Fragment = std::uint32_t[Traits::kProducts][4];

  // Whether scales or zero points change with the 16 rows `block` of a stage.
  static MARLIN_HOST_DEVICE constexpr bool terms_change_at(int block) {
    if (!Traits::kGrouped && !Traits::kHasZeroPoints) return false;
    return Traits::kGrouped ? block % Traits::kGroupBlocks == 0 : block == 0;
  }

  static __device__ __forceinline__ Packed load(SharedAddress stage, int block) {
    constexpr int kBytes = static_cast<int>(sizeof(Packed));
    const WarpPosition<Traits> position;
    Packed packed;
    load_words(packed.words, stage + kTile.b_offset() +
                                 (block * kTile.pieces() + position.piece) * kTile.piece_bytes() +
                                 position.lane * (kTile.b_bits * 4) + position.part * kBytes);
    return packed;
  }

  // Loads the scales and zero points of the 16 rows `block` of a stage.
  __device__ __forceinline__ void load_terms(SharedAddress stage, int block) {
    const WarpPosition<Traits> position;
    const unsigned column = position.piece * 64 + position.lane / 4 * 8;
    const int row = Traits::kGrouped ? block / max(Traits::kGroupBlocks, 1) : 0;
    if constexpr (Traits::kGrouped) {
      load_words(packed_scales_, stage + kTile.scales_offset() + row * kTile.scale_row_bytes() +
                                     column * (kTile.s_bits / 8) + scale_word(position.part) * 4);
    }
    if constexpr (Traits::kHasZeroPoints) {
      packed_zero_points_ = load_shared_4(stage + kTile.zero_points_offset() +
                                          row * kTile.zero_point_row_bytes() + column / 2);
    }
  }

  // Makes what was loaded ready for decode().
  __device__ __forceinline__ void prepare_terms() {
    const WarpPosition<Traits> position;
    if constexpr (Traits::kGrouped) prepare_scales(position.part);
    if constexpr (Traits::kHasZeroPoints) {
      const std::uint32_t zero_points =
          packed_zero_points_ >> (4 * Traits::kProducts * position.part);
#pragma unroll
      for (int j = 0; j < Traits::kProducts; ++j) {
        NibbleDecoder<Traits::kA>::offsets(zero_points, j, zero_low_[j], zero_high_[j]);
      }
    }
  }

  __device__ __forceinline__ void decode(const Packed& packed, Fragment& fragment) const {
    using Element = ElementType<Traits::kA>;
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j) {
      const std::uint32_t* words = packed.words + j * kWordsPerProduct;
      // Rows {0, 1}, {8, 9} of the first column, then of the second.
      std::uint32_t w[4];
      if constexpr (Traits::kHasZeroPoints) {
        NibbleDecoder<Traits::kA>::unpack(*words, zero_low_[j], zero_high_[j], w);
      } else {
        WeightDecoder<Traits::kB, Traits::kA>::decode(words, w);
      }
      if constexpr (Traits::kGrouped) {
        w[0] = Element::mul(w[0], scale_low_[j]);
        w[1] = Element::mul(w[1], scale_low_[j]);
        w[2] = Element::mul(w[2], scale_high_[j]);
        w[3] = Element::mul(w[3], scale_high_[j]);
      }
      fragment[j][0] = w[0];
      fragment[j][1] = w[2];
      fragment[j][2] = w[1];
      fragment[j][3] = w[3];
    }
  }

 private:
  static constexpr Sm90Tile kTile = Traits::kTile;
  static constexpr int kScaleWords =
      Traits::kProducts * kTile.s_bits / 16 > 0 ? Traits::kProducts * kTile.s_bits / 16 : 1;

  template <int kWords>
  static __device__ __forceinline__ void load_words(std::uint32_t (&words)[kWords],
                                                    SharedAddress from) {
    if constexpr (kWords == 1) {
      words[0] = load_shared_4(from);
    } else if constexpr (kWords == 2) {
      const int2 pair = load_shared_8(from);
      words[0] = pair.x;
      words[1] = pair.y;
    } else {
#pragma unroll
      for (int i = 0; i < kWords; i += 4) store_words(words + i, load_shared_16(from + 4 * i));
    }
  }

  // Of the words that hold the lane's scales of a piece, the first one of its part.
  static __device__ __forceinline__ unsigned scale_word(unsigned part) {
    return part * Traits::kProducts * kTile.s_bits / 16;
  }

  __device__ __forceinline__ void prepare_scales(unsigned part) {
    // The lane's scales of columns c + 8 t, two to a register: those of product j.
    std::uint32_t pairs[4];
    if constexpr (Scale::kWords == 4) {
#pragma unroll
      for (int j = 0; j < Traits::kProducts; ++j) pairs[j] = packed_scales_[j];
    } else {
      const std::uint32_t words[2] = {packed_scales_[0], packed_scales_[kScaleWords - 1]};
      Scale::decode(words, pairs);
      if (Traits::kProducts == 1 && part % 2 == 1) pairs[0] = pairs[1];
    }
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j) {
      scale_low_[j] = broadcast_low(pairs[j]);
      scale_high_[j] = broadcast_high(pairs[j]);
    }
  }

  std::uint32_t packed_scales_[kScaleWords];
  std::uint32_t packed_zero_points_;
  // Of columns g and g + 8 of each product, in both halves of a register.
  std::uint32_t scale_low_[Traits::kProducts];
  std::uint32_t scale_high_[Traits::kProducts];
  ZeroOffset zero_low_[Traits::kProducts];
  ZeroOffset zero_high_[Traits::kProducts];
};

}  // namespace marlin_moe::sm90
