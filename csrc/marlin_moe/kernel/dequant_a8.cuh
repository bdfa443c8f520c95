// Four-bit weights as the operands of 8-bit tensor-core products, exactly.
//
// A lane holds sixteen weights of a 32×16 tile, a word for column c = lane / 4 and one for column
// c + 8. Elements 0 to 3 are rows 4 (lane % 4) + {0 … 3}, elements 4 to 7 the same 16 rows further
// down; nibbles are in the order [0, 4, 1, 5, 2, 6, 3, 7], so the low nibbles of the four bytes are
// the first register of mma's B operand, the high nibbles the second.
#pragma once

#include <cstdint>

#include "marlin_moe/scalar_type.hpp"
#include "ptx.cuh"

namespace marlin_moe {

// Weights as numbers of the activations' type. Specialisations have
//   decode(nibbles, zeros)   four bytes, from the low nibbles of four bytes; `zeros` is the zero
//   point
//                            in every byte
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kBId, MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct WeightDecoder8;

// The product of A(16×32, row-major) and B(32×8, column-major), added to `c`, in accumulators of
// four registers. Int8 counts in int32; e4m3 in float, kept as bits.
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kAId>
struct Product8;

}  // namespace marlin_moe
