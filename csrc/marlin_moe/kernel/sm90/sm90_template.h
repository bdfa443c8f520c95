// The definition of the sm90 family's kernel, which generated files instantiate.
//
// C^T = W^T A^T with wgmma: two warpgroups decode weights into registers and multiply them with
// tokens in shared memory (multiply.cuh, multiply_a8.cuh), a third one loads (loader.cuh). A block
// walks its tiles (tile_walk.cuh); those that several blocks have parts of are summed in
// k_splits.cuh, and written in sm90_epilogue.cuh.
//
// How weights are decoded is not in here: a generated file also includes one of *_weights.cuh or
// *_activations.cuh.
#pragma once

#include <type_traits>

#include "k_splits.cuh"
#include "loader.cuh"
#include "marlin_moe/kernel/expert_blocks.cuh"
#include "marlin_moe/kernel/kernel.h"
#include "multiply.cuh"
#include "multiply_a8.cuh"
#include "sm90_epilogue.cuh"
#include "sm90_pipeline.cuh"
#include "sm90_traits.cuh"
#include "tile_walk.cuh"
#include "uniform.cuh"

namespace marlin_moe::sm90 {

template <class Traits>
__device__ __forceinline__ void run_multiplier(const Params& params,
                                               const SharedLayout<Traits>& shared,
                                               const TileWalk& walk) {
  using Multiplier =
      std::conditional_t<Traits::kA8, StageMultiplier8<Traits>, StageMultiplier<Traits>>;
  Multiplier multiplier(params, shared);
  RingCursor<Sm90Tile::kTileSlots> slot;
  const int units = uniform(walk.units());
#pragma unroll 1
  for (int unit = blockIdx.x; unit < units; unit += params.stripes) {
    const Work work = walk.work(unit);
    Sums<Traits> sums;
    multiplier.run(uniform(work.k_end - work.k_begin), sums);
    wait_barrier(shared.slot_full(slot.index), slot.parity);
    if (uniform(work.parts == 1) || PartialSums<Traits>(params, work).sum(shared, sums)) {
      Epilogue<Traits, Multiplier::kSumPower>::run(params, shared.slot(slot.index),
                                                   shared.staging(threadIdx.x / 32),
                                                   work.tile.n_tile * Traits::kThreadN, sums);
    }
    arrive_as_warp(shared.slot_empty(slot.index));
    slot.advance();
  }
}

template <class Traits>
__device__ __forceinline__ void run_block(const Params& params, const void* shared_memory) {
  const SharedLayout<Traits> shared(shared_memory);
  if (threadIdx.x == 0) shared.init_barriers();
  const ExpertBlocks blocks(params, Traits::kRows);
  __syncthreads();

  constexpr Sm90Tile kTile = Traits::kTile;
  if (warpgroup_index() == Sm90Tile::kWarpgroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kTile.loader_registers()));
    Loader<Traits>(params, shared).run(TileWalk(params, blocks.count()), blocks);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kTile.multiplier_registers()));
    run_multiplier<Traits>(params, shared, TileWalk(params, blocks.count()));
  }
}

}  // namespace marlin_moe::sm90

namespace MARLIN_NAMESPACE_NAME {

template <const ScalarTypeId a_type_id, const ScalarTypeId b_type_id, const ScalarTypeId c_type_id,
          const ScalarTypeId s_type_id, const int block_rows, const int thread_n,
          const int blocks_per_sm, const int stages, const int group_blocks>
__global__ void __launch_bounds__(384, blocks_per_sm) MarlinSm90(MARLIN_KERNEL_PARAMS) {
  using Traits = ::marlin_moe::sm90::Traits<a_type_id, b_type_id, c_type_id, s_type_id, block_rows,
                                            thread_n, blocks_per_sm, stages, group_blocks>;
  static_assert(Traits::kTile.threads() == 384, "as the launch bounds say");
  extern __shared__ int4 marlin_moe_shared[];
  ::marlin_moe::sm90::run_block<Traits>(params, marlin_moe_shared);
}

}  // namespace MARLIN_NAMESPACE_NAME
