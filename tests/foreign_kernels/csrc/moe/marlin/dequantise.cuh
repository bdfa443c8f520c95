// Decodes the foreign tree's 4-bit weights.
#pragma once

#include "core/scalar_type.hpp"

namespace foreign {

template <types::ScalarTypeId type_id>
__device__ float dequantise(int bits) {
  static_assert(type_id == types::kU4B8.id(), "4-bit weights only");
  return static_cast<float>((bits & 0xf) - 8);
}

}  // namespace foreign
