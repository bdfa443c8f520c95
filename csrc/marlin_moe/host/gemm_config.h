// Which kernel, and how many blocks of it, a MoE GEMM is launched with.
#pragma once

#include "kernel_table.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

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

// Whether a configuration given names one of the tiles there are; the rest needs a device.
Status check_config(const MoeGemmConfig& config);

// Prints a choice to stderr if the environment has MARLIN_MOE_LOG=1, which is read once.
void log_choice(const MoeGemmArgs& args, const Choice& choice, const DeviceInfo& device);

}  // namespace marlin_moe
