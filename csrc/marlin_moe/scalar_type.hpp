// The scalar types of activations, weights, scales and outputs, as compile-time values.
//
// A type is a small literal struct; id() packs it into one integer, because a C++17 template cannot
// take a class as a parameter. The kernels are instantiated on ids, the host compares types.
#pragma once

#include <cstdint>

// The namespace of the type constants. Generated kernel files define it to the rule's
// `type_namespace`; everybody else gets the default.
#ifndef MARLIN_TYPE_NAMESPACE
#define MARLIN_TYPE_NAMESPACE vllm
#endif

namespace MARLIN_TYPE_NAMESPACE {

// Beside other things of the same name in this namespace, such as vLLM's own ScalarType: one
// program may hold both, linked statically. vllm::kU4B8 is still how to write a constant of this
// file.
inline namespace marlin_moe_types {

using ScalarTypeId = std::int64_t;

// A signed or unsigned integer (exponent == 0) or a floating-point number.
struct ScalarType {
  // Which bit patterns of a floating-point type are not finite numbers.
  enum NanRepr : std::uint8_t {
    kNanNone = 0,        // every pattern is a number
    kNanIeee = 1,        // IEEE 754: infinities and NaNs at the largest exponent
    kNanExtremeBits = 2  // no infinity; all ones (the OCP formats' "fn")
  };

  std::uint8_t exponent;  // exponent bits; 0: an integer
  std::uint8_t mantissa;  // mantissa bits, or an integer's value bits without the sign
  bool has_sign;
  std::int32_t bias;  // subtracted from the stored integer to get the value
  NanRepr nan_repr;

  // Width in bits.
  constexpr int size_bits() const { return exponent + mantissa + (has_sign ? 1 : 0); }
  constexpr bool is_integer() const { return exponent == 0; }

  // A number that identifies the type: distinct types have distinct ids, stable across builds.
  // From the low end: exponent 8 bits, mantissa 8, sign 1, NaN representation 7, bias 32.
  constexpr ScalarTypeId id() const {
    return static_cast<ScalarTypeId>(exponent) | (static_cast<ScalarTypeId>(mantissa) << 8) |
           (static_cast<ScalarTypeId>(has_sign ? 1 : 0) << 16) |
           (static_cast<ScalarTypeId>(nan_repr) << 17) |
           (static_cast<ScalarTypeId>(static_cast<std::uint32_t>(bias)) << 24);
  }

  // The type with a given id().
  static constexpr ScalarType from_id(ScalarTypeId id) {
    return ScalarType{static_cast<std::uint8_t>(id & 0xff),
                      static_cast<std::uint8_t>((id >> 8) & 0xff), ((id >> 16) & 1) != 0,
                      static_cast<std::int32_t>(static_cast<std::uint32_t>(id >> 24)),
                      static_cast<NanRepr>((id >> 17) & 0x7f)};
  }

  constexpr bool operator==(const ScalarType& other) const { return id() == other.id(); }
  constexpr bool operator!=(const ScalarType& other) const { return id() != other.id(); }
};

// The table of private/families.bzl as C++ constants.
inline constexpr ScalarType kFloat16{5, 10, true, 0, ScalarType::kNanIeee};
inline constexpr ScalarType kBFloat16{8, 7, true, 0, ScalarType::kNanIeee};
inline constexpr ScalarType kS8{0, 7, true, 0, ScalarType::kNanNone};
inline constexpr ScalarType kU4{0, 4, false, 0, ScalarType::kNanNone};
inline constexpr ScalarType kU4B8{0, 4, false, 8, ScalarType::kNanNone};
inline constexpr ScalarType kU8B128{0, 8, false, 128, ScalarType::kNanNone};
inline constexpr ScalarType kFE4M3fn{4, 3, true, 0, ScalarType::kNanExtremeBits};
inline constexpr ScalarType kFE2M1f{2, 1, true, 0, ScalarType::kNanNone};
inline constexpr ScalarType kFE8M0fnu{8, 0, false, 0, ScalarType::kNanExtremeBits};

}  // namespace marlin_moe_types

}  // namespace MARLIN_TYPE_NAMESPACE
