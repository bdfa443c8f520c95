#include "kernel_messages.h"

#include <set>

#include "arguments.h"

namespace marlin_moe {

std::string describe_kernel(const MoeGemmArgs& args, const MoeGemmConfig* config,
                            const DeviceInfo& device) {
  std::string text = "a_type " + type_name(args.a_type) + ", b_type " + type_name(args.b_type) +
                     ", c_type " + type_name(args.c_type) + ", s_type " + type_name(args.s_type) +
                     ", group_size " +
                     std::to_string(scale_group_size(args.group_size, args.num_groups)) +
                     ", block_size " + std::to_string(args.block_size);
  if (config != nullptr) {
    text += ", tile (thread_k " + std::to_string(config->thread_k) + ", thread_n " +
            std::to_string(config->thread_n) + ", threads " + std::to_string(config->threads) + ")";
  }
  return text + ", compute capability " + std::to_string(device.capability / 10) + "." +
         std::to_string(device.capability % 10);
}

// What else the arguments may say, where they ask for what the device's kernels of sm90 lack.
static std::string without_atomic_reduce(const MoeGemmArgs& args, const DeviceInfo& device) {
  MoeGemmArgs without = args;
  without.atomic_reduce = false;
  for (const BuiltTile& tile : built_tiles()) {
    if (serves(tile, without, device) && !serves(tile, args, device)) {
      return "; or leave atomic_reduce unset, which kernels of sm90 do not have";
    }
  }
  return "";
}

// The block sizes that the arguments may have on a device, where theirs is none of them.
static std::string other_block_sizes(const MoeGemmArgs& args, const DeviceInfo& device) {
  std::set<int> sizes;
  for (const BuiltTile& tile : built_tiles()) {
    if (serves(tile, args, device)) sizes.insert(tile.rows);
  }
  if (sizes.empty() || sizes.count(args.block_size) > 0) return "";
  std::string text;
  for (const int size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "; or align tokens to another block_size: " + text;
}

Status no_kernel(const MoeGemmArgs& args, const MoeGemmConfig* config, const DeviceInfo& device,
                 const Kernel& kernel) {
  const std::string what = describe_kernel(args, config, device);
  const std::string built = std::string("; built: ") + kernels_built();
  std::string message;
  switch (kernel.state) {
    case KernelState::kNoDeviceCode:
      message = "the kernel for " + what + " has no code for this device" + built +
                "; build it for this device: cuda_archs of the marlin_moe_kernels target, or "
                "--cuda_archs";
      break;
    case KernelState::kTooMuchSharedMemory:
      message = "the kernel for " + what + " needs " + std::to_string(kernel.shared_bytes) +
                " bytes of shared memory per block, the device has " +
                std::to_string(device.max_shared_memory) + "; use another tile, or smaller blocks";
      break;
    default:
      message = "no kernel was built for " + what + built +
                "; add its scheme to quant_schemes or extra_quant_schemes of the "
                "marlin_moe_kernels target, or its family to cuda_archs";
      message += without_atomic_reduce(args, device);
      if (config == nullptr) message += other_block_sizes(args, device);
  }
  return {StatusCode::kNoKernel, message};
}

}  // namespace marlin_moe
