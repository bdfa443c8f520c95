// What kernels with e4m3 activations need: the decoders of weights, and the product.
#pragma once

#include <cstdint>

#include "dequant_a8.cuh"
#include "element_types.cuh"
#include "multiplier_a8.cuh"
#include "ptx.cuh"

namespace marlin_moe {

// e4m3 counts in steps of 2^-9 from 0 to 15. Packers code a weight q with the zero point z as q - z
// where that is not negative, and as 15 - q where it is: then code + z is 16 or more, and the
// magnitude is code + z - 15. Packers multiply the scales by the exponent deficit of the steps,
// 2^9.
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId>
struct WeightDecoder8<kBId, MARLIN_TYPE_NAMESPACE::kFE4M3fn.id()> {
  static __device__ __forceinline__ std::uint32_t decode(std::uint32_t nibbles,
                                                         std::uint32_t zeros) {
    const std::uint32_t codes = nibbles & 0x0f0f0f0fu;
    const std::uint32_t negative = spread_byte_signs((codes + zeros) << 3);
    return codes + (negative & (zeros + 0x71717171u));  // 128 for the sign, less 15
  }
};

// With the zero point 8 a code's top bit is the sign, and counts one step of the magnitude.
template <>
struct WeightDecoder8<MARLIN_TYPE_NAMESPACE::kU4B8.id(), MARLIN_TYPE_NAMESPACE::kFE4M3fn.id()> {
  static __device__ __forceinline__ std::uint32_t decode(std::uint32_t nibbles, std::uint32_t) {
    // 128 for the sign and 1 for the step, in the place of 8. The product takes another pipe.
    const std::uint32_t signs = nibbles >> 3 & 0x01010101u;
    return signs * 0x79u + (nibbles & 0x0f0f0f0fu);
  }
};

// e2m1's two exponent bits are the low ones of e4m3's four, its mantissa bit the top one of three.
// The biases differ by 6.
template <>
struct WeightDecoder8<MARLIN_TYPE_NAMESPACE::kFE2M1f.id(), MARLIN_TYPE_NAMESPACE::kFE4M3fn.id()> {
  static __device__ __forceinline__ std::uint32_t decode(std::uint32_t nibbles, std::uint32_t) {
    return (nibbles & 0x08080808u) << 4 | (nibbles & 0x07070707u) << 2;
  }
};

template <>
struct Product8<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id()> {
  static constexpr std::uint32_t kStart = 0;
  static __device__ __forceinline__ float value(std::uint32_t sum) { return __uint_as_float(sum); }
  static __device__ __forceinline__ void mma(std::uint32_t (&acc)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+r"(acc[0]), "+r"(acc[1]), "+r"(acc[2]), "+r"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

}  // namespace marlin_moe
