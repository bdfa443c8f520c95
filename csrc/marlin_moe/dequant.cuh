// Packed weights to pairs of 16-bit floating-point numbers, exactly.
//
// The trick (Marlin, arXiv 2408.11743): a small integer or-ed into the mantissa of a power of two is
// that power plus the integer. One subtraction leaves the integer, and can take the zero point away
// in the same step.
//
// A word holds eight weights of a 16×16 tile: lane i has column i / 4 in elements 0 to 3 (rows
// 2 (i % 4) + {0, 1, 8, 9}) and column i / 4 + 8 in elements 4 to 7. Its nibbles are in the order
// [0, 2, 4, 6, 1, 3, 5, 7], so a mask of one nibble per half-word yields two neighbouring rows.
#pragma once

#include <cstdint>

#include "element_types.cuh"
#include "ptx.cuh"
#include "scalar_type.hpp"

namespace marlin_moe {

// Offsets that take the zero point (and the magic power) away from one column's weights, as pairs
// with both halves equal: `even` for rows 2q + {0, 1}, `odd` for rows 2q + {8, 9}.
struct ZeroOffset {
  std::uint32_t even;
  std::uint32_t odd;
};

// How 4-bit weights become numbers of type A. Specialisations have
//   kBias                      constant zero points of the type that has them
//   offset<zero>()             the offsets of a constant zero point
//   offsets(word, j, lo, hi)   the offsets of columns 16 j + c and 16 j + c + 8, from a packed word of
//                              zero points (nibbles interleaved like the weights')
//   unpack(q, lo, hi, out)     out: rows {0,1}, {8,9} of the first column, then of the second
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct NibbleDecoder;

template <>
struct NibbleDecoder<MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
  using Element = ElementType<MARLIN_TYPE_NAMESPACE::kFloat16.id()>;
  static constexpr std::uint32_t kLowMask = 0x000f000f;
  static constexpr std::uint32_t kHighMask = 0x00f000f0;
  static constexpr std::uint32_t k1024 = 0x64006400;       // 1024: its mantissa's unit is 1
  static constexpr std::uint32_t kMinus1024 = 0xe400e400;
  static constexpr std::uint32_t k960 = 0x63806380;
  static constexpr std::uint32_t kMinus1 = 0xbc00bc00;
  static constexpr std::uint32_t kSixteenth = 0x2c002c00;

  // Low nibbles owe 1024 + zero; high nibbles, 16 times too large, owe 64 + zero once scaled.
  template <int kZero>
  static __device__ __forceinline__ ZeroOffset offset() {
    static_assert(kZero == 0 || kZero == 8, "zero points of 4-bit types");
    return kZero == 8 ? ZeroOffset{0xe408e408u, 0xd480d480u} : ZeroOffset{kMinus1024, 0xd400d400u};
  }

  static __device__ __forceinline__ void offsets(std::uint32_t word, int j, ZeroOffset& lo,
                                                 ZeroOffset& hi) {
    const std::uint32_t even = mask_or(word >> (4 * j), kLowMask, kMinus1024);
    const std::uint32_t odd = Element::add(even, k960);
    lo = {broadcast_low(even), broadcast_low(odd)};
    hi = {broadcast_high(even), broadcast_high(odd)};
  }

  static __device__ __forceinline__ void unpack(std::uint32_t q, const ZeroOffset& lo,
                                                const ZeroOffset& hi, std::uint32_t (&out)[4]) {
    out[0] = Element::add(mask_or(q, kLowMask, k1024), lo.even);
    out[1] = Element::fma(mask_or(q, kHighMask, k1024), kSixteenth, lo.odd);
    q >>= 8;
    out[2] = Element::add(mask_or(q, kLowMask, k1024), hi.even);
    out[3] = Element::fma(mask_or(q, kHighMask, k1024), kSixteenth, hi.odd);
  }
};

template <>
struct NibbleDecoder<MARLIN_TYPE_NAMESPACE::kBFloat16.id()> {
  using Element = ElementType<MARLIN_TYPE_NAMESPACE::kBFloat16.id()>;
  static constexpr std::uint32_t kLowMask = 0x000f000f;
  static constexpr std::uint32_t k128 = 0x43004300;  // 128: its mantissa's unit is 1
  static constexpr std::uint32_t kMinus128 = 0xc300c300;

  // bf16 has no room for a nibble four bits up: every nibble is shifted down first.
  template <int kZero>
  static __device__ __forceinline__ ZeroOffset offset() {
    static_assert(kZero == 0 || kZero == 8, "zero points of 4-bit types");
    return kZero == 8 ? ZeroOffset{0xc308c308u, 0xc308c308u} : ZeroOffset{kMinus128, kMinus128};
  }

  static __device__ __forceinline__ void offsets(std::uint32_t word, int j, ZeroOffset& lo,
                                                 ZeroOffset& hi) {
    const std::uint32_t both = mask_or(word >> (4 * j), kLowMask, kMinus128);
    lo.even = lo.odd = broadcast_low(both);
    hi.even = hi.odd = broadcast_high(both);
  }

  static __device__ __forceinline__ void unpack(std::uint32_t q, const ZeroOffset& lo,
                                                const ZeroOffset& hi, std::uint32_t (&out)[4]) {
    out[0] = Element::add(mask_or(q, kLowMask, k128), lo.even);
    out[1] = Element::add(mask_or(q >> 4, kLowMask, k128), lo.odd);
    out[2] = Element::add(mask_or(q >> 8, kLowMask, k128), hi.even);
    out[3] = Element::add(mask_or(q >> 12, kLowMask, k128), hi.odd);
  }
};

// What the main loop has to know about a weight type.
//   kBits             width of a weight
//   kHasZeroPoints    zero points come from memory
//   kZero             the zero point otherwise
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId>
struct WeightType;

template <>
struct WeightType<MARLIN_TYPE_NAMESPACE::kU4B8.id()> {
  static constexpr int kBits = 4;
  static constexpr bool kHasZeroPoints = false;
  static constexpr int kZero = 8;
};

template <>
struct WeightType<MARLIN_TYPE_NAMESPACE::kU4.id()> {
  static constexpr int kBits = 4;
  static constexpr bool kHasZeroPoints = true;
  static constexpr int kZero = 0;
};

}  // namespace marlin_moe
