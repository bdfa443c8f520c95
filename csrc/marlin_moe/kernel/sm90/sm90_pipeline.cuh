// The shared memory of a thread block: a ring of stages that the loading warpgroup fills and the
// multiplying ones empty, and a ring of slots for what belongs to a whole tile.
//
//   [stages] [rows of C on their way out] [slots of tiles] [barriers] [arrival words]
//
// Each stage and each slot has two barriers: full, which loads complete, and empty, at which every
// multiplying warp arrives when it has read all.
#pragma once

#include "async_copy.cuh"
#include "mbarrier.cuh"
#include "sm90_traits.cuh"

namespace marlin_moe::sm90 {

template <class Traits>
struct SharedLayout {
  static constexpr Sm90Tile kTile = Traits::kTile;
  static constexpr int kStages = Traits::kStages;
  static constexpr int kSlots = Sm90Tile::kTileSlots;

  SharedAddress base;  // a multiple of kAlignment

  explicit __device__ __forceinline__ SharedLayout(const void* shared)
      : base((shared_address(shared) + Sm90Tile::kAlignment - 1) & ~(Sm90Tile::kAlignment - 1u)) {}

  __device__ __forceinline__ SharedAddress stage(unsigned i) const {
    return base + i * kTile.stage_bytes();
  }
  __device__ __forceinline__ SharedAddress staging(unsigned warp) const {
    return base + kStagingOffset + warp * (kTile.staging_bytes() / Sm90Tile::kWarps);
  }
  __device__ __forceinline__ SharedAddress slot(unsigned i) const {
    return base + kSlotsOffset + i * kTile.slot_bytes();
  }
  __device__ __forceinline__ SharedAddress stage_full(unsigned i) const { return barrier(i); }
  __device__ __forceinline__ SharedAddress stage_empty(unsigned i) const {
    return barrier(kStages + i);
  }
  __device__ __forceinline__ SharedAddress slot_full(unsigned i) const {
    return barrier(2 * kStages + i);
  }
  __device__ __forceinline__ SharedAddress slot_empty(unsigned i) const {
    return barrier(2 * kStages + kSlots + i);
  }
  // A word of each warpgroup, to tell its threads what one of them found.
  __device__ __forceinline__ SharedAddress message(unsigned warpgroup) const {
    return barrier(2 * (kStages + kSlots)) + 4 * warpgroup;
  }

  // One thread calls it; a barrier of the block follows.
  __device__ __forceinline__ void init_barriers() const {
    // Every loading thread's copies of A, and the bulk copies of one of them.
    constexpr int kStageArrivals = Sm90Tile::kLoaders + 1;
    // The sixteen threads that have a row's id, twice (loader.cuh), and the bulk copies.
    constexpr int kSlotArrivals = 2 * 16 + 1;
    constexpr int kEmptyArrivals = Sm90Tile::kWarps * kArrivalsOfWarp;
    for (int i = 0; i < kStages; ++i) {
      init_barrier(stage_full(i), kStageArrivals);
      init_barrier(stage_empty(i), kEmptyArrivals);
    }
    for (int i = 0; i < kSlots; ++i) {
      init_barrier(slot_full(i), kSlotArrivals);
      init_barrier(slot_empty(i), kEmptyArrivals);
    }
    publish_barriers();
  }

 private:
  static constexpr int kStagingOffset = kStages * kTile.stage_bytes();
  static constexpr int kSlotsOffset = kStagingOffset + kTile.staging_bytes();
  static constexpr int kBarriersOffset = kSlotsOffset + Sm90Tile::kTileSlots * kTile.slot_bytes();
  static_assert(kBarriersOffset % kBarrierBytes == 0, "barriers are aligned");

  __device__ __forceinline__ SharedAddress barrier(unsigned i) const {
    return base + kBarriersOffset + i * kBarrierBytes;
  }
};

// Whether the rows of A are staged; if not, the loaders gather them.
template <class Traits>
__device__ __forceinline__ bool rows_are_staged(const Params& params) {
  return Traits::kStagedA && params.staged_a != nullptr;
}

// Lets wgmma see a stage's rows of A. Staged ones come through the proxy that it reads through.
template <class Traits>
__device__ __forceinline__ void see_rows(const Params& params) {
  if (!rows_are_staged<Traits>(params)) fence_async_proxy();
}

// A place in a ring, and the parity of the round.
template <int kSize>
struct RingCursor {
  unsigned index = 0;
  unsigned parity = 0;

  __device__ __forceinline__ void advance() {
    if (++index == kSize) {
      index = 0;
      parity ^= 1;
    }
  }
};

}  // namespace marlin_moe::sm90
