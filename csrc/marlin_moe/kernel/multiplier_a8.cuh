// Turns the stages in shared memory into sums in registers, for 8-bit activations.
//
// Scales cannot be applied to 8-bit weights. The products of 32 or 64 rows of B, no more than a
// group has, are summed by themselves, and added to the float accumulators times the group's scale.
#pragma once

#include <cstdint>

#include "dequant_a8.cuh"
#include "kernel_traits.cuh"
#include "marlin_moe/plan/chunk_offsets.h"
#include "marlin_moe/plan/host_device.h"
#include "ptx.cuh"

namespace marlin_moe {

template <class Traits>
class Multiplier8 {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;
  using Product = Product8<Traits::kA>;

  // Packers multiply the scales by the weights' exponent deficits: 9 of integers as e4m3, 6 of e2m1
  // as e4m3. e4m3 itself has none.
  static constexpr bool kExponentScales = Traits::kS == MARLIN_TYPE_NAMESPACE::kFE8M0fnu.id();
  static constexpr int kSumPower = 0;
  static constexpr int kExchangePower = 0;

  static constexpr bool kMultipliesPairs = false;

  // What a lane needs to multiply one 32-row block of B.
  struct Fragment {
    std::uint32_t a[Traits::kMBlocks][4];  // 16×32 of A each
    // Packed weights of columns c + 8 t, t = 0 … 3 (c = lane / 4), kBChunks words each.
    std::uint32_t b[4 * Traits::kBChunks];
    std::uint32_t s[4];  // scales of columns 8 t + 2 q + {0, 1} (q = lane % 4), as they are stored
    std::uint32_t zp;  // packed zero points of columns c + 8 t of the 64 that the warp's are among
  };

  __device__ __forceinline__ Multiplier8(const Params& params, SharedAddress shared)
      : params_(params), shared_(shared) {}

  __device__ __forceinline__ void begin_tile(int expert, int n_tile) {
#pragma unroll
    for (int m = 0; m < Traits::kMBlocks; ++m) {
#pragma unroll
      for (int t = 0; t < Traits::kAccTiles; ++t) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          acc[m][t][i] = 0.0f;
          sums_[m][t][i] = Traits::kGrouped ? Product::kStart : 0;
        }
      }
    }
    if constexpr (Traits::kChannel && Traits::kHasZeroPoints) {
      const unsigned n_pieces = static_cast<unsigned>(params_.n) / 64;
      const unsigned piece =
          min((n_tile * Traits::kThreadN + position_.n_warp * 32) / 64, n_pieces - 1);
      const int* zero_points = static_cast<const int*>(params_.zero_points);
      channel_zp_ = zero_points[(static_cast<std::int64_t>(expert) * params_.n + piece * 64) / 8 +
                                position_.lane / 4];
    }
  }

  // Loads the fragment of the warp's 32-row block `sub` (0 or 1) of the stage in the slot that
  // begins at byte `slot`.
  __device__ __forceinline__ void load(Fragment& fragment, unsigned slot, int /*k_tile*/, int sub) {
    const SharedAddress stage = shared_ + slot;
    const unsigned k_block = 2 * position_.k_warp + sub;
    const unsigned lane = position_.lane;
    const SharedAddress row = stage + kShape.a_offset() +
                              a_chunk_offset<kChunksPerRow>(lane % 16, 2 * k_block + lane / 16);
#pragma unroll
    for (int m = 0; m < Traits::kMBlocks; ++m) {
      load_matrix_x4(fragment.a[m], row + m * 16 * kChunksPerRow * 16);
    }
#pragma unroll
    for (int i = 0; i < Traits::kBChunks; ++i) {
      const unsigned chunk = Traits::kBChunks * lane + i;
      store_words(fragment.b + 4 * i,
                  load_shared_16(stage + kShape.b_offset() + position_.b_chunk_offset(sub, chunk)));
    }
    if constexpr (Traits::kGrouped) {
      // k_block is of 32 rows, two of kGroupBlocks' unit.
      const unsigned group = Traits::kGroupsPerStage > 1 ? 2 * k_block / Traits::kGroupBlocks : 0;
      if (group_may_end(sub)) load_scales(fragment, stage, group);
      if constexpr (Traits::kHasZeroPoints) load_zero_points(fragment, stage, group);
    }
  }

  // Adds the product of the fragment of block kSub to the sums, and the sums to the accumulators
  // where a group may end.
  template <int kSub>
  __device__ __forceinline__ void multiply(const Fragment& fragment) {
    constexpr bool kGroupEnds = Traits::kGrouped && group_may_end(kSub);
#pragma unroll
    for (int t = 0; t < Traits::kAccTiles; ++t) {
      std::uint32_t weights[2];
      decode(fragment, t, weights);
      float scale[2];
      if constexpr (kGroupEnds) column_scales(fragment, t, scale);
#pragma unroll
      for (int m = 0; m < Traits::kMBlocks; ++m) {
        Product::mma(sums_[m][t], fragment.a[m], weights);
        if constexpr (kGroupEnds) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            acc[m][t][i] = fmaf(Product::value(sums_[m][t][i]), scale[i % 2], acc[m][t][i]);
            sums_[m][t][i] = Product::kStart;
          }
        }
      }
    }
  }

  // Leaves the sums in `acc`.
  __device__ __forceinline__ void finish_tile() {
    if constexpr (!Traits::kGrouped) {
#pragma unroll
      for (int m = 0; m < Traits::kMBlocks; ++m)
#pragma unroll
        for (int t = 0; t < Traits::kAccTiles; ++t)
#pragma unroll
          for (int i = 0; i < 4; ++i) acc[m][t][i] = to_float(sums_[m][t][i]);
    }
  }

  // Sums of this warp's columns over its share of k, as in Multiplier16.
  float acc[Traits::kMBlocks][Traits::kAccTiles][4];

 private:
  static constexpr TileShape kShape = Traits::kShape;
  static constexpr int kChunksPerRow = Traits::kThreadK / 16;
  static constexpr bool kInt8 = Traits::kA == MARLIN_TYPE_NAMESPACE::kS8.id();

  // A sum over all of k, which starts at zero.
  static __device__ __forceinline__ float to_float(std::uint32_t sum) {
    return kInt8 ? static_cast<float>(static_cast<int>(sum)) : __uint_as_float(sum);
  }

  // Whether a group may end behind the block `sub` of a stage: the sums are scaled there.
  static MARLIN_HOST_DEVICE constexpr bool group_may_end(int sub) {
    return sub == 1 || Traits::kGroupBlocks == 2;
  }

  // mma's B operand of columns c + 8 t. Weights of the activations' type are stored as such.
  __device__ __forceinline__ void decode(const Fragment& fragment, int t,
                                         std::uint32_t (&weights)[2]) const {
    if constexpr (Traits::kB == Traits::kA) {
      weights[0] = fragment.b[2 * t];
      weights[1] = fragment.b[2 * t + 1];
    } else {
      using Weight = WeightDecoder8<Traits::kB, Traits::kA>;
      const std::uint32_t zeros = zero_bytes(fragment, t);
      weights[0] = Weight::decode(fragment.b[t], zeros);
      weights[1] = Weight::decode(fragment.b[t] >> 4, zeros);
    }
  }

  __device__ __forceinline__ void load_scales(Fragment& fragment, SharedAddress stage,
                                              unsigned group) {
    const unsigned index =
        group * Traits::kThreadN + position_.n_warp * 32 + position_.lane % 4 * 8;
    const SharedAddress scales = stage + kShape.s_offset() + index * (kShape.s_bits / 8);
    if constexpr (kExponentScales) {
      const int2 words = load_shared_8(scales);
      fragment.s[0] = words.x;
      fragment.s[1] = words.y;
    } else {
      store_words(fragment.s, load_shared_16(scales));
    }
  }

  __device__ __forceinline__ void load_zero_points(Fragment& fragment, SharedAddress stage,
                                                   unsigned group) {
    const unsigned index =
        group * Traits::kThreadN + position_.n_warp / 2 * 64 + position_.lane / 4 * 8;
    fragment.zp = load_shared_4(stage + kShape.zp_offset() + index / 2);
  }

  // The zero point of column c + 8 t in every byte.
  __device__ __forceinline__ std::uint32_t zero_bytes(const Fragment& fragment, int t) const {
    if constexpr (Traits::kHasZeroPoints) {
      const std::uint32_t packed = Traits::kChannel ? channel_zp_ : fragment.zp;
      return (packed >> (position_.n_warp % 2 * 16 + 4 * t) & 0xf) * 0x01010101u;
    } else {
      return 0x08080808u;
    }
  }

  // Scales of columns 8 t + 2 q + {0, 1}. Int8 activations have them in fixed point.
  __device__ __forceinline__ void column_scales(const Fragment& fragment, int t,
                                                float (&scale)[2]) const {
    if constexpr (kExponentScales) {
      const std::uint32_t pair = fragment.s[t / 2] >> (t % 2 * 16);
      scale[0] = __uint_as_float((pair & 0xff) << 23);
      scale[1] = __uint_as_float((pair >> 8 & 0xff) << 23);
    } else if constexpr (kInt8) {
      scale[0] = static_cast<float>(static_cast<std::int16_t>(fragment.s[t] & 0xffff));
      scale[1] = static_cast<float>(static_cast<std::int16_t>(fragment.s[t] >> 16));
    } else {
      Traits::Output::unpack(fragment.s[t], scale[0], scale[1]);
    }
  }

  const Params& params_;
  SharedAddress shared_;
  ThreadPosition<Traits> position_;
  std::uint32_t sums_[Traits::kMBlocks][Traits::kAccTiles][4];
  std::uint32_t channel_zp_;
};

template <class Traits>
struct MultiplierOf<Traits, true> {
  using type = Multiplier8<Traits>;
};

}  // namespace marlin_moe
