// What kernels with 16-bit activations and e4m3 weights need: their decoders.
#pragma once

#include <cstdint>

#include "dequant.cuh"
#include "element_types.cuh"
#include "multiplier.cuh"
#include "ptx.cuh"

namespace marlin_moe {

template <>
struct WeightDecoder<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id(), MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
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
  static __device__ __forceinline__ void decode(const std::uint32_t* q, std::uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bytes = i % 2 == 0 ? q[i / 2] << 8 : q[i / 2];
      out[i] = mask_or(bytes, 0x80008000, (bytes & 0x7f007f00) >> 4);
    }
  }
};

}  // namespace marlin_moe
