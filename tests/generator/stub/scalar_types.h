// Scalar types as the selector sees them: class-type constants with an integer identity.
#pragma once

#include <cstdint>

namespace vllm {

using ScalarTypeId = std::int64_t;

struct ScalarType {
  std::int32_t code;
  std::int32_t bias;

  constexpr ScalarTypeId id() const { return (static_cast<ScalarTypeId>(code) << 32) + bias; }
  constexpr bool operator==(const ScalarType& other) const {
    return code == other.code && bias == other.bias;
  }
};

inline constexpr ScalarType kFloat16{1, 0};
inline constexpr ScalarType kBFloat16{2, 0};
inline constexpr ScalarType kS8{3, 0};
inline constexpr ScalarType kFE4M3fn{4, 0};
inline constexpr ScalarType kU4{5, 0};
inline constexpr ScalarType kU4B8{5, 8};
inline constexpr ScalarType kU8B128{6, 128};
inline constexpr ScalarType kFE2M1f{7, 0};
inline constexpr ScalarType kFE8M0fnu{8, 0};
// No kernel has these two.
inline constexpr ScalarType kU8{6, 0};
inline constexpr ScalarType kUnheardOf{99, 0};

}  // namespace vllm
