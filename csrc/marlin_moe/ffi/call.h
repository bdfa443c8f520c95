// One call of the binding: the device that its tensors are on, the stream that the caller's
// framework uses there, and new tensors of that framework.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "arguments.h"

namespace marlin_moe {
namespace binding {

class Call {
 public:
  // `like` decides device, stream and framework.
  Call(const char* name, const Operand& like) : name_(name), device_(like.tensor->device) {}
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Refuses a tensor that is on another device; passes on what is none.
  const Operand& here(const char* name, const Operand& operand) const;

  // Makes the device the current one until the call ends, and returns the stream.
  cudaStream_t stream();

  // A new, uninitialised tensor; `name` is the argument that the caller could have given instead.
  ffi::Tensor empty(const char* name, ffi::ShapeView shape, const DLDataType& dtype);

  // Scratch memory of the caller's framework; where that makes none, of a pool of the device's own,
  // in the order of the stream.
  ffi::Tensor scratch(std::int64_t bytes);

  int device() const { return device_.device_id; }

 private:
  const char* name_;
  DLDevice device_;
  int previous_device_ = -1;
};

// Where a result goes: what the caller gave, or what was made in its place.
struct Output {
  ffi::Optional<ffi::Tensor> made;
  Operand operand;
};

// Takes a result that the caller gave; makes one of the first of the dtypes if None was given.
Output take_output(Call& call, const char* name, ffi::AnyView given, Dtypes dtypes,
                   Dimensions dimensions, const char* layout);

// Makes `function(shape, dtype, device)` the source of new tensors of this thread while no
// framework has told tvm-ffi how it makes them; None removes it.
void set_empty(ffi::AnyView function);

}  // namespace binding
}  // namespace marlin_moe
