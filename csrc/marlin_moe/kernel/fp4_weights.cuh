// What kernels with 16-bit activations and e2m1 weights need: the decoders of weights and of their
// 8-bit scales.
#pragma once

#include <cstdint>

#include "dequant.cuh"
#include "e8m0_scales.cuh"
#include "element_types.cuh"
#include "multiplier.cuh"
#include "ptx.cuh"

namespace marlin_moe {

template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct WeightDecoder<MARLIN_TYPE_NAMESPACE::kFE2M1f.id(), kAId> {
  static constexpr bool kHalf = kAId == MARLIN_TYPE_NAMESPACE::kFloat16.id();
  static __device__ __forceinline__ void decode(const std::uint32_t* q, std::uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t nibbles = *q << (4 * (3 - i));
      out[i] = mask_or(nibbles, 0x80008000, (nibbles & 0x70007000) >> (kHalf ? 3 : 6));
    }
  }
};

// NVFP4: non-negative, times 2^7, in eight bits of which five are the exponent: the upper byte of
// the f16 number, without its sign. Bytes are in the order [0, 2, 1, 3].
template <>
struct ScaleDecoder<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id(), MARLIN_TYPE_NAMESPACE::kFE2M1f.id(),
                    MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
  static constexpr int kWords = 2;
  static constexpr int kSumPower = 0;  // the global scale holds 2^(14 - 7)
  static __device__ __forceinline__ void decode(const std::uint32_t (&words)[2],
                                                std::uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bytes = i % 2 == 0 ? words[i / 2] << 8 : words[i / 2];
      out[i] = (bytes & 0xff00ff00) >> 1;
    }
  }
};

template <>
struct ScaleDecoder<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id(), MARLIN_TYPE_NAMESPACE::kFE2M1f.id(),
                    MARLIN_TYPE_NAMESPACE::kBFloat16.id()> {
  using Element = ElementType<MARLIN_TYPE_NAMESPACE::kBFloat16.id()>;
  static constexpr int kWords = 2;
  // The global scale holds 2^(126 - 7). Here 2^112 of it are taken early: products stay away from
  // the subnormal numbers, and f16's NaN, which no number's exponent reaches, becomes infinity. The
  // shift leaves 2^-112 times the scale.
  static constexpr int kSumPower = -112;
  static __device__ __forceinline__ void decode(const std::uint32_t (&words)[2],
                                                std::uint32_t (&out)[4]) {
    constexpr std::uint32_t k2To112 = 0x77807780;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bytes = i % 2 == 0 ? words[i / 2] << 8 : words[i / 2];
      out[i] = Element::mul(Element::mul((bytes & 0xff00ff00) >> 4, k2To112), k2To112);
    }
  }
};

// MXFP4: half of the weights' deficit is added to the scales.
template <>
struct ScaleDecoder<MARLIN_TYPE_NAMESPACE::kFE8M0fnu.id(), MARLIN_TYPE_NAMESPACE::kFE2M1f.id(),
                    MARLIN_TYPE_NAMESPACE::kBFloat16.id()> : ExponentScaleDecoder<126, 63> {};

}  // namespace marlin_moe
