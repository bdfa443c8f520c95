// Which tiles a thread block works on, in which order.
//
// Tiles are dealt out whole, one to each thread block at a time. Those of a last wave that would
// leave half of the blocks or more with nothing to do are cut along k, into as many equal parts as
// keep all of them busy:
//
//   4 blocks, 6 tiles   wave 0   tile 0 | tile 1 | tile 2 | tile 3
//                       wave 1   tile 4, first half | second half | tile 5, first half | ...
//
// The order of tiles is tile_index()'s (schedule.h): neighbours read the same weights. All roles of
// a block walk alike, each for itself.
#pragma once

#include "marlin_moe/kernel/kernel.h"
#include "marlin_moe/plan/schedule.h"
#include "marlin_moe/plan/sm90_tile.h"

namespace marlin_moe::sm90 {

// A tile, or a part of one.
struct Work {
  TileIndex tile;
  int k_begin;  // stages [k_begin, k_end) of the tile
  int k_end;
  int part;   // which of `parts` it is
  int parts;  // 1: a whole tile
  int cut;    // which of the tiles that are cut
};

class TileWalk {
 public:
  __device__ __forceinline__ TileWalk(const ::MARLIN_NAMESPACE_NAME::KernelParams& params,
                                      int row_blocks)
      : params_(params), row_blocks_(row_blocks) {
    const int blocks = params.stripes;
    const int tiles = row_blocks * params.n_tiles;
    const int k_stages = params.tile_stages;
    whole_ = tiles / params.stripes * blocks;
    const int rest = tiles - whole_;
    parts_ = 1;
    part_stages_ = k_stages;
    if (rest > 0 && 2 * rest <= blocks && params.k_splits > 1) {
      const int most = min(min(divide(blocks, rest), params.k_splits), k_stages);
      part_stages_ = divide(k_stages + most - 1, most);
      parts_ = divide(k_stages + part_stages_ - 1, part_stages_);
    }
    units_ = whole_ + rest * parts_;
  }

  // Units of work are whole tiles, then parts. Those of a block are blockIdx.x, + gridDim.x, …
  __device__ __forceinline__ int units() const { return units_; }

  __device__ __forceinline__ Work work(int unit) const {
    int tile = unit;
    Work work{{}, 0, params_.tile_stages, 0, 1, 0};
    if (unit >= whole_ && parts_ > 1) {
      work.parts = parts_;
      work.cut = divide(unit - whole_, parts_);
      work.part = unit - whole_ - work.cut * parts_;
      tile = whole_ + work.cut;
      work.k_begin = work.part * part_stages_;
      work.k_end = min(work.k_begin + part_stages_, work.k_end);
    }
    work.tile = tile_index(tile, row_blocks_, params_.n_tiles);
    return work;
  }

 private:
  const ::MARLIN_NAMESPACE_NAME::KernelParams& params_;
  int row_blocks_;
  int whole_;        // tiles that are not cut, which come first
  int parts_;        // of each of the others
  int part_stages_;  // of each part but the last, which may have fewer
  int units_;
};

}  // namespace marlin_moe::sm90
