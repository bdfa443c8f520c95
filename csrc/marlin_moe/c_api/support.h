// What the functions of the C interface share: status codes and messages, checks of structs, types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "marlin_moe/host/arguments.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

// Keeps the message of a failure for marlin_moe_last_error() and returns the code.
int report(const Status& status);

// Sets *type to the one that a marlin_moe_type names.
Status to_type(const char* argument, std::int32_t given, ScalarType* type);

// Whether a struct is of this library's size.
template <class Struct>
Status check_size(const char* argument, const Struct& given) {
  if (given.struct_size == sizeof(Struct)) return {};
  return invalid(argument, static_cast<std::int64_t>(given.struct_size),
                 std::to_string(sizeof(Struct)) + ", this library's");
}

// Whether a struct of arguments is there and of this library's size.
template <class Args>
Status check_struct(const Args* args) {
  if (args == nullptr) return invalid("args", "null", "a struct of arguments");
  return check_size("struct_size", *args);
}

inline Status check_out(const char* argument, const void* pointer) {
  if (pointer != nullptr) return {};
  return invalid(argument, "null", "where the result goes");
}

}  // namespace marlin_moe
