#include "call.h"

#include <tvm/ffi/extra/c_env_api.h>

#include <string>

#include "marlin_moe/host/cuda_status.h"

namespace marlin_moe {
namespace binding {

static ffi::Optional<ffi::Function>& empty_function() {
  static thread_local ffi::Optional<ffi::Function> function;
  return function;
}

void set_empty(ffi::AnyView function) {
  empty_function() = function.cast<ffi::Optional<ffi::Function>>();
}

Call::~Call() {
  if (previous_device_ >= 0 && previous_device_ != device()) cudaSetDevice(previous_device_);
}

const Operand& Call::here(const char* name, const Operand& operand) const {
  if (operand && operand.tensor->device.device_id != device()) {
    refuse(name, "a tensor on CUDA device " + std::to_string(operand.tensor->device.device_id),
           "one on CUDA device " + std::to_string(device()) + ", as " + name_ + " is");
  }
  return operand;
}

cudaStream_t Call::stream() {
  if (previous_device_ < 0) {
    check(cuda_status(cudaGetDevice(&previous_device_), "cudaGetDevice"));
    if (previous_device_ != device()) {
      check(cuda_status(cudaSetDevice(device()), "cudaSetDevice"));
    }
  }
  return static_cast<cudaStream_t>(TVMFFIEnvGetStream(kDLCUDA, device()));
}

ffi::Tensor Call::empty(const char* name, ffi::ShapeView shape, const DLDataType& dtype) {
  stream();  // frameworks allocate on the current device
  const DLDevice device{kDLCUDA, this->device()};
  if (TVMFFIEnvGetDLPackManagedTensorAllocator() != nullptr) {
    return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, dtype, device);
  }
  if (empty_function().has_value()) {
    return (*empty_function())(ffi::Shape(shape), ffi::DLDataTypeToString(dtype), device.device_id)
        .cast<ffi::Tensor>();
  }
  refuse(name, "None", "a tensor: the framework of " + std::string(name_) + " makes none here");
}

Output take_output(Call& call, const char* name, ffi::AnyView given, Dtypes dtypes,
                   Dimensions dimensions, const char* layout) {
  if (given != nullptr) {
    return {{}, call.here(name, take(name, given, dtypes, dimensions, layout))};
  }
  const ffi::ShapeView shape(dimensions.begin(), dimensions.size());
  const ffi::Tensor made = call.empty(name, shape, *dtypes.begin());
  return {made, Operand{made.GetDLTensorPtr()}};
}

}  // namespace binding
}  // namespace marlin_moe
