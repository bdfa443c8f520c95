// Packed weights and scales to pairs of 16-bit floating-point numbers, exactly.
//
// The trick (Marlin, arXiv 2408.11743): a small integer or-ed into the mantissa of a power of two
// is that power plus the integer. One subtraction leaves the integer, and can take the zero point
// away in the same step. A small floating-point number is shifted into the fields of a larger one;
// the difference of the exponents' biases is owed, and paid by the scales or the finished sums.
//
// A lane holds eight weights of a 16×16 tile: column c = lane / 4 in elements 0 to 3 (rows
// 2 (lane % 4) + {0, 1, 8, 9}) and column c + 8 in elements 4 to 7. Four-bit weights are one word,
// its nibbles in the order [0, 2, 4, 6, 1, 3, 5, 7], so that one nibble per half-word are two
// neighbouring rows; eight-bit weights are two words with bytes in the order [0, 2, 1, 3].
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

// Four-bit integers as numbers of type A. Specialisations have
//   kOffset8                   the offsets of the constant zero point 8
//   offsets(word, j, lo, hi)   the offsets of columns 16 j + c and 16 j + c + 8, from a packed word
//   of
//                              zero points (nibbles interleaved like the weights')
//   unpack(q, lo, hi, out)     out: rows {0,1}, {8,9} of the first column, then of the second
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct NibbleDecoder;

template <>
struct NibbleDecoder<MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
  using Element = ElementType<MARLIN_TYPE_NAMESPACE::kFloat16.id()>;
  static constexpr std::uint32_t kLowMask = 0x000f000f;
  static constexpr std::uint32_t kHighMask = 0x00f000f0;
  static constexpr std::uint32_t k1024 = 0x64006400;  // 1024: its mantissa's unit is 1
  static constexpr std::uint32_t kMinus1024 = 0xe400e400;
  static constexpr std::uint32_t k960 = 0x63806380;
  static constexpr std::uint32_t kSixteenth = 0x2c002c00;

  // Low nibbles owe 1024 + zero; high nibbles, 16 times too large, owe 64 + zero once scaled.
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

// Weights of a type B without zero points in memory as numbers of type A. Specialisations have
//   decode(q, out)   a tile's words to out as NibbleDecoder::unpack() orders it
// Floating-point weights come out too small by the difference of the biases: fp8 by 2^8 (f16) or
// 2^120 (bf16), fp4 by 2^14 or 2^126.
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId, MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct WeightDecoder;

template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct WeightDecoder<MARLIN_TYPE_NAMESPACE::kU4B8.id(), kAId> {
  static __device__ __forceinline__ void decode(const std::uint32_t* q, std::uint32_t (&out)[4]) {
    const ZeroOffset zero = NibbleDecoder<kAId>::kOffset8;
    NibbleDecoder<kAId>::unpack(*q, zero, zero, out);
  }
};

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

// A lane's scales of a group: columns c + 8 t of a warp's 64, t = 0 … 7, as they lie in shared
// memory, to four pairs (t = 0, 1), (2, 3), … of type A. Specialisations have
//   kWords           words in shared memory
//   decode(words, out)
//   kSumPower        what a finished sum still has to be multiplied by, as a power of two
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kSId, MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct ScaleDecoder {
  static_assert(kSId == kAId, "scales have the output's type, or one of the types below");
  static constexpr int kWords = 4;
  // The scales of fp8 weights hold what the weights owe: packers put it there.
  static constexpr int kSumPower = 0;
  static __device__ __forceinline__ void decode(const std::uint32_t (&words)[4],
                                                std::uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = words[i];
  }
};

// NVFP4: non-negative, times 2^7, in eight bits of which five are the exponent: the upper byte of
// the f16 number, without its sign. Bytes are in the order [0, 2, 1, 3].
template <>
struct ScaleDecoder<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id(), MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
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
struct ScaleDecoder<MARLIN_TYPE_NAMESPACE::kFE4M3fn.id(), MARLIN_TYPE_NAMESPACE::kBFloat16.id()> {
  using Element = ElementType<MARLIN_TYPE_NAMESPACE::kBFloat16.id()>;
  static constexpr int kWords = 2;
  // The global scale holds 2^(126 - 7). Here 2^63 of it are taken early, so that the products stay
  // away from the subnormal numbers. The shift leaves 2^-112 times the scale.
  static constexpr int kSumPower = -63;
  static __device__ __forceinline__ void decode(const std::uint32_t (&words)[2],
                                                std::uint32_t (&out)[4]) {
    constexpr std::uint32_t k2To112 = 0x77807780;
    constexpr std::uint32_t k2To63 = 0x5f005f00;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bytes = i % 2 == 0 ? words[i / 2] << 8 : words[i / 2];
      out[i] = Element::mul(Element::mul((bytes & 0xff00ff00) >> 4, k2To112), k2To63);
    }
  }
};

// MXFP4: the exponent field of bf16. Half of the 2^126 that the weights owe is paid here, held
// below infinity, the other half by the sums: all of it at once would overflow.
template <>
struct ScaleDecoder<MARLIN_TYPE_NAMESPACE::kFE8M0fnu.id(), MARLIN_TYPE_NAMESPACE::kBFloat16.id()> {
  static constexpr int kWords = 2;
  static constexpr int kSumPower = 63;
  static __device__ __forceinline__ void decode(const std::uint32_t (&words)[2],
                                                std::uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t exponents = (i % 2 == 0 ? words[i / 2] : words[i / 2] >> 8) & 0x00ff00ff;
      out[i] = __vminu2(exponents + 0x003f003f, 0x00fe00fe) << 7;
    }
  }
};

}  // namespace marlin_moe
