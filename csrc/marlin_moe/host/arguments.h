// How refused arguments are put into words, for all entry points of the host API.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

inline Status invalid(const std::string& argument, const std::string& given,
                      const std::string& allowed) {
  return {StatusCode::kInvalidArgument,
          argument + " = " + given + " is not allowed; allowed: " + allowed};
}

inline Status invalid(const std::string& argument, std::int64_t given, const std::string& allowed) {
  return invalid(argument, std::to_string(given), allowed);
}

inline bool is_aligned(const void* pointer, std::uintptr_t alignment) {
  return pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0;
}

inline Status check_pointer(const char* argument, const void* pointer, std::uintptr_t alignment) {
  if (is_aligned(pointer, alignment)) return {};
  if (pointer == nullptr) return invalid(argument, "null", "a device pointer");
  return invalid(argument, "a misaligned pointer",
                 "a device pointer aligned to " + std::to_string(alignment) + " bytes");
}

// The scalar types and the names of their constants.
struct TypeName {
  ScalarType type;
  const char* name;
};
inline constexpr TypeName kTypeNames[] = {{MARLIN_TYPE_NAMESPACE::kFloat16, "kFloat16"},
                                          {MARLIN_TYPE_NAMESPACE::kBFloat16, "kBFloat16"},
                                          {MARLIN_TYPE_NAMESPACE::kS8, "kS8"},
                                          {MARLIN_TYPE_NAMESPACE::kU4, "kU4"},
                                          {MARLIN_TYPE_NAMESPACE::kU4B8, "kU4B8"},
                                          {MARLIN_TYPE_NAMESPACE::kU8B128, "kU8B128"},
                                          {MARLIN_TYPE_NAMESPACE::kFE4M3fn, "kFE4M3fn"},
                                          {MARLIN_TYPE_NAMESPACE::kFE2M1f, "kFE2M1f"},
                                          {MARLIN_TYPE_NAMESPACE::kFE8M0fnu, "kFE8M0fnu"}};

inline std::string type_name(const ScalarType& type) {
  for (const TypeName& entry : kTypeNames) {
    if (entry.type == type) return entry.name;
  }
  return "the unknown type " + std::to_string(type.id());
}

// `context` follows the given type in the message: another argument that limits this one.
inline Status check_type(const char* argument, const ScalarType& given,
                         std::initializer_list<ScalarType> allowed,
                         const std::string& context = "") {
  for (const ScalarType& choice : allowed) {
    if (choice == given) return {};
  }
  std::string names;
  for (const ScalarType& choice : allowed) names += (names.empty() ? "" : ", ") + type_name(choice);
  return invalid(argument, type_name(given) + context, names);
}

}  // namespace marlin_moe
