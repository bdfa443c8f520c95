// The main loop of a multiplying warpgroup with 16-bit activations: the sums of a tile's stages.
//
// While the tensor cores multiply 16 rows of B, the threads decode the next 16 into the other of
// two fragments:
//
//   tensor cores   | rows 0 … 15 | rows 16 … 31 | rows 32 … 47 | …
//   threads        | decode 16 … 31 | decode 32 … 47 | …
//
// The warpgroups do not wait for each other. They drift apart, so that one's tensor work also
// covers what the other does between tiles.
#pragma once

#include "async_copy.cuh"
#include "sm90_pipeline.cuh"
#include "sm90_traits.cuh"
#include "weight_fragments.cuh"
#include "wgmma.cuh"

namespace marlin_moe::sm90 {

template <class Traits>
class StageMultiplier {
 public:
  using Weights = WeightFragments<Traits>;
  static constexpr int kSumPower = Weights::kSumPower;

  __device__ __forceinline__ StageMultiplier(const Params& params,
                                             const SharedLayout<Traits>& shared)
      : params_(params), shared_(shared) {}

  // Leaves the sums over `count` stages, at least one, in `sums`.
  __device__ __forceinline__ void run(int count, Sums<Traits>& sums) {
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j)
#pragma unroll
      for (int i = 0; i < Traits::kSums; ++i) sums[j][i] = 0.0f;

    begin_stage();
    weights_.decode(packed_, fragments_[0]);
#pragma unroll 1
    for (int i = 0; i + 1 < count; ++i) multiply_stage</*kLast=*/false>(i == 0, sums);
    multiply_stage</*kLast=*/true>(count == 1, sums);

    wgmma_wait<0>();
    release_stage(stage_.index);
    stage_.advance();
    settle(sums);
  }

 private:
  static constexpr int kBlocks = Sm90Tile::kStageBlocks;

  // Waits for the stage at the cursor, and loads what its first 16 rows need.
  __device__ __forceinline__ void begin_stage() {
    wait_barrier(shared_.stage_full(stage_.index), stage_.parity);
    load(0);
    see_rows<Traits>(params_);
    prepare(0);
  }
  __device__ __forceinline__ void load(int block) {
    const SharedAddress stage = shared_.stage(stage_.index);
    packed_ = Weights::load(stage, block);
    if (Weights::terms_change_at(block)) weights_.load_terms(stage, block);
  }
  __device__ __forceinline__ void prepare(int block) {
    if (Weights::terms_change_at(block)) weights_.prepare_terms();
  }

  // Multiplies the stage at the cursor, whose first fragment is decoded. Unless it is the tile's
  // last one, the cursor is then at the next one, and its first fragment decoded.
  template <bool kLast>
  __device__ __forceinline__ void multiply_stage(bool first, Sums<Traits>& sums) {
    const std::uint64_t tokens = token_matrix(shared_.stage(stage_.index));
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const Fragment& fragment = fragments_[block % 2];
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < Traits::kProducts; ++j) {
        Wgmma<Traits::kRows>::template multiply<Traits::kBFloat16>(
            sums[j], fragment[j], tokens + block * kTokenMatrixStep);
      }
      wgmma_commit();
      if (block + 1 < kBlocks) {
        load(block + 1);
        wgmma_wait<1>();
        // The products with the stage before are done.
        if (block == 0 && !first) release_stage(previous_);
        prepare(block + 1);
        weights_.decode(packed_, fragments_[(block + 1) % 2]);
      } else if constexpr (!kLast) {
        previous_ = stage_.index;
        stage_.advance();
        begin_stage();
        wgmma_wait<1>();
        weights_.decode(packed_, fragments_[0]);
      }
    }
  }

  __device__ __forceinline__ void release_stage(unsigned index) {
    arrive_as_warp(shared_.stage_empty(index));
  }

  // Keeps the compiler from using sums before the products that write them are waited for.
  static __device__ __forceinline__ void settle(Sums<Traits>& sums) {
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j)
#pragma unroll
      for (int i = 0; i < Traits::kSums; ++i) asm volatile("" : "+f"(sums[j][i])::"memory");
  }

  using Fragment = typename Weights::Fragment;

  const Params& params_;
  const SharedLayout<Traits>& shared_;
  RingCursor<Traits::kStages> stage_;
  unsigned previous_;
  Weights weights_;
  typename Weights::Packed packed_;
  Fragment fragments_[2];
};

}  // namespace marlin_moe::sm90
