// A warp's packed weights of a stage as wgmma's left operand, for 8-bit activations.
//
// In Marlin's 32 × 32 pieces, a lane's word 2 j of 4 g + q holds of 16-column tile j rows 4q … 4q+3
// (low nibbles) and 4q+16 … 4q+19 (high nibbles) of column 16 j + g, word 2 j + 1 those of column
// 16 j + g + 8 (layout.h). That is what wgmma's left operand wants of the lane for rows g and g +
// 8, so that columns go to warps and products as with 16-bit activations (weight_fragments.cuh).
#pragma once

#include <cstdint>

#include "marlin_moe/kernel/dequant_a8.cuh"
#include "sm90_traits.cuh"

namespace marlin_moe::sm90 {

// kCount products of the warp, from product kCount · `batch` on.
template <class Traits, int kCount>
class WeightFragments8 {
 public:
  // Weights are decoded to this power of two times their value, beside what their scales hold. A
  // nibble less 8 is the upper half of a signed byte, but for its sign.
  static constexpr bool kUpperHalf = Traits::kInt8 && !Traits::kHasZeroPoints;
  static constexpr int kPower = kUpperHalf ? 4 : 0;

  static constexpr int kWords = Traits::kTile.b_bits / 2;  // of a product
  struct Packed {
    std::uint32_t words[kCount][kWords];
  };
  using Fragment = std::uint32_t[kCount][4];

  static __device__ __forceinline__ Packed load(SharedAddress stage, int block, int batch) {
    const SharedAddress row = stage + kTile.b_offset() +
                              block * kTile.pieces() * kTile.piece_bytes() + lane() * (8 * kWords);
    Packed packed;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const unsigned half = first_half() + kCount * batch + j;
      const SharedAddress from = row + half / 2 * kTile.piece_bytes();
      if constexpr (kWords == 4) {
        store_words(packed.words[j], load_shared_16(from + half % 2 * 16));
      } else if constexpr (kCount == 1) {
        store_pair(packed.words[j], load_shared_8(from + half % 2 * 8));
      } else if (j % 2 == 0) {
        const int4 words = load_shared_16(from);
        store_pair(packed.words[j], {words.x, words.y});
        store_pair(packed.words[j + 1], {words.z, words.w});
      }
    }
    return packed;
  }

  // Loads the zero points of a stage's `row`-th group.
  __device__ __forceinline__ void load_zero_points(SharedAddress stage, int row, int batch) {
    if constexpr (Traits::kHasZeroPoints) {
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const unsigned half = first_half() + kCount * batch + j;
        // A word has columns g + 8 t of 64, which are four halves of pieces.
        const std::uint32_t word =
            load_shared_4(stage + kTile.zero_points_offset() + row * kTile.zero_point_row_bytes() +
                          half / 4 * 32 + lane() / 4 * 4) >>
            (half % 4 * 8);
        zeros_[j][0] = (word & 0xf) * 0x01010101u;
        zeros_[j][1] = (word >> 4 & 0xf) * 0x01010101u;
      }
    }
  }

  __device__ __forceinline__ void decode(const Packed& packed, Fragment& fragment) const {
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t word = packed.words[j][i];
        if constexpr (kWords == 4) {
          fragment[j][i] = packed.words[j][2 * i];
          fragment[j][i + 2] = packed.words[j][2 * i + 1];
        } else if constexpr (kUpperHalf) {
          fragment[j][i] = (word << 4 & 0xf0f0f0f0u) ^ 0x80808080u;
          fragment[j][i + 2] = (word & 0xf0f0f0f0u) ^ 0x80808080u;
        } else {
          using Weight = WeightDecoder8<Traits::kB, Traits::kA>;
          const std::uint32_t zeros = Traits::kHasZeroPoints ? zeros_[j][i] : 0x08080808u;
          fragment[j][i] = Weight::decode(word, zeros);
          fragment[j][i + 2] = Weight::decode(word >> 4, zeros);
        }
      }
    }
  }

  // The scales of a stage's `row`-th group, of columns g and g + 8 of each product.
  static __device__ __forceinline__ void load_scales(SharedAddress stage, int row, int batch,
                                                     float (&scale)[kCount][2]) {
    const unsigned g = lane() / 4;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const unsigned half = first_half() + kCount * batch + j;
      // Position 8 i + t of 32 columns holds column 2 i + {0, 1, 8, 9, 16, 17, 24, 25}[t].
      const unsigned index = half / 2 * 32 + g / 2 * 8 + half % 2 * 4;
      const SharedAddress from = stage + kTile.scales_offset() + row * kTile.scale_row_bytes() +
                                 index * (kTile.s_bits / 8);
      if constexpr (kTile.s_bits == 8) {
        const std::uint32_t exponents = load_shared_4(from) >> (g % 2 * 8);
        scale[j][0] = __uint_as_float((exponents & 0xff) << 23);
        scale[j][1] = __uint_as_float((exponents >> 16 & 0xff) << 23);
      } else {
        const int2 pairs = load_shared_8(from);
        scale[j][0] = scale_of(pairs.x, g % 2);
        scale[j][1] = scale_of(pairs.y, g % 2);
      }
    }
  }

 private:
  static constexpr Sm90Tile kTile = Traits::kTile;

  static __device__ __forceinline__ unsigned lane() { return threadIdx.x % 32; }
  // The first of the warp's halves of pieces, 16 columns each: one for each product.
  static __device__ __forceinline__ unsigned first_half() {
    return threadIdx.x / 32 * Traits::kProducts;
  }
  static __device__ __forceinline__ void store_pair(std::uint32_t (&to)[2], const int2& pair) {
    to[0] = pair.x;
    to[1] = pair.y;
  }
  // The first or second of a pair of scales. Int8 activations have them in fixed point.
  static __device__ __forceinline__ float scale_of(std::uint32_t pair, unsigned second) {
    if constexpr (Traits::kInt8) {
      return static_cast<float>(static_cast<std::int16_t>(pair >> (16 * second)));
    } else {
      float low, high;
      Traits::Output::unpack(pair, low, high);
      return second == 0 ? low : high;
    }
  }

  std::uint32_t zeros_[kCount][2];  // in every byte, of columns g and g + 8
};

}  // namespace marlin_moe::sm90
