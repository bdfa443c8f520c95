// Turns the stages in shared memory into sums in registers, for 16-bit activations: fragments are
// loaded, weights are dequantised, the tensor cores multiply.
#pragma once

#include <cstdint>

#include "dequant.cuh"
#include "kernel_traits.cuh"
#include "marlin_moe/plan/chunk_offsets.h"
#include "ptx.cuh"

namespace marlin_moe {

// What the terms of a column, its scales and the offsets of its zero points, are computed for once.
enum class TermsLifetime {
  kTile,   // scales of the whole column: zero points alone are terms
  kStage,  // both 16-row blocks that a warp has of a stage, one after the other
  kPair,   // the same two, multiplied together: no register holds the terms for long
  kBlock,  // one 16-row block
};

template <class Traits>
class Multiplier16 {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;
  using Element = ElementType<Traits::kA>;
  using Weight = WeightDecoder<Traits::kB, Traits::kA>;
  using Scale = ScaleDecoder<Traits::kS, Traits::kB, Traits::kA>;

  // Whether a group's scales are applied to the sums of its products instead of its weights.
  static constexpr bool kScalesSums = Traits::kMixed && Traits::kGrouped;

  // Whether the exponent deficit is made up for here: packers do so only where the output has the
  // activations' type.
  static constexpr bool kRestoresWeights =
      Traits::kMixed && Traits::kB == MARLIN_TYPE_NAMESPACE::kFE4M3fn.id();

  // What a finished sum still has to be multiplied by, as a power of two.
  static constexpr int kSumPower = Traits::kGrouped ? Scale::kSumPower : 0;

  // What it is multiplied by before thread blocks add up their sums of a tile, whatever it still
  // has to be: atomic additions take subnormal numbers for zero. Sums of e4m3 beside bf16 are
  // 2^-120 of the right ones until their column's scale makes up for it; half of that leaves room
  // either way.
  static constexpr bool kScalesMakeUp = Traits::kChannel && !kRestoresWeights &&
                                        Traits::kB == MARLIN_TYPE_NAMESPACE::kFE4M3fn.id() &&
                                        Traits::kA == MARLIN_TYPE_NAMESPACE::kBFloat16.id();
  static constexpr int kExchangePower = kScalesMakeUp ? 60 : kSumPower > 0 ? kSumPower : 0;

  // Both 16-row blocks that a warp multiplies in a stage are in one group, unless groups are that
  // small. With many rows there are no registers to keep the group's terms in. With zero points and
  // 32 rows the two blocks are multiplied together instead: faster than one after the other. So
  // they are where their sum is scaled.
  static constexpr TermsLifetime terms_lifetime() {
    if (Traits::kGroupBlocks == 1) return TermsLifetime::kBlock;
    if (kScalesSums) return TermsLifetime::kPair;
    if (Traits::kHasZeroPoints && Traits::kMBlocks == 2) return TermsLifetime::kPair;
    if (Traits::kMBlocks > (Traits::kHasZeroPoints ? 1 : 2)) return TermsLifetime::kBlock;
    if (Traits::kChannel) return TermsLifetime::kTile;
    return Traits::kGrouped ? TermsLifetime::kStage : TermsLifetime::kBlock;
  }
  static constexpr TermsLifetime kTermsLifetime = terms_lifetime();
  static constexpr bool kMultipliesPairs = kTermsLifetime == TermsLifetime::kPair;

  // What a lane needs to multiply one 16-row block of B.
  struct Fragment {
    std::uint32_t a[Traits::kMBlocks][4];   // 16×16 of A each; an 8-row tile uses two registers
    std::uint32_t b[4 * Traits::kBChunks];  // four 16×16 tiles of packed weights
    // Scales of columns c + 8 t, t = 0 … 7 (c = lane / 4), two to a register. Act-order has a set
    // for each of the lane's rows 2q + {0, 1, 8, 9}. Where sums are scaled these are the columns of
    // the lane's sums: 2 q + 8 t and 2 q + 1 + 8 t (q = lane % 4), or transposed as above.
    std::uint32_t s[Traits::kActOrder ? 4 : kScalesSums ? 2 : 1][4];
    std::uint32_t zp;  // packed zero points of the same columns
  };

  __device__ __forceinline__ Multiplier16(const Params& params, SharedAddress shared)
      : params_(params), shared_(shared) {}

  __device__ __forceinline__ void begin_tile(int expert, int n_tile) {
#pragma unroll
    for (int m = 0; m < Traits::kMBlocks; ++m)
#pragma unroll
      for (int t = 0; t < Traits::kAccTiles; ++t)
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[m][t][i] = 0.0f;

    const unsigned n_pieces = static_cast<unsigned>(params_.n) / 64;
    const unsigned piece = min(n_tile * Traits::kNWarps + position_.n_warp, n_pieces - 1);
    column_ = piece * 64 + position_.lane / 4 * 8;
    if constexpr (Traits::kActOrder) {
      g_idx_ = params_.g_idx + static_cast<std::int64_t>(expert) * params_.k;
      scales_ = static_cast<const char*>(params_.scales) +
                (static_cast<std::int64_t>(expert) * params_.num_groups * params_.n + column_) * 2;
    }
    if constexpr (Traits::kChannel && Traits::kHasZeroPoints) {
      const int* zero_points = static_cast<const int*>(params_.zero_points);
      channel_zp_ = zero_points[(static_cast<std::int64_t>(expert) * params_.n + column_) / 8];
      if constexpr (kTermsLifetime == TermsLifetime::kTile) {
#pragma unroll
        for (int j = 0; j < 4; ++j) prepare_zero_offsets(channel_zp_, j);
      }
    }
  }

  // Loads the fragment of the warp's 16-row block `sub` (0 or 1) of the stage in the slot that
  // begins at byte `slot`, which is stage `k_tile` of the tile.
  __device__ __forceinline__ void load(Fragment& fragment, unsigned slot, int k_tile, int sub) {
    const SharedAddress stage = shared_ + slot;
    const unsigned k_block = 2 * position_.k_warp + sub;
    load_a(fragment, stage, k_block);
    load_b(fragment, stage, sub);
    if constexpr (Traits::kGrouped) {
      if (sub == 0 || kTermsLifetime == TermsLifetime::kBlock) {
        load_scales(fragment, stage, k_block);
      }
    }
    if constexpr (Traits::kActOrder) {
      load_row_scales(fragment, k_tile * (Traits::kThreadK / 16) + k_block);
    }
  }

  // Adds the product of the fragment of block kSub to the accumulators.
  template <int kSub>
  __device__ __forceinline__ void multiply(const Fragment& fragment) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if constexpr (kTermsLifetime == TermsLifetime::kBlock ||
                    (kTermsLifetime == TermsLifetime::kStage && kSub == 0)) {
        prepare_terms(fragment, j);
      }
      multiply_tile(fragment, j, acc, kTilesOfProduct * j);
    }
  }

  // Adds the products of the fragments of both blocks of a stage.
  __device__ __forceinline__ void multiply_pair(const Fragment& first, const Fragment& second) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      prepare_terms(first, j);
      if constexpr (kScalesSums) {
        float sums[Traits::kMBlocks][kTilesOfProduct][4] = {};
        multiply_tile(first, j, sums, 0);
        multiply_tile(second, j, sums, 0);
        add_scaled(sums, first, j);
      } else {
        multiply_tile(first, j, acc, kTilesOfProduct * j);
        multiply_tile(second, j, acc, kTilesOfProduct * j);
      }
    }
  }

  // Leaves the sums in `acc`.
  __device__ __forceinline__ void finish_tile() {}

  // Sums of this warp's columns over its share of k, in the layout of mma's C operand. Tile t of an
  // m block, 8 columns wide: rows lane / 4 (+ 8), columns 8 t + 2 (lane % 4) + {0, 1}. Transposed,
  // 16 columns wide: columns 16 t + lane / 4 (+ 8), tokens 2 (lane % 4) + {0, 1}.
  float acc[Traits::kMBlocks][Traits::kAccTiles][4];

 private:
  static constexpr TileShape kShape = Traits::kShape;
  static constexpr int kChunksPerRow = Traits::kThreadK / 8;
  // Accumulator tiles of the product with 16 columns.
  static constexpr int kTilesOfProduct = Traits::kTransposed ? 1 : 2;

  __device__ __forceinline__ void load_a(Fragment& fragment, SharedAddress stage,
                                         unsigned k_block) {
    const SharedAddress a = stage + kShape.a_offset();
    const unsigned lane = position_.lane;
    if constexpr (Traits::kTransposed) {
      std::uint32_t tokens[2];
      load_matrix_x2(tokens,
                     a + a_chunk_offset<kChunksPerRow>(lane % 8, 2 * k_block + lane / 8 % 2));
      fragment.a[0][0] = tokens[0];
      fragment.a[0][1] = tokens[1];
    } else {
      const SharedAddress row =
          a + a_chunk_offset<kChunksPerRow>(lane % 16, 2 * k_block + lane / 16);
#pragma unroll
      for (int m = 0; m < Traits::kMBlocks; ++m) {
        load_matrix_x4(fragment.a[m], row + m * 16 * kChunksPerRow * 16);
      }
    }
  }

  __device__ __forceinline__ void load_b(Fragment& fragment, SharedAddress stage, int sub) {
    constexpr int kChunks = Traits::kBChunks;
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const unsigned offset =
          position_.b_chunk_offset(sub, kChunks * position_.lane + i) + kShape.b_offset();
      store_words(fragment.b + 4 * i, load_shared_16(stage + offset));
    }
  }

  __device__ __forceinline__ void load_scales(Fragment& fragment, SharedAddress stage,
                                              unsigned k_block) {
    const unsigned group = Traits::kGroupsPerStage > 1 ? k_block / Traits::kGroupBlocks : 0;
    const unsigned column = position_.n_warp * 64 + position_.lane / 4 * 8;
    const unsigned index = group * Traits::kThreadN + column;
    const SharedAddress scales = stage + kShape.s_offset() + index * (kShape.s_bits / 8);
    std::uint32_t words[Scale::kWords];
    if constexpr (kScalesSums) {
      const unsigned first = position_.n_warp * 64 + position_.lane % 4 * 16;
#pragma unroll
      for (int i = 0; i < (Traits::kTransposed ? 1 : 2); ++i) {
        const unsigned own = Traits::kTransposed ? column : first + 8 * i;
        store_words(fragment.s[i], load_shared_16(stage + kShape.s_offset() +
                                                  (group * Traits::kThreadN + own) * 2));
      }
    } else if constexpr (Scale::kWords == 4) {
      store_words(words, load_shared_16(scales));
    } else {
      const int2 pair = load_shared_8(scales);
      words[0] = pair.x;
      words[1] = pair.y;
    }
    if constexpr (!kScalesSums) Scale::decode(words, fragment.s[0]);
    if constexpr (Traits::kHasZeroPoints) {
      fragment.zp = load_shared_4(stage + kShape.zp_offset() + index / 2);
    }
  }

  // Act-order: scales of the lane's four rows, straight from global memory. Rows are sorted by
  // group, so nearly all of it is found in L1.
  __device__ __forceinline__ void load_row_scales(Fragment& fragment, unsigned k_block) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const unsigned row = k_block * 16 + 2 * (position_.lane % 4) + 8 * pair;
      const int2 groups = __ldg(reinterpret_cast<const int2*>(g_idx_ + row));
      store_words(fragment.s[2 * pair], row_scales(groups.x));
      store_words(fragment.s[2 * pair + 1], row_scales(groups.y));
    }
  }
  __device__ __forceinline__ int4 row_scales(int group) const {
    const std::int64_t offset = static_cast<std::int64_t>(group) * params_.n * 2;
    return __ldg(reinterpret_cast<const int4*>(scales_ + offset));
  }

  // What turns packed weights of columns 16 j + c (left) and 16 j + c + 8 (right) into numbers.
  struct ColumnTerms {
    std::uint32_t s_left;
    std::uint32_t s_right;
    ZeroOffset zero_left;
    ZeroOffset zero_right;
  };

  __device__ __forceinline__ void prepare_zero_offsets(std::uint32_t packed_zero_points, int j) {
    NibbleDecoder<Traits::kA>::offsets(packed_zero_points, j, terms_[j].zero_left,
                                       terms_[j].zero_right);
  }

  __device__ __forceinline__ void prepare_terms(const Fragment& fragment, int j) {
    if constexpr (Traits::kHasZeroPoints) {
      prepare_zero_offsets(Traits::kChannel ? channel_zp_ : fragment.zp, j);
    }
    if constexpr (Traits::kGrouped && !kScalesSums) {
      terms_[j].s_left = broadcast_low(fragment.s[0][j]);
      terms_[j].s_right = broadcast_high(fragment.s[0][j]);
    }
  }

  // Adds the products of the j-th 16×16 tile of weights with all rows to the accumulator tiles of
  // `sums` from `first` on.
  template <int kTiles>
  __device__ __forceinline__ void multiply_tile(const Fragment& fragment, int j,
                                                float (&sums)[Traits::kMBlocks][kTiles][4],
                                                int first) {
    std::uint32_t w[4];
    dequantize(fragment, j, w);
    if constexpr (Traits::kTransposed) {
      const std::uint32_t weights[4] = {w[0], w[2], w[1], w[3]};
      const std::uint32_t tokens[2] = {fragment.a[0][0], fragment.a[0][1]};
      Element::mma(sums[0][first], weights, tokens);
    } else {
      const std::uint32_t left[2] = {w[0], w[1]};
      const std::uint32_t right[2] = {w[2], w[3]};
#pragma unroll
      for (int m = 0; m < Traits::kMBlocks; ++m) {
        Element::mma(sums[m][first], fragment.a[m], left);
        Element::mma(sums[m][first + 1], fragment.a[m], right);
      }
    }
  }

  // Adds the sums of columns 16 j to 16 j + 15, times their scales, to the accumulators.
  __device__ __forceinline__ void add_scaled(
      const float (&sums)[Traits::kMBlocks][kTilesOfProduct][4], const Fragment& fragment, int j) {
    // scale[i][half]: of the columns 16 j + 8 half + 2 q + i or, transposed, 16 j + 8 half + c.
    float scale[Traits::kTransposed ? 1 : 2][2];
#pragma unroll
    for (int i = 0; i < (Traits::kTransposed ? 1 : 2); ++i) {
      Traits::Output::unpack(fragment.s[i][j], scale[i][0], scale[i][1]);
    }
#pragma unroll
    for (int m = 0; m < Traits::kMBlocks; ++m) {
#pragma unroll
      for (int t = 0; t < kTilesOfProduct; ++t) {
        float (&to)[4] = acc[m][kTilesOfProduct * j + t];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float factor = Traits::kTransposed ? scale[0][i / 2] : scale[i % 2][t];
          to[i] = fmaf(sums[m][t][i], factor, to[i]);
        }
      }
    }
  }

  // Weights of columns 16 j + c and 16 j + c + 8, as NibbleDecoder::unpack() orders them, with
  // their scales unless those are applied to the finished sums.
  __device__ __forceinline__ void dequantize(const Fragment& fragment, int j,
                                             std::uint32_t (&w)[4]) {
    const std::uint32_t* words = fragment.b + j * Traits::kBChunks;
    if constexpr (Traits::kHasZeroPoints) {
      NibbleDecoder<Traits::kA>::unpack(*words, terms_[j].zero_left, terms_[j].zero_right, w);
    } else {
      Weight::decode(words, w);
    }
    if constexpr (kRestoresWeights) {
#pragma unroll
      for (int i = 0; i < 4; ++i) w[i] = Element::mul(w[i], Weight::kDeficitPower);
    }
    if constexpr (Traits::kGrouped && !kScalesSums) {
      w[0] = Element::mul(w[0], terms_[j].s_left);
      w[1] = Element::mul(w[1], terms_[j].s_left);
      w[2] = Element::mul(w[2], terms_[j].s_right);
      w[3] = Element::mul(w[3], terms_[j].s_right);
    }
    if constexpr (Traits::kActOrder) {
      w[0] = Element::mul(w[0], __byte_perm(fragment.s[0][j], fragment.s[1][j], 0x5410));
      w[1] = Element::mul(w[1], __byte_perm(fragment.s[2][j], fragment.s[3][j], 0x5410));
      w[2] = Element::mul(w[2], __byte_perm(fragment.s[0][j], fragment.s[1][j], 0x7632));
      w[3] = Element::mul(w[3], __byte_perm(fragment.s[2][j], fragment.s[3][j], 0x7632));
    }
  }

  const Params& params_;
  SharedAddress shared_;
  ThreadPosition<Traits> position_;
  unsigned column_;  // of the packed scales: eight columns of the warp's 64, from here on
  const int* g_idx_;
  const char* scales_;
  std::uint32_t channel_zp_;
  ColumnTerms terms_[4];
};

template <class Traits>
struct MultiplierOf<Traits, false> {
  using type = Multiplier16<Traits>;
};

}  // namespace marlin_moe
