#include "arguments.h"

#include <cctype>
#include <limits>

#include "marlin_moe/host/arguments.h"

namespace marlin_moe {
namespace binding {

namespace types = MARLIN_TYPE_NAMESPACE;

static const char* kind_of(StatusCode code) {
  switch (code) {
    case StatusCode::kInvalidArgument:
      return "marlin_moe.InvalidArgumentError";
    case StatusCode::kInsufficientWorkspace:
      return "marlin_moe.InsufficientWorkspaceError";
    case StatusCode::kNoKernel:
      return "marlin_moe.NoKernelError";
    default:
      return "marlin_moe.CudaError";
  }
}

void check(const Status& status, const char* step) {
  if (status.ok()) return;
  const std::string prefix = step == nullptr ? "" : std::string(step) + ": ";
  throw ffi::Error(kind_of(status.code), prefix + status.message, "");
}

void refuse(const std::string& name, const std::string& given, const std::string& allowed) {
  check(invalid(name, given, allowed));
  throw ffi::Error("InternalError", "a refusal was no error", "");
}

std::string describe(ffi::AnyView given) {
  if (given == nullptr) return "None";
  if (given.type_index() == ffi::TypeIndex::kTVMFFIBool)
    return given.cast<bool>() ? "True" : "False";
  if (const auto number = given.as<std::int64_t>()) return std::to_string(*number);
  if (given.type_index() == ffi::TypeIndex::kTVMFFIFloat)
    return std::to_string(given.cast<double>());
  if (const auto text = given.as<ffi::String>()) return "'" + std::string(*text) + "'";
  if (given.try_cast<DLTensor*>()) return "a tensor";
  const std::string key = given.GetTypeKey();
  if (key == "ffi.OpaquePyObject") return "an object of another kind";
  if (key == "ffi.Array") return "a list";
  if (key == "ffi.Map") return "a dictionary";
  return "a value of type " + key;
}

int to_int(const char* name, ffi::AnyView given) {
  using Limits = std::numeric_limits<int>;
  const auto number = given.as<std::int64_t>();
  if (number && *number >= Limits::min() && *number <= Limits::max()) {
    return static_cast<int>(*number);
  }
  refuse(name, describe(given), "an integer of 32 bits");
}

bool to_bool(const char* name, ffi::AnyView given) {
  if (given.type_index() == ffi::TypeIndex::kTVMFFIBool) return given.cast<bool>();
  refuse(name, describe(given), "True, False");
}

float to_positive(const char* name, ffi::AnyView given) {
  const auto number = given.try_cast<double>();
  const bool truth = given.type_index() == ffi::TypeIndex::kTVMFFIBool;
  if (number && !truth && *number > 0 && *number <= std::numeric_limits<float>::max()) {
    return static_cast<float>(*number);
  }
  refuse(name, describe(given), "a positive number of 32 bits");
}

ScalarType to_type(const char* name, ffi::AnyView given) {
  std::string names;
  const auto text = given.as<ffi::String>();
  for (const auto& entry : kTypeNames) {
    if (text && std::string_view(text->data(), text->size()) == entry.name) return entry.type;
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  }
  refuse(name, describe(given), names);
}

DLDataType own_dtype(const ScalarType& type) {
  if (type == types::kFloat16) return kHalf;
  if (type == types::kBFloat16) return kBfloat;
  if (type == types::kS8) return {kDLInt, 8, 1};
  if (type == types::kFE4M3fn) return {kDLFloat8_e4m3fn, 8, 1};
  if (type == types::kFE8M0fnu) return {kDLFloat8_e8m0fnu, 8, 1};
  return kUint8;
}

bool holds(const DLDataType& dtype, const ScalarType& type) {
  if (dtype == own_dtype(type)) return true;
  if (dtype.lanes != 1 || type == types::kS8) return false;
  const bool integer = dtype.code == kDLUInt || (dtype.code == kDLInt && dtype.bits == 16);
  return integer && dtype.bits == type.size_bits();
}

ScalarType type_of(const char* type_name, ffi::AnyView named, const char* tensor_name,
                   const DLDataType& dtype) {
  if (named != nullptr) return to_type(type_name, named);
  std::string known;
  for (const ScalarType& type :
       {types::kFloat16, types::kBFloat16, types::kS8, types::kFE4M3fn, types::kFE8M0fnu}) {
    if (own_dtype(type) == dtype) return type;
    known += std::string(ffi::DLDataTypeToString(own_dtype(type))) + ", ";
  }
  refuse(tensor_name, "dtype " + std::string(ffi::DLDataTypeToString(dtype)),
         known + "or integers of the same width with " + type_name + " given");
}

std::int64_t Operand::elements() const {
  std::int64_t product = 1;
  for (int i = 0; i < tensor->ndim; ++i) product *= tensor->shape[i];
  return product;
}

std::int64_t Operand::row_stride() const {
  // What is in the stride of a single row is the producer's whim.
  const bool dense = tensor->strides == nullptr || tensor->shape[0] <= 1;
  return dense ? tensor->shape[1] : tensor->strides[0];
}

// "(8, any, 4)"
template <class Lengths>
static std::string shape_text(const Lengths& lengths) {
  std::string text;
  for (const std::int64_t length : lengths) {
    text += (text.empty() ? "" : ", ") + (length == kAny ? "any" : std::to_string(length));
  }
  return "(" + text + (lengths.size() == 1 ? ",)" : ")");
}

static ffi::ShapeView shape_of(const DLTensor& tensor) {
  return {tensor.shape, static_cast<std::size_t>(tensor.ndim)};
}

static void check_dtype(const char* name, const DLTensor& tensor, Dtypes dtypes) {
  if (dtypes.size() == 0) return;
  std::string names;
  for (const DLDataType& dtype : dtypes) {
    if (dtype == tensor.dtype) return;
    names += (names.empty() ? "" : ", ") + std::string(ffi::DLDataTypeToString(dtype));
  }
  refuse(name, "dtype " + std::string(ffi::DLDataTypeToString(tensor.dtype)), names);
}

static void check_shape(const char* name, const DLTensor& tensor, Dimensions dimensions,
                        const char* layout) {
  const ffi::ShapeView shape = shape_of(tensor);
  bool fits = shape.size() == dimensions.size();
  int i = 0;
  for (const std::int64_t wanted : dimensions) {
    if (!fits) break;
    const std::int64_t length = shape[static_cast<std::size_t>(i++)];
    fits = length <= std::numeric_limits<int>::max() && (wanted == kAny || length == wanted);
  }
  if (fits) return;
  refuse(name, "shape " + shape_text(shape),
         "shape " + shape_text(dimensions) + ", which is " + layout);
}

static void check_strides(const char* name, const DLTensor& tensor, Rows rows) {
  if (tensor.strides == nullptr) return;
  std::int64_t expected = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] == 0) return;
    if (i == 0 && rows == Rows::kStrided && tensor.ndim > 1) return;
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) {
      const ffi::ShapeView strides{tensor.strides, static_cast<std::size_t>(tensor.ndim)};
      refuse(
          name, "strides " + shape_text(strides) + " of shape " + shape_text(shape_of(tensor)),
          rows == Rows::kStrided ? "contiguous rows" : "row-major without gaps; see contiguous()");
    }
    expected *= tensor.shape[i];
  }
}

static const DLTensor& to_tensor(const char* name, ffi::AnyView given) {
  const auto tensor = given.try_cast<DLTensor*>();
  if (!tensor) refuse(name, describe(given), "a tensor on a CUDA device");
  const DLDeviceType device = (*tensor)->device.device_type;
  if (device == kDLCUDA || device == kDLCUDAManaged) return **tensor;
  refuse(name,
         device == kDLCPU        ? "a tensor on the CPU"
         : device == kDLCUDAHost ? "a tensor in pinned memory"
                                 : "a tensor on DLPack device type " + std::to_string(device),
         "a tensor on a CUDA device");
}

Operand take(const char* name, ffi::AnyView given, Dtypes dtypes, Dimensions dimensions,
             const char* layout, Rows rows) {
  const DLTensor& tensor = to_tensor(name, given);
  check_dtype(name, tensor, dtypes);
  check_shape(name, tensor, dimensions, layout);
  check_strides(name, tensor, rows);
  return {&tensor};
}

Operand take_optional(const char* name, ffi::AnyView given, Dtypes dtypes, Dimensions dimensions,
                      const char* layout) {
  if (given == nullptr) return {};
  return take(name, given, dtypes, dimensions, layout);
}

Operand take_elements(const char* name, ffi::AnyView given, const DLDataType& dtype,
                      std::int64_t elements, const char* layout) {
  const DLTensor& tensor = to_tensor(name, given);
  check_dtype(name, tensor, {dtype});
  if (tensor.ndim < 1 || tensor.ndim > 2) {
    refuse(name, "shape " + shape_text(shape_of(tensor)), layout);
  }
  check_strides(name, tensor, Rows::kDense);
  const Operand operand{&tensor};
  const std::int64_t found = operand.elements();
  if (found > std::numeric_limits<int>::max() || (elements != kAny && found != elements)) {
    refuse(name, "shape " + shape_text(shape_of(tensor)),
           elements == kAny ? "fewer elements"
                            : std::to_string(elements) + " elements, " + std::string(layout));
  }
  return operand;
}

void check_holds(const char* name, const Operand& operand, const ScalarType& type) {
  if (holds(operand.dtype(), type)) return;
  refuse(name, "dtype " + std::string(ffi::DLDataTypeToString(operand.dtype())),
         std::string(ffi::DLDataTypeToString(own_dtype(type))) + " for " + type_name(type) +
             ", or integers of the same width");
}

}  // namespace binding
}  // namespace marlin_moe
