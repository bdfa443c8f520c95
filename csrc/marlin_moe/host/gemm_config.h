// Which kernel, and how many blocks of it, a MoE GEMM is launched with.
#pragma once

#include "kernel_table.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

// Threads of this library's kernels that a multiprocessor is given at most, where a kernel was not
// compiled for a number of blocks; more blocks need more partial sums and gain nothing
// (docs/kernel-notes.md).
inline constexpr int kMaxThreadsPerSm = 512;

// Blocks of a tile that a multiprocessor is given at most, whatever the device.
inline int most_blocks_per_sm(const BuiltTile& tile) {
  return tile.blocks_per_sm > 0 ? tile.blocks_per_sm : kMaxThreadsPerSm / tile.threads;
}

// A complete configuration, its kernel, and the reason for it.
struct Choice {
  MoeGemmConfig config;
  Kernel kernel;
  const char* reason = "";
};

// Completes and checks the configuration that the caller gives or, if `given` is null, chooses one.
// The arguments' problem was checked.
Status choose_config(const MoeGemmArgs& args, const DeviceInfo& device, const MoeGemmConfig* given,
                     Choice* choice);

// Whether a configuration given names one of the tiles that were built; the rest needs a device.
Status check_config(const MoeGemmConfig& config);

}  // namespace marlin_moe
