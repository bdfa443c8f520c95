// The kernels that were built: their selection by key, and what the device says of each.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "kernel.h"
#include "moe_gemm.h"
#include "tile_shape.h"

namespace marlin_moe {

// What the launcher needs to know of a device.
struct DeviceInfo {
  int device;
  int multiprocessors;
  int max_shared_memory;  // bytes a block may have
  int capability;         // 10 * major + minor
};

// Sets *info to the current device's. Asks the driver once per device.
Status device_info(DeviceInfo* info);

// The key that a kernel is found by, in words.
std::string describe_key(const MoeGemmArgs& args, const MoeGemmConfig& config,
                         const DeviceInfo& device);

// A kernel that can be launched: its tile, and how many blocks of it a multiprocessor holds.
struct Kernel {
  MARLIN_NAMESPACE_NAME::MarlinFuncPtr function = nullptr;
  TileShape shape{};
  int max_blocks_per_sm = 0;
};

// Sets *kernel to the kernel for the types, group size and block size of `args` and the tile of
// `config`. kNoKernel when it was not built, or has no code for the device, or does not fit it.
// Asks the driver once per device and kernel.
Status find_kernel(const MoeGemmArgs& args, const MoeGemmConfig& config, const DeviceInfo& device,
                   Kernel* kernel);

}  // namespace marlin_moe
