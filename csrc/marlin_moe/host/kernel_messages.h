// Kernels in words: for the log, and for a call that has none.
#pragma once

#include <string>

#include "kernel_table.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

// What a kernel is found by. `config` names the tile; null: any.
std::string describe_kernel(const MoeGemmArgs& args, const MoeGemmConfig* config,
                            const DeviceInfo& device);

// kNoKernel, saying why `kernel` is not usable and what to rebuild. `config` as above.
Status no_kernel(const MoeGemmArgs& args, const MoeGemmConfig* config, const DeviceInfo& device,
                 const Kernel& kernel);

}  // namespace marlin_moe
