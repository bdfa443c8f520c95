// What kernels with 16-bit activations and eight-bit integer weights need: their decoders.
#pragma once

#include <cstdint>

#include "dequant.cuh"
#include "element_types.cuh"
#include "multiplier.cuh"
#include "ptx.cuh"

namespace marlin_moe {

template <>
struct WeightDecoder<MARLIN_TYPE_NAMESPACE::kU8B128.id(), MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
  using Element = ElementType<MARLIN_TYPE_NAMESPACE::kFloat16.id()>;
  static __device__ __forceinline__ void decode(const std::uint32_t* q, std::uint32_t (&out)[4]) {
    constexpr std::uint32_t kHighByte = 0x64646464;   // of 1024
    constexpr std::uint32_t kMinus1152 = 0xe480e480;  // -(1024 + 128)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bytes = __byte_perm(q[i / 2], kHighByte, i % 2 == 0 ? 0x4240 : 0x4341);
      out[i] = Element::add(bytes, kMinus1152);
    }
  }
};

template <>
struct WeightDecoder<MARLIN_TYPE_NAMESPACE::kU8B128.id(), MARLIN_TYPE_NAMESPACE::kBFloat16.id()> {
  // bf16 has 8 bits of precision, one too few for 128 + 255: the sum is taken in float, whose upper
  // half is the exact result.
  static __device__ __forceinline__ void decode(const std::uint32_t* q, std::uint32_t (&out)[4]) {
    constexpr int kFirst[2] = {0x7440, 0x7441};  // selects byte 0 or 1, and byte 2 or 3 below
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t low = magic(q[i / 2], kFirst[i % 2]);
      const std::uint32_t high = magic(q[i / 2], kFirst[i % 2] + 2);
      out[i] = __byte_perm(low, high, 0x7632);
    }
  }

 private:
  static __device__ __forceinline__ std::uint32_t magic(std::uint32_t word, int selector) {
    constexpr std::uint32_t k2To23 = 0x4b000000;  // 2^23: its mantissa's unit is 1
    const float value = __uint_as_float(__byte_perm(word, k2To23, selector));
    return __float_as_uint(value - 8388736.0f);  // 2^23 + 128
  }
};

}  // namespace marlin_moe
