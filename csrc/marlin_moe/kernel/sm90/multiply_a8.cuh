// The main loop of a multiplying warpgroup with 8-bit activations.
//
// Scales cannot be applied to 8-bit weights. The products of the rows that have a scale are summed
// by themselves, and added to the tile's sums times the scale. Where a scale goes for all rows,
// this is done for every stage all the same: wgmma adds up e4m3 products with about 14 bits.
//
// These sums have to fit in registers beside the tile's, so that a warpgroup may not have them of
// all its products at once. It then goes through the rows of a scale once for each batch:
//
//   batch 0, blocks 0 … 3 | scale, add | batch 1, blocks 0 … 3 | scale, add | next stage …
//
// A step is a batch's products with one block. The next step's weights are decoded meanwhile, and
// those of the step after it loaded; while a warpgroup waits to scale and add, the other one
// multiplies.
#pragma once

#include "async_copy.cuh"
#include "sm90_pipeline.cuh"
#include "sm90_traits.cuh"
#include "weight_fragments_a8.cuh"
#include "wgmma.cuh"

namespace marlin_moe::sm90 {

template <class Traits>
class StageMultiplier8 {
 public:
  // What a finished sum still has to be multiplied by, as a power of two.
  static constexpr int kSumPower = -WeightFragments8<Traits, 1>::kPower;

  __device__ __forceinline__ StageMultiplier8(const Params& params,
                                              const SharedLayout<Traits>& shared)
      : params_(params), shared_(shared) {}

  // Leaves the sums over `count` stages, at least one, in `sums`.
  __device__ __forceinline__ void run(int count, Sums<Traits>& sums) {
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j)
#pragma unroll
      for (int i = 0; i < Traits::kSums; ++i) sums[j][i] = 0.0f;
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
#pragma unroll
      for (int i = 0; i < Traits::kSums; ++i) run_sums_[j][i] = 0;

    begin_stage();
#pragma unroll
    for (int step = 0; step < kLoadAhead; ++step) load(step);
    decode(0, shared_.stage(stage_.index));
#pragma unroll 1
    for (int i = 0; i + 1 < count; ++i) multiply_stage</*kLast=*/false>(sums);
    multiply_stage</*kLast=*/true>(sums);
    stage_.advance();
  }

 private:
  static constexpr Sm90Tile kTile = Traits::kTile;
  static constexpr int kBatch = kTile.batch_products();
  static constexpr int kBatches = Traits::kProducts / kBatch;
  // Blocks of a stage that are summed before they are scaled.
  static constexpr int kRun = Traits::kGrouped && 16 * Traits::kGroupBlocks < kTile.stage_k()
                                  ? 16 * Traits::kGroupBlocks / kTile.block_k()
                                  : Sm90Tile::kStageBlocks;
  static constexpr int kSteps = Sm90Tile::kStageBlocks * kBatches;
  static_assert(kSteps % 2 == 0, "a stage begins with the first fragment");

  using Weights = WeightFragments8<Traits, kBatch>;
  // How many steps before its products a step's weights are loaded: one more where the registers
  // suffice, so that decoding does not wait for shared memory.
  static constexpr int kLoadAhead = kBatch * Weights::kWords <= 4 ? 2 : 1;

  static MARLIN_HOST_DEVICE constexpr int block_of(int step) {
    return step / (kRun * kBatches) * kRun + step % kRun;
  }
  static MARLIN_HOST_DEVICE constexpr int batch_of(int step) { return step / kRun % kBatches; }
  // Which of the stage's rows of scales and zero points.
  static MARLIN_HOST_DEVICE constexpr int row_of(int step) {
    return Traits::kGrouped ? step / (kRun * kBatches) : 0;
  }
  static MARLIN_HOST_DEVICE constexpr bool begins_run(int step) { return step % kRun == 0; }
  static MARLIN_HOST_DEVICE constexpr bool ends_run(int step) { return step % kRun == kRun - 1; }

  // Waits for the stage at the cursor.
  __device__ __forceinline__ void begin_stage() {
    wait_barrier(shared_.stage_full(stage_.index), stage_.parity);
    see_rows<Traits>(params_);
  }
  // Loads the packed weights of a step of the stage at the cursor.
  __device__ __forceinline__ void load(int step) {
    packed_[step % kLoadAhead] =
        Weights::load(shared_.stage(stage_.index), block_of(step), batch_of(step));
  }
  __device__ __forceinline__ void decode(int step, SharedAddress stage) {
    if (begins_run(step)) weights_.load_zero_points(stage, row_of(step), batch_of(step));
    typename Weights::Fragment& fragment = fragments_[step % 2];
    weights_.decode(packed_[step % kLoadAhead], fragment);
    // Keeps the compiler from decoding behind the wait for products.
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(fragment[j][i]));
  }

  // Multiplies the stage at the cursor, of whose steps kLoadAhead are loaded, and the first one is
  // decoded. Unless it is the tile's last one, the cursor is then at the next one, of which the
  // same holds.
  template <bool kLast>
  __device__ __forceinline__ void multiply_stage(Sums<Traits>& sums) {
    const unsigned index = stage_.index;
    const SharedAddress stage = shared_.stage(index);
    const std::uint64_t tokens = token_matrix(stage);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        Wgmma<Traits::kRows>::template multiply8<Traits::kInt8>(
            run_sums_[j], fragments_[step % 2][j], tokens + block_of(step) * kTokenMatrixStep,
            /*add=*/!begins_run(step));
      }
      wgmma_commit();
      float scale[kBatch][2];
      if (Traits::kGrouped && ends_run(step)) {
        Weights::load_scales(stage, row_of(step), batch_of(step), scale);
      }
      if (!kLast && step + kLoadAhead == kSteps) {
        stage_.advance();
        begin_stage();
      }
      if (!kLast || step + kLoadAhead < kSteps) load((step + kLoadAhead) % kSteps);
      if (!kLast || step + 1 < kSteps) {
        wgmma_wait<1>();
        decode((step + 1) % kSteps, step + 1 < kSteps ? stage : shared_.stage(stage_.index));
      }
      if (ends_run(step)) {
        wgmma_wait<0>();
        if (step + 1 == kSteps) arrive_as_warp(shared_.stage_empty(index));
        add_run(scale, batch_of(step), sums);
      }
    }
  }

  // Adds the sums of a batch's run of blocks to the tile's.
  __device__ __forceinline__ void add_run(const float (&scale)[kBatch][2], int batch,
                                          Sums<Traits>& sums) {
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
#pragma unroll
      for (int i = 0; i < Traits::kSums; ++i) {
        // Keeps the compiler from using a sum before the products that write it are waited for.
        asm volatile("" : "+r"(run_sums_[j][i])::"memory");
        float& sum = sums[kBatch * batch + j][i];
        const float value = to_float(run_sums_[j][i]);
        sum = Traits::kGrouped ? fmaf(value, scale[j][i / 2 % 2], sum) : sum + value;
      }
    }
  }
  static __device__ __forceinline__ float to_float(std::uint32_t sum) {
    if constexpr (Traits::kInt8) {
      return static_cast<float>(static_cast<int>(sum));
    } else {
      return __uint_as_float(sum);
    }
  }

  const Params& params_;
  const SharedLayout<Traits>& shared_;
  RingCursor<Traits::kStages> stage_;
  Weights weights_;
  typename Weights::Packed packed_[kLoadAhead];
  typename Weights::Fragment fragments_[2];
  std::uint32_t run_sums_[kBatch][Traits::kSums];
};

}  // namespace marlin_moe::sm90
