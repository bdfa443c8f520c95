#include "gemm_config.h"

#include <algorithm>
#include <array>
#include <string>

#include "arguments.h"
#include "kernel_messages.h"
#include "marlin_moe/plan/tile_choice.h"
#include "tile_cost.h"

namespace marlin_moe {

// Stages worth about as much as the exchange of partial sums that they save.
static constexpr int kDefaultStripeSlack = 8;

static bool suits(const MoeGemmArgs& args, const BuiltTile& tile, const DeviceInfo& device) {
  return tile.rows == args.block_size && serves(tile, args, device);
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
    if (count_ < kMost) tiles_[count_++] = &tile;
  }
  bool empty() const { return count_ == 0; }

  // Takes the best one out, with the configuration and the reason for it.
  Choice take_best(const MoeGemmArgs& args, const DeviceInfo& device) {
    const TileChoice best =
        tiles_[0]->family->is_sm90() ? best_of_sm90(args, device) : best_of_marlin(args, device);
    const BuiltTile& tile = *tiles_[best.index];
    Choice choice;
    choice.config = {tile.thread_k, tile.thread_n, tile.threads, best.blocks_per_sm};
    choice.kernel.tile = &tile;
    choice.reason = best.reason;
    std::copy(tiles_.begin() + best.index + 1, tiles_.begin() + count_,
              tiles_.begin() + best.index);
    --count_;
    return choice;
  }

 private:
  static constexpr int kMost = 16;  // a family has fewer tiles of a type and a number of rows

  TileChoice best_of_marlin(const MoeGemmArgs& args, const DeviceInfo& device) const {
    std::array<TileSize, kMost> sizes{};
    for (int i = 0; i < count_; ++i) {
      sizes[i] = {tiles_[i]->thread_k, tiles_[i]->thread_n, tiles_[i]->threads};
    }
    return choose_tile({args.m, args.n, args.k, args.num_experts, args.top_k, args.block_size,
                        device.multiprocessors},
                       sizes.data(), count_);
  }

  TileChoice best_of_sm90(const MoeGemmArgs& args, const DeviceInfo& device) const {
    if (count_ == 1) return {0, 0, "the tile of sm90 with these rows"};
    std::array<double, kMost> costs{};
    for (int i = 0; i < count_; ++i) costs[i] = tile_cost(args, *tiles_[i], device);
    const auto* best = std::min_element(costs.begin(), costs.begin() + count_);
    return {static_cast<int>(best - costs.begin()), 0,
            "of the tiles of sm90 with these rows the fastest, by waves and rows"};
  }

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

// Whether another family with the same rows is likely to be faster than a tile of sm90.
static bool slower_than_others(const MoeGemmArgs& args, const BuiltTile& tile,
                               const DeviceInfo& device) {
  const BuiltTiles tiles = built_tiles();
  const auto* other = std::find_if(tiles.begin(), tiles.end(), [&](const BuiltTile& candidate) {
    return !candidate.family->is_sm90() && suits(args, candidate, device);
  });
  return other != tiles.end() && tile_cost(args, *other, device) < tile_cost(args, tile, device);
}

// Takes the first family that has a usable kernel, and of its tiles the best; with `all` also tiles
// that another family is likely to beat.
static Status choose_among(const MoeGemmArgs& args, const DeviceInfo& device, bool all,
                           Choice* choice, Choice* missing) {
  const BuiltTiles tiles = built_tiles();
  for (const BuiltTile* tile = tiles.begin(); tile != tiles.end();) {
    const KernelFamily* family = tile->family;
    Candidates candidates;
    for (; tile != tiles.end() && tile->family == family; ++tile) {
      if (!suits(args, *tile, device) || !covers_k(*tile, args.k)) continue;
      if (!all && family->is_sm90() && slower_than_others(args, *tile, device)) continue;
      candidates.add(*tile);
    }
    while (!candidates.empty()) {
      *choice = candidates.take_best(args, device);
      Status status = find_kernel(args, *choice->kernel.tile, device, &choice->kernel);
      if (!status.ok() || choice->kernel.usable()) return status;
      note_missing(*choice, missing);
    }
  }
  choice->kernel = {};
  return {};
}

static Status choose_kernel(const MoeGemmArgs& args, const DeviceInfo& device, Choice* choice) {
  Choice missing;
  for (const bool all : {false, true}) {
    Status status = choose_among(args, device, all, choice, &missing);
    if (!status.ok() || choice->kernel.usable()) return status;
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
    Choice found = *choice;
    Status status = find_kernel(args, tile, device, &found.kernel);
    if (!status.ok()) return status;
    if (!found.kernel.usable()) {
      note_missing(found, &missing);
      continue;
    }
    // Of tiles compiled for different numbers of blocks, the first that has as many.
    choice->kernel = found.kernel;
    if (given.blocks_per_sm <= most_blocks_per_sm(found.kernel)) break;
  }
  if (choice->kernel.usable()) return {};
  return no_kernel(args, &given, device, missing.kernel);
}

// Checks what a configuration given says beside the tile.
static Status check_rest(const MoeGemmArgs& args, const MoeGemmConfig& given,
                         const Kernel& kernel) {
  const int most = most_blocks_per_sm(kernel);
  if (given.blocks_per_sm < 0 || given.blocks_per_sm > most) {
    return invalid("config.blocks_per_sm", given.blocks_per_sm, "0 to " + std::to_string(most));
  }
  const bool stripes = !kernel.tile->family->is_sm90();
  if (given.stripe_slack < -1 || (!stripes && given.stripe_slack > 0)) {
    return invalid("config.stripe_slack", given.stripe_slack,
                   stripes ? "-1 (chosen), 0 or more" : "-1 or 0: tiles of sm90 have no stripes");
  }
  const bool staged = !stripes && Sm90Tile::takes_staged_a(args.block_size);
  if (given.gather_first < -1 || given.gather_first > (staged ? 1 : 0)) {
    return invalid(
        "config.gather_first", given.gather_first,
        staged ? "-1 (chosen), 0 or 1" : "-1 or 0: 1 is for tiles of sm90 with 96 rows or more");
  }
  if (!covers_k(*kernel.tile, args.k)) {
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
  if (config.stripe_slack == -1) {
    config.stripe_slack = choice->kernel.tile->family->is_sm90() ? 0 : kDefaultStripeSlack;
  }
  if (config.gather_first == -1) {
    config.gather_first = gathers_first(args, *choice->kernel.tile, device) ? 1 : 0;
  }
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
