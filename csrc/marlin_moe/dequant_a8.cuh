// Four-bit weights as the operands of 8-bit tensor-core products, exactly.
//
// A lane holds sixteen weights of a 32×16 tile, a word for column c = lane / 4 and one for column
// c + 8. Elements 0 to 3 are rows 4 (lane % 4) + {0 … 3}, elements 4 to 7 the same 16 rows further
// down; nibbles are in the order [0, 4, 1, 5, 2, 6, 3, 7], so the low nibbles of the four bytes are
// the first register of mma's B operand, the high nibbles the second.
#pragma once

#include <cstdint>

#include "ptx.cuh"
#include "scalar_type.hpp"

namespace marlin_moe {

// Weights as numbers of the activations' type. Specialisations have
//   decode(nibbles, zeros)   four bytes, from the low nibbles of four bytes; `zeros` is the zero
//   point
//                            in every byte
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId, MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct WeightDecoder8;

template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId>
struct WeightDecoder8<kBId, MARLIN_TYPE_NAMESPACE::kS8.id()> {
  static __device__ __forceinline__ std::uint32_t decode(std::uint32_t nibbles,
                                                         std::uint32_t zeros) {
    // 128 more keep borrows inside their byte.
    return (mask_or(nibbles, 0x0f0f0f0f, 0x80808080) - zeros) ^ 0x80808080;
  }
};

// e4m3 counts in steps of 2^-9 from 0 to 15. Packers code a weight q with the zero point z as q - z
// where that is not negative, and as 15 - q where it is: then code + z is 16 or more, and the
// magnitude is code + z - 15. What the steps owe is in the scales: packers multiply them by 512.
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId>
struct WeightDecoder8<kBId, MARLIN_TYPE_NAMESPACE::kFE4M3fn.id()> {
  static __device__ __forceinline__ std::uint32_t decode(std::uint32_t nibbles,
                                                         std::uint32_t zeros) {
    const std::uint32_t codes = nibbles & 0x0f0f0f0fu;
    const std::uint32_t negative = spread_byte_signs((codes + zeros) << 3);
    return codes + (negative & (zeros + 0x71717171u));  // 128 for the sign, less 15
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

// The product of A(16×32, row-major) and B(32×8, column-major), added to `c`, in accumulators of
// four registers. Int8 counts in int32; e4m3 in float, kept as bits.
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct Product8;

template <>
struct Product8<MARLIN_TYPE_NAMESPACE::kS8.id()> {
  // Sums start at the bits of 1.5 · 2^23, whose mantissa's unit is 1: as long as they stay below
  // 2^22 they can be read as floats. 64 rows reach 64 · 128 · 15.
  static constexpr std::uint32_t kStart = 0x4b400000;
  static __device__ __forceinline__ float value(std::uint32_t sum) {
    return __uint_as_float(sum) - 12582912.0f;
  }
  static __device__ __forceinline__ void mma(std::uint32_t (&acc)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
#if MARLIN_SM75_PATH
    mma_8x8x16(acc[0], acc[1], a[0], b[0]);
    mma_8x8x16(acc[0], acc[1], a[2], b[1]);
    mma_8x8x16(acc[2], acc[3], a[1], b[0]);
    mma_8x8x16(acc[2], acc[3], a[3], b[1]);
#else
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+r"(acc[0]), "+r"(acc[1]), "+r"(acc[2]), "+r"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }

 private:
  // A quarter of the product above, the largest that sm_75 has.
  static __device__ __forceinline__ void mma_8x8x16(std::uint32_t& c0, std::uint32_t& c1,
                                                    std::uint32_t a, std::uint32_t b) {
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};\n"
        : "+r"(c0), "+r"(c1)
        : "r"(a), "r"(b));
  }
};

template <>
struct Product8<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id()> {
  static constexpr std::uint32_t kStart = 0;
  static __device__ __forceinline__ float value(std::uint32_t sum) { return __uint_as_float(sum); }
  static __device__ __forceinline__ void mma(std::uint32_t (&acc)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+r"(acc[0]), "+r"(acc[1]), "+r"(acc[2]), "+r"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

}  // namespace marlin_moe
