// What kernels with 16-bit activations and e4m3 weights need: their decoders, and that of MXFP8's
// scales.
#pragma once

#include <cstdint>

#include "dequant.cuh"
#include "e8m0_scales.cuh"
#include "element_types.cuh"
#include "multiplier.cuh"
#include "ptx.cuh"

namespace marlin_moe {

template <>
struct WeightDecoder<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id(), MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
  static constexpr std::uint32_t kDeficitPower = 0x5c005c00;  // 2^8
  static __device__ __forceinline__ void decode(const std::uint32_t* q, std::uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bytes = i % 2 == 0 ? q[i / 2] << 8 : q[i / 2];
      out[i] = mask_or(bytes, 0x80008000, (bytes & 0x7f007f00) >> 1);
    }
  }
};

template <>
struct WeightDecoder<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id(), MARLIN_TYPE_NAMESPACE::kBFloat16.id()> {
  static constexpr std::uint32_t kDeficitPower = 0x7b807b80;  // 2^120
  static __device__ __forceinline__ void decode(const std::uint32_t* q, std::uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bytes = i % 2 == 0 ? q[i / 2] << 8 : q[i / 2];
      out[i] = mask_or(bytes, 0x80008000, (bytes & 0x7f007f00) >> 4);
    }
  }
};

// MXFP8. The weights reach from 2^-9 to 2^9: with 96 added, scales from 2^-93 to 2^31 keep the bits
// of all of them.
template <>
struct ScaleDecoder<MARLIN_TYPE_NAMESPACE::kFE8M0fnu.id(), MARLIN_TYPE_NAMESPACE::kFE4M3fn.id(),
                    MARLIN_TYPE_NAMESPACE::kBFloat16.id()> : ExponentScaleDecoder<120, 96> {};

}  // namespace marlin_moe
