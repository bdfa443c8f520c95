#include "launch_plan.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "gemm_arguments.h"
#include "kernel_messages.h"
#include "marlin_moe/prepare/stage_rows.h"
#include "tile_cost.h"

namespace marlin_moe {

static constexpr int kFewestThreads = 128;  // of a block

static std::size_t align_up(std::size_t bytes) {
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
}

// Of any family: a lock for each thread block, or the counters of sm90.
static std::size_t lock_bytes(const DeviceInfo& device) {
  const int most_blocks = device.multiprocessors * (kMaxThreadsPerSm / kFewestThreads);
  const auto counters = Sm90Tile::counter_bytes(2 * device.multiprocessors);
  return align_up(std::max(most_blocks * sizeof(int), static_cast<std::size_t>(counters)));
}

static std::size_t partial_bytes(const BuiltTile& tile, int blocks) {
  return static_cast<std::size_t>(blocks) * tile.rows * tile.thread_n * sizeof(float);
}

std::size_t partial_bytes(const LaunchPlan& plan) {
  return partial_bytes(*plan.kernel.tile, plan.blocks);
}

// Partial sums of as many blocks as the device holds at once: no more are launched, whatever the
// routing.
static std::size_t partial_bytes(const BuiltTile& tile, int blocks_per_sm,
                                 const DeviceInfo& device) {
  return partial_bytes(tile, device.multiprocessors * blocks_per_sm);
}

static std::size_t max_partial_bytes(const DeviceInfo& device) {
  std::size_t most = 0;
  for (const BuiltTile& tile : built_tiles()) {
    most = std::max(most, partial_bytes(tile, most_blocks_per_sm(tile), device));
  }
  return align_up(most);
}

static std::size_t permuted_a_bytes(const MoeGemmArgs& args) {
  if (!is_act_order(args)) return 0;
  return static_cast<std::size_t>(args.m) * args.top_k * args.k * 2;
}

static std::size_t staged_a_bytes(const MoeGemmArgs& args) {
  return staged_bytes(max_staged_ids(args), row_bytes(args));
}

// The most that sm90's tiles take where that is chosen, whatever the block size and n.
static std::size_t max_staged_a_bytes(const MoeGemmArgs& args, const DeviceInfo& device) {
  MoeGemmArgs widest = args;
  widest.n = std::numeric_limits<int>::max() / 2;
  std::size_t most = 0;
  for (const BuiltTile& tile : built_tiles()) {
    if (!serves(tile, args, device) || !gathers_first(widest, tile, device)) continue;
    widest.block_size = tile.rows;
    most = std::max(most, staged_a_bytes(widest));
  }
  return most;
}

// Partial sums come last, because only their size depends on the configuration.
static WorkspaceLayout workspace_layout(const MoeGemmArgs& args, const LaunchPlan& plan) {
  const DeviceInfo& device = *plan.device;
  const std::size_t gathered =
      plan.config.gather_first == 1 ? staged_a_bytes(args) : permuted_a_bytes(args);
  const bool splits = plan.k_splits > 1;
  const std::size_t partials =
      splits ? partial_bytes(*plan.kernel.tile, plan.config.blocks_per_sm, device) : 0;
  const std::size_t first = lock_bytes(device);
  WorkspaceLayout layout{first + align_up(gathered), first, 0};
  if (gathered != 0) layout.bytes = layout.gathered_a + gathered;
  if (splits) layout.bytes = std::max(layout.bytes, layout.partials + partials);
  return layout;
}

// Thread blocks: as many as the device holds, unless there is less work.
static int grid_blocks(const MoeGemmArgs& args, const LaunchPlan& plan) {
  const std::int64_t resident =
      static_cast<std::int64_t>(plan.device->multiprocessors) * plan.config.blocks_per_sm;
  const std::int64_t row_blocks = max_padded_ids(args) / args.block_size;
  const std::int64_t tiles = std::min(row_blocks * plan.n_tiles, resident);
  return static_cast<int>(std::min(tiles * plan.k_splits, resident));
}

Status plan_launch(const MoeGemmArgs& args, const MoeGemmConfig* given, LaunchPlan* plan) {
  Choice choice;
  Status status = device_info(&plan->device);
  if (status.ok()) status = choose_config(args, *plan->device, given, &choice);
  if (!status.ok()) return status;
  plan->kernel = choice.kernel;
  plan->config = choice.config;
  plan->reason = choice.reason;
  plan->n_tiles = (args.n + plan->config.thread_n - 1) / plan->config.thread_n;
  plan->tile_stages = (args.k + plan->config.thread_k - 1) / plan->config.thread_k;
  // Stripes cut a tile between any stages; sm90 does where it pays.
  const bool sm90 = choice.kernel.tile->family->is_sm90();
  plan->k_splits = sm90 ? sm90_k_splits(sm90_problem(args, *plan->device)) : plan->tile_stages;
  plan->blocks = grid_blocks(args, *plan);
  plan->workspace = workspace_layout(args, *plan);
  return {};
}

std::size_t max_workspace_bytes(const MoeGemmArgs& args, const DeviceInfo& device) {
  const std::size_t gathered = std::max(permuted_a_bytes(args), max_staged_a_bytes(args, device));
  return lock_bytes(device) + max_partial_bytes(device) + align_up(gathered);
}

static bool log_enabled() {
  static const bool enabled = [] {
    const char* value = std::getenv("MARLIN_MOE_LOG");
    return value != nullptr && std::string(value) == "1";
  }();
  return enabled;
}

void log_plan(const MoeGemmArgs& args, const LaunchPlan& plan) {
  if (!log_enabled()) return;
  const std::string kernel = describe_kernel(args, &plan.config, *plan.device);
  std::fprintf(stderr,
               "marlin_moe: m %d, n %d, k %d, %d experts, top_k %d: %s; family %s, %d blocks per "
               "multiprocessor of %d, stripe_slack %d, gather_first %d, %d bytes of shared memory; "
               "%s\n",
               args.m, args.n, args.k, args.num_experts, args.top_k, kernel.c_str(),
               plan.kernel.tile->family->name, plan.config.blocks_per_sm,
               plan.device->multiprocessors, plan.config.stripe_slack, plan.config.gather_first,
               plan.kernel.shared_bytes, plan.reason);
}

}  // namespace marlin_moe
