// The sum of a tile that several thread blocks have parts of.
//
// Each part's warpgroup leaves its sums in the workspace. The last one to do so adds all of them up
// in the order of the parts, so that a launch gives the same bits every time, and nobody waits.
#pragma once

#include <cstdint>

#include "marlin_moe/kernel/ptx.cuh"
#include "marlin_moe/plan/part_count.h"
#include "sm90_pipeline.cuh"
#include "sm90_traits.cuh"
#include "tile_walk.cuh"
#include "uniform.cuh"

namespace marlin_moe::sm90 {

// A barrier of one multiplying warpgroup.
__device__ __forceinline__ void warpgroup_barrier(unsigned warpgroup) {
  if (warpgroup == 0) {
    asm volatile("bar.sync 1, 128;\n" ::: "memory");
  } else {
    asm volatile("bar.sync 2, 128;\n" ::: "memory");
  }
}

// What a counter holds now, in no order with other memory.
__device__ __forceinline__ PartCount::Word look(const PartCount::Word* counter) {
  PartCount::Word word;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];\n" : "=l"(word) : "l"(counter) : "memory");
  return word;
}

// Counts the arrival of one of a tile's parts, and returns how many came before: what those wrote
// is seen then. `seen`: what the counter held a moment ago. One lane of a warp counts, or none; the
// warp stays together (uniform.cuh).
__device__ __forceinline__ int count_arrival(PartCount::Word* counter, PartCount::Word seen,
                                             int parts, bool counts) {
  int before = 0;
  do {
    if (counts) {
      const PartCount::Word next = PartCount::next(seen, parts);
      PartCount::Word found;
      asm volatile("atom.acq_rel.gpu.global.cas.b64 %0, [%1], %2, %3;\n"
                   : "=l"(found)
                   : "l"(counter), "l"(seen), "l"(next)
                   : "memory");
      before = PartCount::arrived(seen);
      counts = found != seen;
      seen = found;
    }
  } while (uniform(counts));
  return before;
}

template <class Traits>
class PartialSums {
 public:
  __device__ __forceinline__ PartialSums(const Params& params, const Work& work)
      : work_(work),
        counter_(reinterpret_cast<PartCount::Word*>(params.locks) +
                 work.cut * Sm90Tile::kWarpgroups + warpgroup_),
        parts_(reinterpret_cast<float4*>(params.partials) +
               (static_cast<std::int64_t>(work.cut) * work.parts * Sm90Tile::kWarpgroups +
                warpgroup_) *
                   kPartQuads +
               threadIdx.x % 128) {}

  // Adds up the parts of the work's tile for one warpgroup. Returns whether `sums` are now those of
  // the tile, which the warpgroup of one part then has to write.
  __device__ __forceinline__ bool sum(const SharedLayout<Traits>& shared, Sums<Traits>& sums) {
    store(sums);
    const bool counts = threadIdx.x % 128 == 0;
    // So that the first try to count mostly is the last, and this look takes no time of its own.
    const PartCount::Word seen = counts ? look(counter_) : 0;
    warpgroup_barrier(warpgroup_);
    const int before = count_arrival(counter_, seen, work_.parts, counts);
    if (counts) store_shared(shared.message(warpgroup_), static_cast<std::uint32_t>(before));
    warpgroup_barrier(warpgroup_);
    if (uniform(load_shared_4(shared.message(warpgroup_)) != work_.parts - 1)) return false;
    const int parts = uniform(work_.parts);
    if (parts == 2) {
      // In either order.
      add(1 - work_.part, sums);
      return true;
    }
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j)
#pragma unroll
      for (int i = 0; i < Traits::kSums; ++i) sums[j][i] = 0.0f;
#pragma unroll 1
    for (int part = 0; part < parts; ++part) add(part, sums);
    return true;
  }

 private:
  static constexpr int kQuads = Traits::kRows / 8;  // groups of four sums of a product
  static constexpr int kPartQuads = Traits::kProducts * kQuads * 128;

  // Parts are [cut tile, part, warpgroup, product, quad, thread].
  __device__ __forceinline__ float4* part(int part) const {
    return parts_ + static_cast<std::int64_t>(part) * (Sm90Tile::kWarpgroups * kPartQuads);
  }

  __device__ __forceinline__ void store(const Sums<Traits>& sums) const {
    float4* own = part(work_.part);
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j)
#pragma unroll
      for (int i = 0; i < kQuads; ++i) {
        const float* sum = sums[j] + 4 * i;
        __stcg(own + (j * kQuads + i) * 128, make_float4(sum[0], sum[1], sum[2], sum[3]));
      }
  }

  __device__ __forceinline__ void add(int index, Sums<Traits>& sums) const {
    const float4* from = part(index);
#pragma unroll
    for (int j = 0; j < Traits::kProducts; ++j)
#pragma unroll
      for (int i = 0; i < kQuads; ++i) {
        // Keeps the compiler from more loads at a time than there are registers for.
        if (i % 4 == 0) asm volatile("" ::: "memory");
        // Past L1, which does not see what other multiprocessors wrote.
        const float4 v = __ldcg(from + (j * kQuads + i) * 128);
        float* sum = sums[j] + 4 * i;
        sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
      }
  }

  const unsigned warpgroup_ = warpgroup_index();
  const Work& work_;
  PartCount::Word* counter_;
  float4* parts_;
};

}  // namespace marlin_moe::sm90
