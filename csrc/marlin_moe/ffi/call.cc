#include "call.h"

#include <tvm/ffi/extra/c_env_api.h>

#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
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

// Returns the pool that a device's scratch memory comes from. It keeps what is given back to it:
// the driver's own pools would return it at each synchronisation.
static cudaMemPool_t pool_of(int device) {
  static std::mutex mutex;
  static auto* pools = new std::map<int, cudaMemPool_t>;  // not destroyed: CUDA may be gone before
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = pools->find(device);
  if (found != pools->end()) return found->second;
  cudaMemPoolProps properties = {};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, device};
  cudaMemPool_t pool = nullptr;
  check(cuda_status(cudaMemPoolCreate(&pool, &properties), "cudaMemPoolCreate"));
  std::uint64_t all = std::numeric_limits<std::uint64_t>::max();
  check(cuda_status(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all),
                    "cudaMemPoolSetAttribute"));
  return (*pools)[device] = pool;
}

// Memory of a pool, as tvm-ffi makes tensors of it.
struct PoolMemory {
  cudaStream_t stream;

  void AllocData(DLTensor* tensor) const {
    const cudaError_t error = cudaMallocFromPoolAsync(&tensor->data, ffi::GetDataSize(*tensor),
                                                      pool_of(tensor->device.device_id), stream);
    check(cuda_status(error, "cudaMallocFromPoolAsync"));
  }
  void FreeData(DLTensor* tensor) const {
    int previous = -1;
    cudaGetDevice(&previous);
    cudaSetDevice(tensor->device.device_id);  // the default stream is the current device's
    cudaFreeAsync(tensor->data, stream);
    cudaSetDevice(previous);
  }
};

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

ffi::Tensor Call::scratch(std::int64_t bytes) {
  if (TVMFFIEnvGetDLPackManagedTensorAllocator() != nullptr || empty_function().has_value()) {
    return empty("workspace", {bytes}, kUint8);
  }
  return ffi::Tensor::FromNDAlloc(PoolMemory{stream()}, ffi::ShapeView{bytes}, kUint8,
                                  DLDevice{kDLCUDA, device()});
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
