// What kernels with int8 activations need: the decoders of weights, and the product.
#pragma once

#include <cstdint>

#include "dequant_a8.cuh"
#include "element_types.cuh"
#include "multiplier_a8.cuh"
#include "ptx.cuh"

namespace marlin_moe {

template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId>
struct WeightDecoder8<kBId, MARLIN_TYPE_NAMESPACE::kS8.id()> {
  static __device__ __forceinline__ std::uint32_t decode(std::uint32_t nibbles,
                                                         std::uint32_t zeros) {
    // 128 more keep borrows inside their byte.
    return (mask_or(nibbles, 0x0f0f0f0f, 0x80808080) - zeros) ^ 0x80808080;
  }
};

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
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+r"(acc[0]), "+r"(acc[1]), "+r"(acc[2]), "+r"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }

 private:
  // A quarter of the product above, the largest that sm_75 has.
  static __device__ __forceinline__ void mma_8x8x16(std::uint32_t& c0, std::uint32_t& c1,
                                                    std::uint32_t a, std::uint32_t b) {
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};\n"
                 : "+r"(c0), "+r"(c1)
                 : "r"(a), "r"(b));
  }
};

}  // namespace marlin_moe
