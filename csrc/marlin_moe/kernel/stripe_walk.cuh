// Which tiles a thread block works on, in which order: as schedule.h says, in the blocks of
// sorted_token_ids that have an expert.
//
// The family sm90 deals tiles out in another way (sm90/tile_walk.cuh): it has no stripes, since
// nobody waits for partial sums there. Both find blocks by expert_blocks.cuh and tiles by
// tile_index().
#pragma once

#include "expert_blocks.cuh"
#include "kernel.h"
#include "marlin_moe/plan/schedule.h"

namespace marlin_moe {

// A tile, or a part of one.
struct WorkItem {
  TilePart part;
  int block;   // of sorted_token_ids
  int expert;  // -1: none, there is nothing to do
  int n_tile;
};

// Not inlined, so that the kernels of a file share its compilation.
inline __device__ __noinline__ BlockStripe plan_block(int tiles, Divider tile_stages,
                                                      Divider stripes, int slack, int stripe) {
  const StripePlan plan = plan_stripes(tiles, tile_stages, stripes, slack);
  return {plan, plan.begin(stripe), plan.end(stripe)};
}

class StripeWalk {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  // `rows`: of a tile, the block size of sorted_token_ids.
  __device__ __forceinline__ StripeWalk(const Params& params, int rows)
      : params_(params),
        stripe_(static_cast<int>(gridDim.x - 1 - blockIdx.x)),
        blocks_(params, rows),
        schedule_(
            plan_block(tiles(), params.tile_stages, params.stripes, params.stripe_slack, stripe_),
            tiles(), params.tile_stages, params.stripes, stripe_) {}

  __device__ __forceinline__ int stripe() const { return stripe_; }

  // Moves on to the next item; returns false behind the last one.
  __device__ __forceinline__ bool next(WorkItem* item) {
    if (!schedule_.next(&item->part)) return false;
    const TileIndex index = tile_index(item->part.tile, blocks_.count(), params_.n_tiles);
    item->block = blocks_.find(index.row_block);
    item->expert = blocks_.expert(item->block);
    item->n_tile = index.n_tile;
    return true;
  }

  // Which stripes hold the rest of the item's tile.
  __device__ __forceinline__ TileShare share(const WorkItem& item) const {
    return schedule_.share(item.part);
  }

 private:
  __device__ __forceinline__ int tiles() const { return blocks_.count() * params_.n_tiles; }

  const Params& params_;
  int stripe_;
  ExpertBlocks blocks_;
  StripeSchedule schedule_;
};

}  // namespace marlin_moe
