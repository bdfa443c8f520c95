// Packed weights and scales to pairs of 16-bit floating-point numbers, exactly.
//
// The trick (Marlin, arXiv 2408.11743): a small integer or-ed into the mantissa of a power of two
// is that power plus the integer. One subtraction leaves the integer, and can take the zero point
// away in the same step. A small floating-point number is shifted into the fields of a larger one.
// It comes out too small by a power of two, the difference of the exponents' biases: its exponent
// deficit. The scales, the finished sums or both are multiplied by that power.
//
// A lane holds eight weights of a 16×16 tile: column c = lane / 4 in elements 0 to 3 (rows
// 2 (lane % 4) + {0, 1, 8, 9}) and column c + 8 in elements 4 to 7. Four-bit weights are one word,
// its nibbles in the order [0, 2, 4, 6, 1, 3, 5, 7], so that one nibble per half-word are two
// neighbouring rows; eight-bit weights are two words with bytes in the order [0, 2, 1, 3].
#pragma once

#include <cstdint>

#include "element_types.cuh"
#include "marlin_moe/scalar_type.hpp"
#include "ptx.cuh"

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
//                              of zero points (nibbles interleaved like the weights')
//   unpack(q, lo, hi, out)     out: rows {0,1}, {8,9} of the first column, then of the second
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct NibbleDecoder;

// Weights of a type B without zero points in memory as numbers of type A. Specialisations have
//   decode(q, out)   a tile's words to out as NibbleDecoder::unpack() orders it
// Exponent deficits: fp8 8 (f16) or 120 (bf16), fp4 14 or 126.
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId, MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct WeightDecoder;

// A lane's scales of a group: columns c + 8 t of a warp's 64, t = 0 … 7, as they lie in shared
// memory, to four pairs (t = 0, 1), (2, 3), … of type A. Specialisations have
//   kWords           words in shared memory
//   decode(words, out)
//   kSumPower        what a finished sum still has to be multiplied by, as a power of two
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kSId, MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId,
          MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct ScaleDecoder {
  static_assert(MARLIN_TYPE_NAMESPACE::ScalarType::from_id(kSId).size_bits() == 16,
                "8-bit scales have decoders of their own");
  static constexpr int kWords = 4;
  // Packers multiply the scales of fp8 weights by the weights' exponent deficit.
  static constexpr int kSumPower = 0;
  static __device__ __forceinline__ void decode(const std::uint32_t (&words)[4],
                                                std::uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = words[i];
  }
};

}  // namespace marlin_moe
