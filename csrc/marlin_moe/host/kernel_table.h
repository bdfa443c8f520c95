// The kernels that were built: their selection by key, and what the device says of each.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "marlin_moe/kernel/kernel.h"
#include "marlin_moe/moe_gemm.h"
#include "marlin_moe/plan/tile_shape.h"

namespace marlin_moe {

// What the launcher needs to know of a device.
struct DeviceInfo {
  int device;
  int multiprocessors;
  int max_shared_memory;  // bytes a block may have
  int capability;         // 10 * major + minor
};

// Sets *info to the current device's, which stays valid. Asks the driver once per device.
Status device_info(const DeviceInfo** info);

// The key that a kernel is found by, in words.
std::string describe_key(const MoeGemmArgs& args, const MoeGemmConfig& config,
                         const DeviceInfo& device);

// Whether a kernel can be launched, or why not.
enum class KernelState { kUsable, kNotBuilt, kNoDeviceCode, kTooMuchSharedMemory };

// What was built for a key: the kernel, its tile, and how many blocks a multiprocessor holds.
struct Kernel {
  MARLIN_NAMESPACE_NAME::MarlinFuncPtr function = nullptr;
  TileShape shape{};
  KernelState state = KernelState::kNotBuilt;
  int max_blocks_per_sm = 0;

  bool usable() const { return state == KernelState::kUsable; }
};

// Sets *kernel to what there is for the types, group size and block size of `args` and the tile of
// `config`, which may be no usable kernel. Fails only with the driver, which is asked once per
// device and kernel.
Status find_kernel(const MoeGemmArgs& args, const MoeGemmConfig& config, const DeviceInfo& device,
                   Kernel* kernel);

// kNoKernel, saying why `kernel` is not usable and what to rebuild.
Status no_kernel(const MoeGemmArgs& args, const MoeGemmConfig& config, const DeviceInfo& device,
                 const Kernel& kernel);

}  // namespace marlin_moe
