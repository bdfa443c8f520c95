// The scales of MXFP4 and MXFP8 beside bf16 activations: the exponent field of bf16.
#pragma once

#include <cstdint>

#include "ptx.cuh"

namespace marlin_moe {

// What ScaleDecoder has to have. Of the weights' exponent deficit a part is added to the scales,
// the rest to the sums: all of it at once would overflow. Bytes are in the order [0, 2, 1, 3].
template <int kDeficit, int kAddedPower>
struct ExponentScaleDecoder {
  static constexpr int kWords = 2;
  static constexpr int kSumPower = kDeficit - kAddedPower;
  static __device__ __forceinline__ void decode(const std::uint32_t (&words)[2],
                                                std::uint32_t (&out)[4]) {
    // Doubled exponents: the lowest bit is the highest one of the mantissa. So the largest, 0x1ff,
    // is NaN, which 255 gives; of scales that are too large the smallest is infinity, others NaN.
    constexpr std::uint32_t kAdded = 2 * kAddedPower * 0x00010001u;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t exponents = (i % 2 == 0 ? words[i / 2] : words[i / 2] >> 8) & 0x00ff00ff;
      out[i] = __vminu2(2 * exponents + kAdded, 0x01ff01ff) << 6;
    }
  }
};

}  // namespace marlin_moe
