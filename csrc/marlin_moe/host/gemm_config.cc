#include "gemm_config.h"

#include <algorithm>
#include <array>
#include <string>

#include "arguments.h"
#include "kernel_messages.h"
#include "marlin_moe/plan/tile_choice.h"

namespace marlin_moe {

// Stages worth about as much as the exchange of partial sums that they save.
static constexpr int kDefaultStripeSlack = 8;

int moe_gemm_block_size(int m, int num_experts, int top_k, const ScalarType& a_type) {
  const double per_expert = static_cast<double>(m) * top_k / std::max(num_experts, 1);
  for (const int size : {8, 16, 32, 48}) {
    if (size == 8 && a_type.size_bits() == 8) continue;
    if (per_expert < 0.9 * size) return size;
  }
  return 64;
}

static bool suits(const MoeGemmArgs& args, const BuiltTile& tile, const DeviceInfo& device) {
  return tile.a_type == args.a_type && tile.rows == args.block_size && tile.family->runs_on(device);
}

static bool same_tile(const MoeGemmConfig& config, const BuiltTile& tile) {
  return config.thread_k == tile.thread_k && config.thread_n == tile.thread_n &&
         config.threads == tile.threads;
}

static int most_blocks_per_sm(const Kernel& kernel) {
  return std::min(kernel.max_blocks_per_sm, most_blocks_per_sm(*kernel.tile));
}

// Tiles of one family that suit a problem, less those that turned out not to be usable.
class Candidates {
 public:
  void add(const BuiltTile& tile) {
    if (count_ < static_cast<int>(tiles_.size())) tiles_[count_++] = &tile;
  }
  bool empty() const { return count_ == 0; }

  // Takes the best one out, with the configuration and the reason for it.
  Choice take_best(const MoeGemmArgs& args, const DeviceInfo& device) {
    std::array<TileSize, kMost> sizes{};
    for (int i = 0; i < count_; ++i) {
      sizes[i] = {tiles_[i]->thread_k, tiles_[i]->thread_n, tiles_[i]->threads};
    }
    const TileChoice best = choose_tile({args.m, args.n, args.k, args.num_experts, args.top_k,
                                         args.block_size, device.multiprocessors},
                                        sizes.data(), count_);
    Choice choice;
    const TileSize& size = sizes[best.index];
    choice.config = {size.thread_k, size.thread_n, size.threads, best.blocks_per_sm};
    choice.kernel.tile = tiles_[best.index];
    choice.reason = best.reason;
    std::copy(tiles_.begin() + best.index + 1, tiles_.begin() + count_,
              tiles_.begin() + best.index);
    --count_;
    return choice;
  }

 private:
  static constexpr int kMost = 16;  // a family has fewer tiles of a type and a number of rows
  std::array<const BuiltTile*, kMost> tiles_{};
  int count_ = 0;
};

// Keeps, of kernels that are not usable, the one to tell of: the first, but rather one that was
// built.
static void note_missing(const Choice& found, Choice* missing) {
  const bool first = missing->kernel.tile == nullptr;
  if (first || (missing->kernel.state == KernelState::kNotBuilt &&
                found.kernel.state != KernelState::kNotBuilt)) {
    *missing = found;
  }
}

// Takes the first family that has a usable kernel, and of its tiles the best.
static Status choose_kernel(const MoeGemmArgs& args, const DeviceInfo& device, Choice* choice) {
  Choice missing;
  const BuiltTiles tiles = built_tiles();
  for (const BuiltTile* tile = tiles.begin(); tile != tiles.end();) {
    const KernelFamily* family = tile->family;
    Candidates candidates;
    for (; tile != tiles.end() && tile->family == family; ++tile) {
      if (suits(args, *tile, device) && args.k % tile->thread_k == 0) candidates.add(*tile);
    }
    while (!candidates.empty()) {
      *choice = candidates.take_best(args, device);
      Status status = find_kernel(args, *choice->kernel.tile, device, &choice->kernel);
      if (!status.ok() || choice->kernel.usable()) return status;
      note_missing(*choice, &missing);
    }
  }
  const bool any = missing.kernel.tile != nullptr;
  return no_kernel(args, any ? &missing.config : nullptr, device, missing.kernel);
}

// Finds the kernel of the tile that the caller gives, in the first family that has it.
static Status find_given(const MoeGemmArgs& args, const DeviceInfo& device,
                         const MoeGemmConfig& given, Choice* choice) {
  Choice missing;
  choice->config = given;
  choice->reason = "given by the caller";
  for (const BuiltTile& tile : built_tiles()) {
    if (!suits(args, tile, device) || !same_tile(given, tile)) continue;
    Status status = find_kernel(args, tile, device, &choice->kernel);
    if (!status.ok() || choice->kernel.usable()) return status;
    note_missing(*choice, &missing);
  }
  return no_kernel(args, &given, device, missing.kernel);
}

// Checks what a configuration given says beside the tile.
static Status check_rest(const MoeGemmArgs& args, const MoeGemmConfig& given,
                         const Kernel& kernel) {
  const int most = most_blocks_per_sm(kernel);
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
                                   : find_given(args, device, *given, choice);
  if (status.ok() && given != nullptr) status = check_rest(args, *given, choice->kernel);
  if (!status.ok()) return status;
  MoeGemmConfig& config = choice->config;
  const int most = most_blocks_per_sm(choice->kernel);
  if (config.blocks_per_sm == 0 || config.blocks_per_sm > most) config.blocks_per_sm = most;
  if (config.stripe_slack == -1) config.stripe_slack = kDefaultStripeSlack;
  return {};
}

static std::string tile_text(int thread_k, int thread_n, int threads) {
  return "(" + std::to_string(thread_k) + ", " + std::to_string(thread_n) + ", " +
         std::to_string(threads) + ")";
}

Status check_config(const MoeGemmConfig& config) {
  std::string allowed;
  for (const BuiltTile& tile : built_tiles()) {
    if (same_tile(config, tile)) return {};
  }
  for (const BuiltTile& tile : built_tiles()) {
    const std::string text = tile_text(tile.thread_k, tile.thread_n, tile.threads);
    if (allowed.find(text) == std::string::npos) allowed += (allowed.empty() ? "" : ", ") + text;
  }
  return invalid("config", tile_text(config.thread_k, config.thread_n, config.threads),
                 "(thread_k, thread_n, threads) of a tile that was built: " + allowed);
}

}  // namespace marlin_moe
