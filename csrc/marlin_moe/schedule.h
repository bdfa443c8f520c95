// How the work of a GEMM is divided among thread blocks: stream-K stripes.
//
// All tiles of C, each as many stages deep as K needs, are laid end to end and cut into stripes of
// equal length, one per thread block:
//
//     tile 0          tile 1          tile 2
//   |- - - - - - - -|- - - - - - - -|- - - - - - - -|      (one dash: one pipeline stage)
//   \____stripe 0_____/\_____stripe 1____/\_stripe 2_/
//
// Where a few more stages per stripe make stripes end with tiles, they are taken: a tile that is
// not split, or is split into stripes of its own, saves its blocks an exchange of partial sums.
//
// The stripe that holds a tile's first stage owns the tile: it adds up what later stripes
// contributed to it and writes C. A stripe does its contribution first and its own last tile last,
// so owners seldom wait. Stripe 0 goes to the highest block index: an owner waits only for blocks
// with lower indices, which the device starts earlier, so waiting cannot deadlock.
#pragma once

#include "host_device.h"

namespace marlin_moe {

// The stripes of a launch. Stages are counted over all tiles.
struct StripePlan {
  int length;  // stages of a stripe, at most
  int period;  // stages after which a group of stripes ends, whatever their length
  int stripes_per_period;
  int total;  // stages of all tiles

  MARLIN_HOST_DEVICE constexpr int begin(int stripe) const {
    return stripe / stripes_per_period * period + stripe % stripes_per_period * length;
  }
  MARLIN_HOST_DEVICE constexpr int end(int stripe) const {
    const int longest = begin(stripe) + length;
    const int group_end = (stripe / stripes_per_period + 1) * period;
    const int own_end = longest < group_end ? longest : group_end;
    return own_end < total ? own_end : total;
  }
  // The stripe that holds a stage.
  MARLIN_HOST_DEVICE constexpr int stripe_of(int stage) const {
    return stage / period * stripes_per_period + stage % period / length;
  }
};

// Cuts `tiles` tiles of `tile_stages` stages into at most `stripes` stripes. `slack` is how many
// stages a stripe may grow by so that stripes end with tiles.
MARLIN_HOST_DEVICE constexpr StripePlan plan_stripes(int tiles, int tile_stages, int stripes,
                                                     int slack) {
  const int total = tiles * tile_stages;
  const int length = (total + stripes - 1) / stripes;
  if (length == 0) return StripePlan{1, 1, 1, 0};
  if (length < tile_stages) {
    const int parts = tile_stages / length;
    const int aligned = (tile_stages + parts - 1) / parts;
    if (aligned - length <= slack) return StripePlan{aligned, tile_stages, parts, total};
  } else {
    const int aligned = (length + tile_stages - 1) / tile_stages * tile_stages;
    if (aligned - length <= slack) return StripePlan{aligned, aligned, 1, total};
  }
  return StripePlan{length, length, 1, total};
}

}  // namespace marlin_moe
