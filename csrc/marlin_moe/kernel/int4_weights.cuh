// What kernels with 16-bit activations and four-bit integer weights need: their decoders.
#pragma once

#include <cstdint>

#include "dequant.cuh"
#include "element_types.cuh"
#include "multiplier.cuh"
#include "ptx.cuh"

namespace marlin_moe {

template <>
struct NibbleDecoder<MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
  using Element = ElementType<MARLIN_TYPE_NAMESPACE::kFloat16.id()>;
  static constexpr std::uint32_t kLowMask = 0x000f000f;
  static constexpr std::uint32_t kHighMask = 0x00f000f0;
  static constexpr std::uint32_t k1024 = 0x64006400;  // 1024: its mantissa's unit is 1
  static constexpr std::uint32_t kMinus1024 = 0xe400e400;
  static constexpr std::uint32_t k960 = 0x63806380;
  static constexpr std::uint32_t kSixteenth = 0x2c002c00;

  // Low nibbles are offset by 1024 + zero; high nibbles, 16 times too large, by 64 + zero once
  // scaled.
  static constexpr ZeroOffset kOffset8{0xe408e408u, 0xd480d480u};

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
  static constexpr ZeroOffset kOffset8{0xc308c308u, 0xc308c308u};

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

template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct WeightDecoder<MARLIN_TYPE_NAMESPACE::kU4B8.id(), kAId> {
  static __device__ __forceinline__ void decode(const std::uint32_t* q, std::uint32_t (&out)[4]) {
    const ZeroOffset zero = NibbleDecoder<kAId>::kOffset8;
    NibbleDecoder<kAId>::unpack(*q, zero, zero, out);
  }
};

}  // namespace marlin_moe
