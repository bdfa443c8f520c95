// The kernels that were built: their tiles, which function each is, and what the device says of it.
#pragma once

#include <cuda_runtime_api.h>

#include "device_info.h"
#include "marlin_moe/kernel/kernel.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

// A kernel family that has kernels (private/families.bzl).
struct KernelFamily {
  enum class Template { Marlin, MarlinSm90 };  // NOLINT: the names of kernel.h

  const char* name;
  Template kernel;
  int capability;  // 10 * major + minor: the lowest that its code is for
  bool no_other;   // whether it runs on that capability only
  int stages;      // depth of the pipeline; 0: as many as fit

  bool is_sm90() const { return kernel == Template::MarlinSm90; }
  bool runs_on(const DeviceInfo& device) const {
    return no_other ? device.capability == capability : device.capability >= capability;
  }
};

// A tile that some kernels of a family were built with.
struct BuiltTile {
  const KernelFamily* family;
  ScalarType a_type;
  int rows;      // of A and C: the block_size
  int thread_k;  // depth of a pipeline stage
  int thread_n;
  int threads;
  int blocks_per_sm;  // that the kernels were compiled for; 0: as many as fit
};

// Whether a tile serves arguments, whatever their block_size, if it has a kernel for their types.
// Atomic additions are for the template Marlin alone.
inline bool serves(const BuiltTile& tile, const MoeGemmArgs& args, const DeviceInfo& device) {
  return tile.a_type == args.a_type && tile.family->runs_on(device) &&
         !(args.atomic_reduce && tile.family->is_sm90());
}

// Whether whole stages cover k; those of sm90 may reach beyond it.
inline bool covers_k(const BuiltTile& tile, int k) {
  return tile.family->is_sm90() || k % tile.thread_k == 0;
}

// The tiles of all families, the family to prefer first. Which of them have a kernel for the other
// types and the group size is for find_kernel() to say.
struct BuiltTiles {
  const BuiltTile* first;
  const BuiltTile* last;
  const BuiltTile* begin() const { return first; }
  const BuiltTile* end() const { return last; }
};
BuiltTiles built_tiles();

// What was built, in words.
const char* kernels_built();

// Whether a kernel can be launched, or why not.
enum class KernelState { kUsable, kNotBuilt, kNoDeviceCode, kTooMuchSharedMemory };

// What was built for types, group size and tile, and how many blocks a multiprocessor holds.
struct Kernel {
  const BuiltTile* tile = nullptr;
  MARLIN_NAMESPACE_NAME::MarlinFuncPtr function = nullptr;
  KernelState state = KernelState::kNotBuilt;
  int shared_bytes = 0;  // dynamic shared memory of a block
  int max_blocks_per_sm = 0;

  bool usable() const { return state == KernelState::kUsable; }
};

// Lets a kernel have the shared memory that it needs, in the current context.
Status allow_shared_memory(const Kernel& kernel);

// Sets *kernel to what there is for the types and the group size of `args` and a tile, which may be
// no usable kernel. Fails only with the driver, which is asked once per device and kernel.
Status find_kernel(const MoeGemmArgs& args, const BuiltTile& tile, const DeviceInfo& device,
                   Kernel* kernel);

}  // namespace marlin_moe
