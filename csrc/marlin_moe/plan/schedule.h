// How the work of a GEMM is divided among thread blocks: whole tiles in waves, and stream-K
// stripes.
//
// As many tiles as possible are dealt out whole, one to each thread block at a time. All blocks
// begin such a wave together and walk along K together, so that those that multiply the same
// weights find them in L2. What is left, between one and two tiles for each block, is laid end to
// end and cut into stripes of equal length, one per thread block:
//
//     tile 0          tile 1          tile 2
//   |- - - - - - - -|- - - - - - - -|- - - - - - - -|      (one dash: one pipeline stage)
//   \____stripe 0_____/\_____stripe 1____/\_stripe 2_/
//
// Where a few more stages per stripe make stripes end with tiles, they are taken: a tile that is
// not split, or is split into stripes of its own, saves its blocks an exchange of partial sums.
//
// A block begins with its stripe. The stripe that holds a tile's first stage owns the tile: it adds
// up what later stripes contributed to it and writes C. A stripe does its contribution first and
// its own last tile last, so owners seldom wait. Stripe 0 goes to the highest block index: an owner
// waits only for blocks with lower indices, which the device starts earlier, so waiting cannot
// deadlock.
#pragma once

#include "divider.h"
#include "host_device.h"

namespace marlin_moe {

// Of numbers of 0 or more: without signs it takes fewer instructions.
MARLIN_HOST_DEVICE constexpr int divide(int dividend, int divisor) {
  return static_cast<int>(static_cast<unsigned>(dividend) / static_cast<unsigned>(divisor));
}

// The stripes of a launch. Stages are counted over the tiles that are cut, which come first.
struct StripePlan {
  int tile_stages;  // stages of a tile
  int section;      // stages that are cut alike: those of a tile or, if stripes ignore tiles, all
  int parts;        // stripes of a section
  int length;       // stages of a stripe, at most
  int total;        // stages of the tiles that are cut
  int cut_tiles;    // how many; the i-th of the others belongs to stripe i % stripes

  MARLIN_HOST_DEVICE constexpr int begin(int stripe) const {
    const int index = divide(stripe, parts);
    return index * section + (stripe - index * parts) * length;
  }
  MARLIN_HOST_DEVICE constexpr int end(int stripe) const {
    const int limit = (divide(stripe, parts) + 1) * section;
    const int longest = begin(stripe) + length;
    const int own_end = longest < limit ? longest : limit;
    return own_end < total ? own_end : total;
  }
  // The stripe that holds stage `k_tile` of a tile that is cut.
  MARLIN_HOST_DEVICE constexpr int stripe_of(int tile, int k_tile) const {
    // Also if one tile is cut in whatever way: it is tile 0.
    const bool by_tile = section == tile_stages;
    return (by_tile ? tile * parts : 0) +
           divide((by_tile ? 0 : tile * tile_stages) + k_tile, length);
  }
};

// Divides `tiles` tiles of `tile_stages` stages among `stripes` thread blocks. `slack` is how many
// stages a stripe may grow by so that stripes end with tiles.
MARLIN_HOST_DEVICE constexpr StripePlan plan_stripes(int tiles, const Divider& tile_stages,
                                                     const Divider& stripes, int slack) {
  // A wave more leaves nothing or at least a tile for each stripe.
  int waves = tiles / stripes;
  if (waves > 0 && waves * stripes != tiles) --waves;
  const int cut_tiles = tiles - waves * stripes;
  const int total = cut_tiles * tile_stages;
  const int even = total == 0 ? 1 : (total + stripes - 1) / stripes;
  StripePlan plan{tile_stages, total, stripes, even, total, cut_tiles};
  if (even < tile_stages) {
    const int parts = divide(tile_stages, even);
    const int aligned = divide(tile_stages + parts - 1, parts);
    if (aligned - even <= slack) {
      plan.length = aligned;
      plan.parts = parts;
      plan.section = tile_stages;
    }
  } else {
    const int aligned = (even + tile_stages - 1) / tile_stages * tile_stages;
    if (aligned - even <= slack) plan.length = aligned;
  }
  return plan;
}

// Stages [k_begin, k_end) of a tile: all of them, or what one stripe has.
struct TilePart {
  int tile;
  int k_begin;
  int k_end;
};

// Which stripes hold the rest of a tile that a stripe has a part of.
struct TileShare {
  bool owns;             // holds the tile's first stage, writes C
  int num_contributors;  // of an owner: how many stripes behind its own have partial sums for it
  int owner;             // stripe that owns the tile
};

// A stripe of a plan, and where in it the tiles are cut.
struct BlockStripe {
  StripePlan plan;
  int begin;
  int end;
};

// What one thread block works on, part of a tile after part of a tile: its stripe, then whole
// tiles.
class StripeSchedule {
 public:
  // `tile_stages` and `stripes`, which have to live as long as this does, are those that the plan
  // was made of.
  MARLIN_HOST_DEVICE constexpr StripeSchedule(const BlockStripe& work, int tiles,
                                              const Divider& tile_stages, const Divider& stripes,
                                              int stripe)
      : plan_(work.plan),
        tile_stages_(tile_stages),
        stripes_(stripes),
        tiles_(tiles),
        stripe_(stripe),
        stage_(work.begin),
        end_(work.end),
        whole_tile_(work.plan.cut_tiles + stripe) {}

  // Moves on to the next part; returns false behind the last one.
  MARLIN_HOST_DEVICE constexpr bool next(TilePart* part) {
    if (stage_ >= end_ && whole_tile_ >= tiles_) return false;
    const int stages = tile_stages_;
    *part = {whole_tile_, 0, stages};
    if (stage_ < end_) {
      part->tile = stage_ / tile_stages_;
      part->k_begin = stage_ - part->tile * stages;
      const int behind = part->k_begin + end_ - stage_;
      part->k_end = behind < stages ? behind : stages;
      stage_ += part->k_end - part->k_begin;
    } else {
      whole_tile_ += stripes_;
    }
    return true;
  }

  MARLIN_HOST_DEVICE constexpr TileShare share(const TilePart& part) const {
    TileShare share{part.k_begin == 0, 0, stripe_};
    if (part.k_end - part.k_begin < tile_stages_) {
      // The stripe of the tile's other end.
      const int other = plan_.stripe_of(part.tile, share.owns ? tile_stages_ - 1 : 0);
      if (other > stripe_) share.num_contributors = other - stripe_;
      if (other < stripe_) share.owner = other;
    }
    return share;
  }

 private:
  StripePlan plan_;
  const Divider& tile_stages_;
  const Divider& stripes_;
  int tiles_;
  int stripe_;
  int stage_;  // the stripe's next one
  int end_;
  int whole_tile_;  // the next one
};

// Where a tile lies in C.
struct TileIndex {
  int row_block;
  int n_tile;
};

constexpr int kRowBlocksOfGroup = 4;

// Tiles that follow each other are those of a group of row blocks in the same columns, then in the
// next columns: they are multiplied at the same time, and often with the same weights. Row blocks
// that are left over, less than a group, have their tiles one after the other.
MARLIN_HOST_DEVICE constexpr TileIndex tile_index(int tile, int row_blocks,
                                                  const Divider& n_tiles) {
  const int row_block = tile / n_tiles;
  const int first = row_block / kRowBlocksOfGroup * kRowBlocksOfGroup;
  if (row_blocks - first < kRowBlocksOfGroup) return {row_block, tile - row_block * n_tiles};
  const int rank = tile - first * n_tiles;
  return {first + rank % kRowBlocksOfGroup, rank / kRowBlocksOfGroup};
}

}  // namespace marlin_moe
