#include "workspace.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "gemm_arguments.h"
#include "marlin_moe/plan/partial_sums.h"

namespace marlin_moe {

static constexpr int kFewestThreads = 128;  // of a block

static std::size_t align_up(std::size_t bytes) {
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
}

static std::size_t lock_bytes(const DeviceInfo& device) {
  const int most_blocks = device.multiprocessors * (kMaxThreadsPerSm / kFewestThreads);
  return align_up(static_cast<std::size_t>(most_blocks) * sizeof(int));
}

// A tile has no more columns than its block has threads.
static std::size_t max_partial_bytes(const DeviceInfo& device) {
  return static_cast<std::size_t>(device.multiprocessors) * kMaxThreadsPerSm * kMaxBlockSize *
         sizeof(float);
}

static std::size_t permuted_a_bytes(const MoeGemmArgs& args) {
  if (!is_act_order(args)) return 0;
  return static_cast<std::size_t>(args.m) * args.top_k * args.k * 2;
}

// Partial sums come last, because only their end depends on the configuration. Atomic additions
// need zeros to start from, whatever was called before: there A lies behind all that they may use.
WorkspaceLayout workspace_layout(const MoeGemmArgs& args, const DeviceInfo& device) {
  const std::size_t first = lock_bytes(device);
  if (args.atomic_reduce) return {first, first + max_partial_bytes(device)};
  return {first + permuted_a_bytes(args), first};
}

int Launch::blocks() const {
  const std::int64_t n_tiles = (args.n + config.thread_n - 1) / config.thread_n;
  const std::int64_t resident =
      static_cast<std::int64_t>(device.multiprocessors) * config.blocks_per_sm;
  const std::int64_t tiles = std::min(max_padded_ids(args) / args.block_size * n_tiles, resident);
  return static_cast<int>(std::min(tiles * (args.k / config.thread_k), resident));
}

// Every id may have a block of its own: those of other devices' experts have blocks too, whatever
// expert_parallel says.
static PartialSumsShape partial_sums_shape(const Launch& launch) {
  const MoeGemmArgs& args = launch.args;
  return PartialSumsShape{args.m * args.top_k,
                          args.block_size,
                          args.n,
                          launch.config.thread_n,
                          args.k / launch.config.thread_k,
                          launch.blocks(),
                          launch.config.stripe_slack,
                          args.atomic_reduce};
}

// partial_sums(), which may take microseconds, kept for the shapes that a thread asked for last.
static std::int64_t known_partial_sums(const PartialSumsShape& shape) {
  struct Known {
    PartialSumsShape shape;
    std::int64_t floats;
  };
  static constexpr std::uint32_t kKnown = 64;
  static thread_local Known known[kKnown] = {};
  std::uint32_t hash = 0;
  for (const int part : {shape.max_row_blocks, shape.rows, shape.n, shape.tile_stages}) {
    hash = (hash ^ static_cast<std::uint32_t>(part)) * 0x9e3779b1u;
  }
  Known& entry = known[hash >> 26];
  static_assert(kKnown == 1u << (32 - 26), "the hash's upper bits count the entries");
  if (!(entry.shape == shape)) entry = {shape, partial_sums(shape)};
  return entry.floats;
}

static std::size_t bytes_with(const Launch& launch, std::int64_t partials) {
  const WorkspaceLayout layout = workspace_layout(launch.args, launch.device);
  const std::size_t permuted = permuted_a_bytes(launch.args);
  const std::size_t permuted_end = permuted == 0 ? 0 : layout.permuted_a + permuted;
  const std::size_t partials_end =
      partials == 0 ? 0 : layout.partials + static_cast<std::size_t>(partials) * sizeof(float);
  return std::max(permuted_end, partials_end);
}

std::size_t workspace_bytes(const Launch& launch) {
  return bytes_with(launch, known_partial_sums(partial_sums_shape(launch)));
}

Status check_workspace(const Launch& launch) {
  const std::size_t given = launch.args.workspace_bytes;
  if (given >= bytes_with(launch, partial_sums_limit(partial_sums_shape(launch)))) return {};
  const std::size_t needed = workspace_bytes(launch);
  if (given >= needed) return {};
  return {StatusCode::kInsufficientWorkspace,
          "workspace_bytes = " + std::to_string(given) + " is not enough; needed: " +
              std::to_string(needed) + ", as moe_gemm_workspace_size() says of these arguments"};
}

std::size_t max_workspace_bytes(const MoeGemmArgs& args, const DeviceInfo& device) {
  return lock_bytes(device) + max_partial_bytes(device) + permuted_a_bytes(args);
}

}  // namespace marlin_moe
