// How much memory the partial sums of a launch take: what the thread blocks write at most, to the
// byte, whatever the routing.
//
// Plain constexpr C++, so that the CPU tests can compare it with a walk over every stripe.
#pragma once

#include <cstdint>
#include <limits>

#include "schedule.h"

namespace marlin_moe {

// The launch: its grid, its tile and how far the work reaches.
struct PartialSumsShape {
  int max_row_blocks;  // blocks of sorted_token_ids at most; any smaller number may be in use
  int rows;            // of a tile
  int n;
  int thread_n;
  int tile_stages;  // pipeline stages of a tile, k / thread_k
  int stripes;      // thread blocks
  int stripe_slack;
  bool atomic_reduce;

  constexpr bool operator==(const PartialSumsShape& other) const {
    return max_row_blocks == other.max_row_blocks && rows == other.rows && n == other.n &&
           thread_n == other.thread_n && tile_stages == other.tile_stages &&
           stripes == other.stripes && stripe_slack == other.stripe_slack &&
           atomic_reduce == other.atomic_reduce;
  }
};

// The last place that holds partial sums: its index among places of a tile's size, and the columns
// of it that are used. None: index -1.
struct LastPartial {
  int index = -1;
  int columns = 0;

  constexpr bool before(const LastPartial& other) const {
    return index < other.index || (index == other.index && columns < other.columns);
  }
};

// The last place when `row_blocks` blocks are in use. Stripe s keeps what it contributes in place
// s - 1, because stripe 0 begins with a tile; with atomic additions a tile's owner has a place of
// its stripe's number, and the last stripe owns nothing that others contribute to.
constexpr LastPartial last_partial(const PartialSumsShape& shape, int row_blocks) {
  const int n_tiles = (shape.n + shape.thread_n - 1) / shape.thread_n;
  const StripePlan plan =
      plan_stripes(row_blocks * n_tiles, shape.tile_stages, shape.stripes, shape.stripe_slack);
  if (plan.total == 0) return {};
  // The last stripe may begin with a tile; if the one before does so too, all stripes do.
  const int last = plan.stripe_of(plan.cut_tiles - 1, shape.tile_stages - 1);
  for (int stripe = last; stripe > 0 && stripe > last - 2; --stripe) {
    const int tile = plan.begin(stripe) / shape.tile_stages;
    if (plan.begin(stripe) == tile * shape.tile_stages) continue;
    const int left = shape.n - tile_index(tile, row_blocks, n_tiles).n_tile * shape.thread_n;
    const int owner = plan.stripe_of(tile, 0);
    return {shape.atomic_reduce ? owner : stripe - 1,
            left < shape.thread_n ? left : shape.thread_n};
  }
  return {};
}

// Numbers of row blocks beyond which there is nothing new. Less than two tiles for each stripe are
// cut. From where those are all in full groups of row blocks, as many row blocks more as there are
// stripes are whole waves more, and the same tiles are cut. And if the slack is a tile long, no
// tile is split from where there is one for each stripe. No launch has more tiles than an int can
// count.
constexpr std::int64_t row_blocks_to_look_at(const PartialSumsShape& shape) {
  const std::int64_t stripes = shape.stripes;
  const std::int64_t tile_stages = shape.tile_stages;
  const std::int64_t n_tiles = (shape.n + shape.thread_n - 1) / shape.thread_n;
  const std::int64_t cut = 2 * stripes / n_tiles + 1;  // row blocks of the tiles that are cut
  const std::int64_t most = shape.stripe_slack >= tile_stages - 1
                                ? (stripes - 1) / n_tiles
                                : cut + kRowBlocksOfGroup + stripes;
  const std::int64_t countable = std::numeric_limits<int>::max() / n_tiles;
  const std::int64_t in_use = shape.max_row_blocks < countable ? shape.max_row_blocks : countable;
  return most < in_use ? most : in_use;
}

// Floats from the first place to the end of what is written at most.
constexpr std::int64_t partial_sums(const PartialSumsShape& shape) {
  const std::int64_t place = static_cast<std::int64_t>(shape.rows) * shape.thread_n;
  const int widest = shape.n < shape.thread_n ? shape.n : shape.thread_n;
  const LastPartial most{shape.stripes - 2, widest};
  LastPartial last;
  const std::int64_t end = row_blocks_to_look_at(shape);
  for (std::int64_t row_blocks = 1; row_blocks <= end && last.before(most); ++row_blocks) {
    const LastPartial found = last_partial(shape, static_cast<int>(row_blocks));
    if (last.before(found)) last = found;
  }
  if (last.index < 0) return 0;
  return last.index * place + place - shape.thread_n + last.columns;
}

// The same, or more, without looking at every number of row blocks.
constexpr std::int64_t partial_sums_limit(const PartialSumsShape& shape) {
  return shape.stripes < 2
             ? 0
             : (shape.stripes - 1) * static_cast<std::int64_t>(shape.rows) * shape.thread_n;
}

}  // namespace marlin_moe
