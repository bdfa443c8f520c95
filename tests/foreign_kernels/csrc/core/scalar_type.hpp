// Scalar types that share their names with those of the generator's table, and nothing else.
#pragma once

#include <cstdint>

namespace foreign::types {

using ScalarTypeId = std::int64_t;

class ScalarType {
 public:
  constexpr ScalarType(int bits, int zero_point) : bits_(bits), zero_point_(zero_point) {}
  constexpr ScalarTypeId id() const { return bits_ * 1000 + zero_point_; }
  constexpr bool operator==(const ScalarType& other) const { return id() == other.id(); }

 private:
  int bits_;
  int zero_point_;
};

inline constexpr ScalarType kFloat16(16, 0);
inline constexpr ScalarType kU4B8(4, 8);

}  // namespace foreign::types
