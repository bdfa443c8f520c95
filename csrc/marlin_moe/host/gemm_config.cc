#include "gemm_config.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "arguments.h"
#include "marlin_moe/plan/tile_choice.h"
#include "workspace.h"

namespace marlin_moe {

// Stages worth about as much as the exchange of partial sums that they save.
static constexpr int kDefaultStripeSlack = 8;

// Tiles a kernel may have (SCHEME_LIMITS in private/quant_schemes.bzl).
static constexpr MoeGemmConfig kTiles[] = {
    {64, 128, 128}, {64, 256, 256}, {128, 128, 256}, {128, 64, 128}};

int moe_gemm_block_size(int m, int num_experts, int top_k, const ScalarType& a_type) {
  const double per_expert = static_cast<double>(m) * top_k / std::max(num_experts, 1);
  for (const int size : {8, 16, 32, 48}) {
    if (size == 8 && a_type.size_bits() == 8) continue;
    if (per_expert < 0.9 * size) return size;
  }
  return 64;
}

static int most_blocks_per_sm(const Kernel& kernel) {
  return std::min(kernel.max_blocks_per_sm, kMaxThreadsPerSm / kernel.shape.threads);
}

// The preferred configuration, or the first that was built and fits the device.
static Status choose_kernel(const MoeGemmArgs& args, const DeviceInfo& device, Choice* choice) {
  const TileChoice first = choose_tile({args.m, args.n, args.k, args.num_experts, args.top_k,
                                        args.block_size, device.multiprocessors});
  choice->config = {first.thread_k, first.thread_n, first.threads, first.blocks_per_sm};
  choice->reason = first.reason;
  Status status = find_kernel(args, choice->config, device, &choice->kernel);
  if (!status.ok() || choice->kernel.usable()) return status;
  const Choice preferred = *choice;
  for (const MoeGemmConfig& tile : kTiles) {
    if (args.k % tile.thread_k != 0) continue;
    status = find_kernel(args, tile, device, &choice->kernel);
    if (!status.ok()) return status;
    if (!choice->kernel.usable()) continue;
    choice->config = tile;
    choice->reason = "the first tile that was built and fits the device";
    return {};
  }
  return no_kernel(args, preferred.config, device, preferred.kernel);
}

// Fills in what the caller left open, and checks the rest.
static Status complete_config(const MoeGemmArgs& args, const MoeGemmConfig& given,
                              const DeviceInfo& device, Choice* choice) {
  choice->config = given;
  choice->reason = "given by the caller";
  Status status = find_kernel(args, given, device, &choice->kernel);
  if (!status.ok()) return status;
  if (!choice->kernel.usable()) return no_kernel(args, given, device, choice->kernel);
  const int most = most_blocks_per_sm(choice->kernel);
  if (given.blocks_per_sm < 0 || given.blocks_per_sm > most) {
    return invalid("config.blocks_per_sm", given.blocks_per_sm, "0 to " + std::to_string(most));
  }
  if (given.stripe_slack < -1) {
    return invalid("config.stripe_slack", given.stripe_slack, "-1 (chosen), 0 or more");
  }
  if (args.k % given.thread_k != 0) {
    return invalid("config.thread_k", given.thread_k, "a divisor of k = " + std::to_string(args.k));
  }
  return {};
}

Status choose_config(const MoeGemmArgs& args, const DeviceInfo& device, const MoeGemmConfig* given,
                     Choice* choice) {
  Status status = given == nullptr ? choose_kernel(args, device, choice)
                                   : complete_config(args, *given, device, choice);
  if (!status.ok()) return status;
  MoeGemmConfig& config = choice->config;
  const int most = most_blocks_per_sm(choice->kernel);
  if (config.blocks_per_sm == 0 || config.blocks_per_sm > most) config.blocks_per_sm = most;
  if (config.stripe_slack == -1) config.stripe_slack = kDefaultStripeSlack;
  return {};
}

Status check_config(const MoeGemmConfig& config) {
  for (const MoeGemmConfig& tile : kTiles) {
    if (config.thread_k == tile.thread_k && config.thread_n == tile.thread_n &&
        config.threads == tile.threads) {
      return {};
    }
  }
  return invalid("config",
                 "(" + std::to_string(config.thread_k) + ", " + std::to_string(config.thread_n) +
                     ", " + std::to_string(config.threads) + ")",
                 "(thread_k, thread_n, threads) of (128, 128, 256), (64, 256, 256), "
                 "(64, 128, 128), (128, 64, 128)");
}

static bool log_enabled() {
  static const bool enabled = [] {
    const char* value = std::getenv("MARLIN_MOE_LOG");
    return value != nullptr && std::string(value) == "1";
  }();
  return enabled;
}

void log_choice(const MoeGemmArgs& args, const Choice& choice, const DeviceInfo& device) {
  if (!log_enabled()) return;
  const std::string key = describe_key(args, choice.config, device);
  std::fprintf(stderr,
               "marlin_moe: m %d, n %d, k %d, %d experts, top_k %d: %s; %d blocks per "
               "multiprocessor of %d, stripe_slack %d, %d bytes of shared memory; %s\n",
               args.m, args.n, args.k, args.num_experts, args.top_k, key.c_str(),
               choice.config.blocks_per_sm, device.multiprocessors, choice.config.stripe_slack,
               choice.kernel.shape.shared_memory_bytes(), choice.reason);
}

}  // namespace marlin_moe
