// From a warp's sums to rows of C: scales, bias, top-k weight, rounding, and a turn in shared
// memory, because a lane has two tokens of a column and C wants eight columns of a token.
//
// Every warp works for itself. Eight tokens, a unit, are turned while those before are written: the
// shorter this takes, the sooner the warpgroup multiplies again.
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
    const int units = used_units(slot);
    RowTerms row_terms = load_row_terms(slot, 0);
    turn(staging, terms, row_terms, 0, sums);
#pragma unroll
    for (int unit = 1; unit < kUnits; ++unit) {
      // Loads come back while the next unit is computed.
      row_terms = load_row_terms(slot, unit);
      const Rows rows = read_rows(slot, staging, unit - 1);
      if (uniform(unit >= units)) {
        write_rows(params, rows, c);
        return;
      }
      turn(staging, terms, row_terms, unit, sums);
      write_rows(params, rows, c);
    }
    write_rows(params, read_rows(slot, staging, kUnits - 1), c);
  }

 private:
  using Output = typename Traits::Output;
  static constexpr Sm90Tile kTile = Traits::kTile;
  // Tokens that are turned at a time. Rows in shared memory are those of two units.
  static constexpr int kUnit = 8;
  static constexpr int kUnits = Traits::kRows / kUnit;
  static_assert(2 * kUnit == Sm90Tile::kStagingRows && kUnits <= 32, "a bit for each unit");
  static constexpr std::uint32_t kPadding = 0x80000000;  // ids from here on: the loader writes -1
  // A token's columns of the warp: bytes, and chunks of 16.
  static constexpr int kRowBytes = kTile.warp_columns() * 2;
  static constexpr int kChunks = kRowBytes / 16;
  // Rows that a warp reads at a time, and how often for a unit.
  static constexpr int kRowsPerPass = 32 / kChunks < kUnit ? 32 / kChunks : kUnit;
  static constexpr int kPasses = kUnit / kRowsPerPass;

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
          terms.scale[j][half] *= load_permuted(slot + kTile.column_scales_offset(), j, half);
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

  // Of the lane's two tokens of a unit: top-k weights, and scales of 8-bit rows of A.
  struct RowTerms {
    float weight[2];
    float scale[2];
  };
  // The lane's chunks of a unit's rows, and where they go.
  struct Rows {
    int4 chunks[kPasses];
    unsigned ids[kPasses];
  };

  // Units up to the last one that has a token, wherever in it: aligners may leave gaps.
  static __device__ __forceinline__ int used_units(SharedAddress slot) {
    const unsigned unit = min(threadIdx.x % 32, static_cast<unsigned>(kUnits - 1));
    const int4 low = load_shared_16(slot + unit * kUnit * 4);
    const int4 high = load_shared_16(slot + unit * kUnit * 4 + 16);
    // Ids have no sign, padding has.
    const int all = low.x & low.y & low.z & low.w & high.x & high.y & high.z & high.w;
    return 32 - __clz(static_cast<int>(__ballot_sync(0xffffffffu, all >= 0)));
  }

  static __device__ __forceinline__ RowTerms load_row_terms(SharedAddress slot, int unit) {
    const SharedAddress token = slot + (unit * kUnit + threadIdx.x % 4 * 2) * 4;
    RowTerms terms{};
    const int2 weights = load_shared_8(token + kTile.weights_offset());
    terms.weight[0] = __int_as_float(weights.x);
    terms.weight[1] = __int_as_float(weights.y);
    if constexpr (Traits::kA8) {
      const int2 scales = load_shared_8(token + kTile.row_scales_offset());
      terms.scale[0] = __int_as_float(scales.x);
      terms.scale[1] = __int_as_float(scales.y);
    }
    return terms;
  }

  // A unit's tokens to rows in shared memory.
  static __device__ __forceinline__ void turn(SharedAddress staging, const ColumnTerms& terms,
                                              const RowTerms& row_terms, int unit,
                                              const Sums<Traits>& sums) {
    std::uint32_t packed[Traits::kProducts][2];
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float v[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          v[i] = sums[j][4 * unit + 2 * half + i];
          if constexpr (Traits::kA8) v[i] *= row_terms.scale[i];
          if constexpr (kScales) v[i] *= terms.scale[j][half];
          v[i] = (v[i] + terms.bias[j][half]) * row_terms.weight[i];
        }
        packed[j][half] = Output::pack(v[0], v[1]);
      }
    }
    const unsigned lane = threadIdx.x % 32;
    const unsigned row = unit % 2 * kUnit + lane % 8;
    __syncwarp();  // what was there is read
    if constexpr (Traits::kProducts == 1) {
      store_matrix_x2(staging + chunk_offset(row, lane / 8 % 2), packed[0][0], packed[0][1]);
    } else {
#pragma unroll
      for (int j = 0; j < Traits::kProducts; j += 2) {
        store_matrix_x4(staging + chunk_offset(row, 2 * j + lane / 8), packed[j][0], packed[j][1],
                        packed[j + 1][0], packed[j + 1][1]);
      }
    }
    __syncwarp();
  }

  static __device__ __forceinline__ Rows read_rows(SharedAddress slot, SharedAddress staging,
                                                   int unit) {
    const unsigned lane = threadIdx.x % 32;
    Rows rows;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const unsigned row = (pass * kRowsPerPass + lane / kChunks) % kUnit;
      rows.ids[pass] = load_shared_4(slot + (unit * kUnit + row) * 4);
      rows.chunks[pass] =
          load_shared_16(staging + chunk_offset(unit % 2 * kUnit + row, lane % kChunks));
      if (kChunks * kUnit < 32 && lane >= kChunks * kUnit) rows.ids[pass] = kPadding;
    }
    return rows;
  }

  // Rows that were read to rows of C, 16 bytes a lane.
  static __device__ __forceinline__ void write_rows(const Params& params, const Rows& rows,
                                                    char* c) {
    const unsigned chunk = threadIdx.x % kChunks;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      if (rows.ids[pass] >= kPadding) continue;
      *reinterpret_cast<int4*>(c + std::int64_t{rows.ids[pass]} * params.n * 2 + chunk * 16) =
          rows.chunks[pass];
    }
  }
};

}  // namespace marlin_moe::sm90
