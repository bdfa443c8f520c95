// What callers hand over: each argument is taken by its name, and refused by its name, with what
// was given and what is allowed.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {
namespace binding {

namespace ffi = tvm::ffi;

// Throws an ffi::Error of the kind `marlin_moe.InvalidArgumentError`.
[[noreturn]] void refuse(const std::string& name, const std::string& given,
                         const std::string& allowed);

// Throws an ffi::Error of the kind that the status names, unless it is fine; `step` says which part
// of a call it was.
void check(const Status& status, const char* step = nullptr);

// A value in words, for messages.
std::string describe(ffi::AnyView given);

// Numbers of 32 bits; a truth value is not one of them.
int to_int(const char* name, ffi::AnyView given);
bool to_bool(const char* name, ffi::AnyView given);

// A finite number above zero, an integer or not.
float to_positive(const char* name, ffi::AnyView given);

// The scalar type that a string such as `kU4B8` names.
ScalarType to_type(const char* name, ffi::AnyView given);

// Element types of tensors.
inline constexpr DLDataType kInt32{kDLInt, 32, 1};
inline constexpr DLDataType kUint32{kDLUInt, 32, 1};
inline constexpr DLDataType kUint8{kDLUInt, 8, 1};
inline constexpr DLDataType kFloat{kDLFloat, 32, 1};
inline constexpr DLDataType kHalf{kDLFloat, 16, 1};
inline constexpr DLDataType kBfloat{kDLBfloat, 16, 1};

// The element type that tensors of a scalar type are made with. Weights of four bits have none.
DLDataType own_dtype(const ScalarType& type);

// Whether a tensor of this element type may hold the scalar type: its own one, or, for frameworks
// that lack it, integers of the same width.
bool holds(const DLDataType& dtype, const ScalarType& type);

// The scalar type of a tensor's elements: the one named, or, where none is, the one that its
// element type tells.
ScalarType type_of(const char* type_name, ffi::AnyView named, const char* tensor_name,
                   const DLDataType& dtype);

// A tensor that was taken, or none.
struct Operand {
  const DLTensor* tensor = nullptr;

  explicit operator bool() const { return tensor != nullptr; }
  void* data() const {
    return tensor == nullptr ? nullptr : static_cast<char*>(tensor->data) + tensor->byte_offset;
  }
  template <class T>
  T* data_as() const {
    return static_cast<T*>(data());
  }
  int size(int dimension) const { return static_cast<int>(tensor->shape[dimension]); }
  std::int64_t elements() const;
  DLDataType dtype() const { return tensor->dtype; }
  // Elements between the rows of a matrix.
  std::int64_t row_stride() const;
};

// Lengths of a tensor's dimensions; kAny for one that may have any.
inline constexpr std::int64_t kAny = -1;
using Dimensions = std::initializer_list<std::int64_t>;
using Dtypes = std::initializer_list<DLDataType>;

// Whether there may be gaps between a matrix's rows.
enum class Rows { kDense, kStrided };

// Takes a tensor on a CUDA device and checks it; `layout` says in words what its dimensions are. No
// dtypes allow all.
Operand take(const char* name, ffi::AnyView given, Dtypes dtypes, Dimensions dimensions,
             const char* layout, Rows rows = Rows::kDense);

// The same; no tensor if None was given.
Operand take_optional(const char* name, ffi::AnyView given, Dtypes dtypes, Dimensions dimensions,
                      const char* layout);

// Takes a tensor of one or two dimensions that has so many elements.
Operand take_elements(const char* name, ffi::AnyView given, const DLDataType& dtype,
                      std::int64_t elements, const char* layout);

// Refuses a tensor whose elements cannot be of this type.
void check_holds(const char* name, const Operand& operand, const ScalarType& type);

}  // namespace binding
}  // namespace marlin_moe
