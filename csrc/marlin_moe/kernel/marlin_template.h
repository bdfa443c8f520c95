// The definition of the kernel that generated files instantiate.
//
// A thread block walks its share of the work (stripe_walk.cuh). For each tile, or part of one, it
// keeps a pipeline of stages in shared memory full (stage_loader.cuh), multiplies them
// (multiplier.cuh, multiplier_a8.cuh) and writes or passes on the sums (epilogue.cuh).
//
// How weights are decoded is not in here: a generated file also includes one of *_weights.cuh and
// *_activations.cuh, so that a change of one reaches no other file.
#pragma once

#include "epilogue.cuh"
#include "kernel.h"
#include "kernel_traits.cuh"
#include "ptx.cuh"
#include "stage_loader.cuh"
#include "stripe_walk.cuh"
#include "tile_rows.cuh"

namespace marlin_moe {

// Multiplies stages [k_begin, k_end) of the tile that loader, rows and multiplier were pointed at.
//
// Once all warps have a stage in registers, which the barrier before the next one says, its slot is
// filled again.
template <class Traits, class Multiplier>
__device__ __forceinline__ void multiply_stages(StageLoader<Traits>& loader, TileRows<Traits>& rows,
                                                Multiplier& multiplier, int k_begin, int k_end) {
  constexpr int kStages = Traits::kStages;
  constexpr unsigned kStageBytes = Traits::kShape.stage_bytes();
  // One group of copies for each stage, empty ones behind the last, so that groups count stages.
  const auto issue = [&](int k_tile, unsigned slot) {
    if (k_tile < k_end) loader.issue(k_tile, slot);
    copy_async_commit();
  };
#pragma unroll 1
  for (int i = 0; i < kStages; ++i) {
    issue(k_begin + i, i * kStageBytes);
    loader.land();
  }
  rows.load_factors();
  copy_async_wait<kStages - 1>();
  __syncthreads();

  unsigned slot = 0;  // of the stage that is multiplied, in bytes from the first
  // From stage `k_tile`, which must be in registers, to the next one.
  const auto next_stage = [&](int k_tile) {
    copy_async_wait<kStages - 2>();
    __syncthreads();
    issue(k_tile + kStages, slot);
    slot = slot == (kStages - 1) * kStageBytes ? 0 : slot + kStageBytes;
  };

  // The two blocks of B's rows that a warp has in a stage.
  typename Multiplier::Fragment fragments[2];
  if constexpr (Multiplier::kMultipliesPairs) {
#pragma unroll 1
    for (int k_tile = k_begin; k_tile < k_end; ++k_tile) {
      multiplier.load(fragments[0], slot, k_tile, 0);
      multiplier.load(fragments[1], slot, k_tile, 1);
      multiplier.multiply_pair(fragments[0], fragments[1]);
      loader.land();
      next_stage(k_tile);
    }
  } else {
    // One is multiplied while the other is loaded.
    multiplier.load(fragments[0], slot, k_begin, 0);
#pragma unroll 1
    for (int k_tile = k_begin; k_tile < k_end; ++k_tile) {
      multiplier.load(fragments[1], slot, k_tile, 1);
      multiplier.template multiply<0>(fragments[0]);
      next_stage(k_tile);
      // Behind the last stage nobody uses what is loaded: cheaper than a branch.
      multiplier.load(fragments[0], slot, min(k_tile + 1, k_end - 1), 0);
      multiplier.template multiply<1>(fragments[1]);
      loader.land();
    }
  }
  multiplier.finish_tile();
  copy_async_wait<0>();
  __syncthreads();
}

template <class Traits>
__device__ __forceinline__ void run_block(const ::MARLIN_NAMESPACE_NAME::KernelParams& params,
                                          SharedAddress shared) {
  using Multiplier = typename MultiplierOf<Traits>::type;
  StripeWalk walk(params, Traits::kRows);
  TileRows<Traits> rows(params, shared);
  StageLoader<Traits> loader(params, shared);
  Multiplier multiplier(params, shared);
  Epilogue<Traits, Multiplier> epilogue(params, shared, rows, walk.stripe());

  WorkItem item;
#pragma unroll 1
  while (walk.next(&item)) {
    rows.load_ids(item.block);
    if (item.expert < 0) continue;  // asked here, so that its load and the ids' are one wait
    __syncthreads();
    loader.begin_tile(rows, item.expert, item.n_tile, item.part.k_begin);
    multiplier.begin_tile(item.expert, item.n_tile);
    multiply_stages(loader, rows, multiplier, item.part.k_begin, item.part.k_end);
    epilogue.run(multiplier, walk.share(item), item.expert, item.n_tile);
  }
}

// Blocks that a multiprocessor shall hold, which bounds the registers of a thread. Few rows need
// many blocks to keep enough loads under way; 48 rows and more need the registers.
constexpr int min_blocks_per_multiprocessor(int threads, int thread_m_blocks) {
  return thread_m_blocks > 2 ? 1 : (thread_m_blocks == 2 ? 384 : 512) / threads;
}

}  // namespace marlin_moe

namespace MARLIN_NAMESPACE_NAME {

template <const ScalarTypeId a_type_id, const ScalarTypeId b_type_id, const ScalarTypeId c_type_id,
          const ScalarTypeId s_type_id, const int threads, const int thread_m_blocks,
          const int thread_n_blocks, const int thread_k_blocks, const bool m_block_size_8,
          const int stages, const int group_blocks, const bool is_zp_float>
__global__ void __launch_bounds__(threads,
                                  ::marlin_moe::min_blocks_per_multiprocessor(threads,
                                                                              thread_m_blocks))
    Marlin(MARLIN_KERNEL_PARAMS) {
  static_assert(!is_zp_float, "floating-point zero points have no kernel");
  using Traits = ::marlin_moe::KernelTraits<a_type_id, b_type_id, c_type_id, s_type_id, threads,
                                            thread_m_blocks, thread_n_blocks, thread_k_blocks,
                                            m_block_size_8, stages, group_blocks>;
  extern __shared__ int4 marlin_moe_shared[];
  ::marlin_moe::run_block<Traits>(params, ::marlin_moe::shared_address(marlin_moe_shared));
}

}  // namespace MARLIN_NAMESPACE_NAME
