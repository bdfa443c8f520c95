// From a warp's sums to rows of C: scales, bias, top-k weight, rounding, and a turn in shared
// memory, because a lane has two tokens of a column and C wants eight columns of a token.
//
// Every warp works for itself, on 16 tokens at a time.
#pragma once

#include <cstdint>

#include "sm90_pipeline.cuh"
#include "sm90_traits.cuh"
#include "uniform.cuh"

namespace marlin_moe::sm90 {

// Stores 8×8 matrices of 16-bit elements, transposed: lane i gives the address of row i % 8 of
// matrix i / 8.
__device__ __forceinline__ void store_matrix_x2(SharedAddress row, std::uint32_t a,
                                                std::uint32_t b) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};\n" ::"r"(row),
               "r"(a), "r"(b)
               : "memory");
}
__device__ __forceinline__ void store_matrix_x4(SharedAddress row, std::uint32_t a, std::uint32_t b,
                                                std::uint32_t c, std::uint32_t d) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(row), "r"(a),
      "r"(b), "r"(c), "r"(d)
      : "memory");
}

template <class Traits, int kSumPower>
class Epilogue {
 public:
  // Writes the tile whose first column is `first_column`; its slot must be full.
  static __device__ __forceinline__ void run(const Params& params, SharedAddress slot,
                                             SharedAddress staging, int first_column,
                                             const Sums<Traits>& sums) {
    const unsigned column = first_column + WarpPosition<Traits>{}.column;
    if (uniform(column >= static_cast<unsigned>(params.n))) return;
    ColumnTerms terms;
    load_terms(params, slot, terms);
    char* c = static_cast<char*>(params.c) + std::int64_t{column} * 2;
#pragma unroll
    for (int first = 0; first < Traits::kRows; first += kTokens) {
      // Tokens stand before padding.
      if (uniform(load_shared_4(slot + first * 4) >= kPadding)) break;
      turn<0>(slot, staging, terms, first, sums);
      if (first + 8 < Traits::kRows) turn<1>(slot, staging, terms, first, sums);
      __syncwarp();
      write_rows(params, slot, staging, first, c);
      __syncwarp();
    }
  }

 private:
  using Output = typename Traits::Output;
  static constexpr Sm90Tile kTile = Traits::kTile;
  static constexpr int kTokens = Sm90Tile::kStagingRows;
  static constexpr std::uint32_t kPadding = 0x80000000;  // ids from here on: the loader writes -1
  // A token's columns of the warp: bytes, and chunks of 16.
  static constexpr int kRowBytes = kTile.warp_columns() * 2;
  static constexpr int kChunks = kRowBytes / 16;

  static constexpr bool kScales = Traits::kChannel || Traits::kGlobalScale || kSumPower != 0;

  // Of columns g and g + 8 of each product.
  struct ColumnTerms {
    float scale[Traits::kProducts][2];
    float bias[Traits::kProducts][2];
  };

  static __device__ __forceinline__ void load_terms(const Params& params, SharedAddress slot,
                                                    ColumnTerms& terms) {
    float factor = __int_as_float((127 + kSumPower) << 23);
    if constexpr (Traits::kGlobalScale) {
      factor *= __uint_as_float(load_shared_4(slot + kTile.global_scale_offset()));
    }
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        terms.scale[j][half] = factor;
        terms.bias[j][half] = 0.0f;
        if constexpr (Traits::kChannel) {
          terms.scale[j][half] = load_permuted(slot + kTile.column_scales_offset(), j, half);
        }
        if (params.bias != nullptr) {
          terms.bias[j][half] = load_permuted(slot + kTile.bias_offset(), j, half);
        }
      }
    }
  }

  // Column 16 j + g + 8 half of the warp's in a vector of the tile's columns. Within 32 columns,
  // position 8 i + t holds column 2 i + {0, 1, 8, 9, 16, 17, 24, 25}[t].
  static __device__ __forceinline__ float load_permuted(SharedAddress vector, int j, int half) {
    const WarpPosition<Traits> position;
    const unsigned g = position.lane / 4;
    const unsigned first = position.column + 16 * j;  // of the product's 16 columns
    const unsigned place = first / 32 * 32 + g / 2 * 8 + (first % 32 / 8 + half) * 2;
    float low, high;
    Output::unpack(load_shared_4(vector + place * 2), low, high);
    return g % 2 == 0 ? low : high;
  }

  // Chunks of a row are exchanged by XOR, so that eight rows' equal chunks meet different banks.
  static __device__ __forceinline__ unsigned chunk_offset(unsigned row, unsigned chunk) {
    return row * kRowBytes + (chunk ^ (row * kRowBytes / 128 % kChunks)) * 16;
  }

  // Eight tokens, first + 8 kHalf …, to rows in shared memory.
  template <int kHalf>
  static __device__ __forceinline__ void turn(SharedAddress slot, SharedAddress staging,
                                              const ColumnTerms& terms, int first,
                                              const Sums<Traits>& sums) {
    const unsigned lane = threadIdx.x % 32;
    const int token = first + 8 * kHalf;
    const int2 pair = load_shared_8(slot + kTile.weights_offset() + (token + lane % 4 * 2) * 4);
    const float weight[2] = {__int_as_float(pair.x), __int_as_float(pair.y)};
    std::uint32_t packed[Traits::kProducts][2];
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float v[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          v[i] = sums[j][token / 2 + 2 * half + i];
          if constexpr (kScales) v[i] *= terms.scale[j][half];
          v[i] = (v[i] + terms.bias[j][half]) * weight[i];
        }
        packed[j][half] = Output::pack(v[0], v[1]);
      }
    }
    const unsigned row = 8 * kHalf + lane % 8;
    if constexpr (Traits::kProducts == 1) {
      store_matrix_x2(staging + chunk_offset(row, lane / 8 % 2), packed[0][0], packed[0][1]);
    } else {
#pragma unroll
      for (int j = 0; j < Traits::kProducts; j += 2) {
        store_matrix_x4(staging + chunk_offset(row, 2 * j + lane / 8), packed[j][0], packed[j][1],
                        packed[j + 1][0], packed[j + 1][1]);
      }
    }
  }

  // Rows in shared memory to rows of C, 16 bytes a lane.
  static __device__ __forceinline__ void write_rows(const Params& params, SharedAddress slot,
                                                    SharedAddress staging, int first, char* c) {
    constexpr int kRowsPerPass = 32 / kChunks;
    const unsigned lane = threadIdx.x % 32;
    const unsigned chunk = lane % kChunks;
#pragma unroll
    for (int pass = 0; pass < kTokens; pass += kRowsPerPass) {
      const unsigned row = pass + lane / kChunks;
      if (Traits::kRows % kTokens != 0 && first + row >= Traits::kRows) continue;
      const unsigned id = load_shared_4(slot + (first + row) * 4);
      const int4 chunk_of_row = load_shared_16(staging + chunk_offset(row, chunk));
      if (id >= kPadding) continue;
      *reinterpret_cast<int4*>(c + (std::int64_t{id} * params.n) * 2 + chunk * 16) = chunk_of_row;
    }
  }
};

}  // namespace marlin_moe::sm90
