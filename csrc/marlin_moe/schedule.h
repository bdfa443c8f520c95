// How the work of a GEMM is divided among thread blocks: stream-K stripes.
//
// All tiles of C, each as many stages deep as K needs, are laid end to end and cut into equal
// stripes, one per thread block:
//
//     tile 0          tile 1          tile 2
//   |- - - - - - - -|- - - - - - - -|- - - - - - - -|      (one dash: one pipeline stage)
//   \____stripe 0_____/\_____stripe 1____/\_stripe 2_/
//
// The stripe that holds a tile's first stage owns the tile: it adds up what later stripes
// contributed to it and writes C. A stripe does its contribution first and its own last tile last,
// so owners seldom wait. Stripe 0 goes to the highest block index: an owner waits only for blocks
// with lower indices, which the device starts earlier, so waiting cannot deadlock.
#pragma once

#include "host_device.h"

namespace marlin_moe {

// Position of a tile of C: the ordinal of its m block among those in use, and its column tile.
struct TilePosition {
  int m_block;
  int n_tile;
};

// Stages per stripe.
MARLIN_HOST_DEVICE constexpr int stripe_length(int total_stages, int stripes) {
  return (total_stages + stripes - 1) / stripes;
}

// Order of the tiles: m blocks in groups of `m_group`; inside a group every m block visits a column
// tile before the next column tile is begun, so that the weights read by one stay in L2 for all.
MARLIN_HOST_DEVICE constexpr TilePosition tile_position(int tile, int m_blocks, int n_tiles,
                                                        int m_group) {
  const int group = tile / (m_group * n_tiles);
  const int first = group * m_group;
  const int size = m_blocks - first < m_group ? m_blocks - first : m_group;
  const int rest = tile - first * n_tiles;
  return TilePosition{first + rest % size, rest / size};
}

}  // namespace marlin_moe
