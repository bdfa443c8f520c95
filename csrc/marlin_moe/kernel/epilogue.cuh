// From a warp's sums to rows of C: over the k warps of a block, over the blocks that share a tile,
// then scales, bias, top-k weight and rounding.
//
// Both sums are taken in a fixed order, so a launch gives the same bits every time, unless the
// caller asks for atomic additions: then a tile's contributors add to one sum in whatever order
// they come, and its owner reads one sum instead of one for each of them.
#pragma once

#include <cstdint>

#include "kernel_traits.cuh"
#include "marlin_moe/plan/schedule.h"
#include "ptx.cuh"
#include "tile_rows.cuh"

namespace marlin_moe {

template <class Traits, class Multiplier>
class Epilogue {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  __device__ __forceinline__ Epilogue(const Params& params, SharedAddress shared,
                                      const TileRows<Traits>& rows, int stripe)
      : params_(params), sums_(shared), rows_(rows), stripe_(stripe) {}

  // Finishes the tile of `multiplier`. All threads of the block call it, after the last copy into
  // shared memory has arrived and been read.
  __device__ __forceinline__ void run(const Multiplier& multiplier, const TileShare& share,
                                      int expert, int n_tile) {
    const unsigned column = n_tile * Traits::kThreadN + tile_column_;
    const bool in_c = column < static_cast<unsigned>(params_.n);
    const ColumnTerms terms = in_c && share.owns ? column_terms(expert, column) : ColumnTerms{};
    // Not unrolled over m blocks: each of them picks its registers by a uniform branch instead.
#pragma unroll 1
    for (int m = 0; m < Traits::kMBlocks; ++m) {
      store_sums(multiplier, m);
      if (m == 0 && share.num_contributors > 0) await_contributors(share);
      __syncthreads();
#pragma unroll 1
      for (unsigned row = position_.thread / kUnitsPerRow; row < kRowsPerBlock;
           row += Traits::kThreads / kUnitsPerRow) {
        const unsigned tile_row = m * kRowsPerBlock + row;
        const int id = rows_.id(tile_row);
        if (id >= params_.num_ids || !in_c) continue;
        float v[kUnit];
        reduce(v, row);
        if (exchange(v, share, tile_row)) finish(v, terms, tile_row, id, column);
      }
      __syncthreads();
    }
    signal(share);
  }

 private:
  static constexpr TileShape kShape = Traits::kShape;
  static constexpr int kStride = kShape.reduction_stride();
  static constexpr int kRowsPerBlock = kShape.rows_per_m_block();
  static constexpr int kUnit = 8;  // columns that one thread finishes at a time: 16 bytes of C
  static constexpr int kUnitsPerRow = Traits::kThreadN / kUnit;
  // In a stripe's lock: what it contributed to another's tile is there. A number that fresh memory
  // seldom holds, so that a workspace that was never zeroed neither stops nor misleads a launch.
  static constexpr int kContributed = 0x5eba1cd7;
  // A look takes 0.5 µs or more, so these half a minute; blocks that a debugger or another program
  // has stopped do not count.
#ifdef MARLIN_MOE_TEST_FEW_LOOKS
  static constexpr int kMostLooks = 1 << 20;
#else
  static constexpr int kMostLooks = 1 << 26;
#endif
  static_assert(Traits::kThreads % kUnitsPerRow == 0, "a thread's columns are those of every row");

  // What eight columns of an expert are multiplied by, and what is added to them then.
  struct ColumnTerms {
    float scale[kUnit];
    float bias[kUnit];
  };

  // Leaves the warp's sums of an m block in shared memory, for reduce().
  __device__ __forceinline__ void store_sums(const Multiplier& multiplier, int m_block) {
#pragma unroll
    for (int m = 0; m < Traits::kMBlocks; ++m) {
      if (m == m_block) store_block(multiplier.acc[m]);
    }
  }
  __device__ __forceinline__ void store_block(const float (&block)[Traits::kAccTiles][4]) {
    const unsigned q = position_.lane % 4;
    const unsigned c = position_.lane / 4;
    // Of the lane's first sum.
    const unsigned first = position_.k_warp * kRowsPerBlock * kStride +
                           position_.n_warp * Traits::kWarpColumns +
                           (Traits::kTransposed ? 2 * q * kStride + c : c * kStride + 2 * q);
    const SharedAddress to = sums_ + 4 * first;
#pragma unroll
    for (int t = 0; t < Traits::kAccTiles; ++t) {
      const float (&acc)[4] = block[t];
      if constexpr (Traits::kTransposed) {
        store_shared(to + 4 * (16 * t), acc[0]);
        store_shared(to + 4 * (16 * t + kStride), acc[1]);
        store_shared(to + 4 * (16 * t + 8), acc[2]);
        store_shared(to + 4 * (16 * t + 8 + kStride), acc[3]);
      } else {
        store_shared(to + 4 * (8 * t), acc[0], acc[1]);
        store_shared(to + 4 * (8 * t + 8 * kStride), acc[2], acc[3]);
      }
    }
  }

  // Adds up what the k warps have of eight columns of a row of the m block.
  __device__ __forceinline__ void reduce(float (&v)[kUnit], unsigned row) const {
    const SharedAddress from = sums_ + 4 * (row * kStride + tile_column_);
    const float4 low = load_shared_floats(from);
    const float4 high = load_shared_floats(from + 16);
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
#pragma unroll
    for (int k_warp = 1; k_warp < Traits::kKWarps; ++k_warp) {
      const SharedAddress next = from + 4 * k_warp * kRowsPerBlock * kStride;
      add(v, load_shared_floats(next), load_shared_floats(next + 16));
    }
    if constexpr (Multiplier::kExchangePower > 0) {
#pragma unroll
      for (int i = 0; i < kUnit; ++i) v[i] *= power_of_two(Multiplier::kExchangePower);
    }
  }

  // Hands eight columns of a row to the tile's owner or, in the owner, adds what others have.
  // Returns whether they are now those of the whole tile.
  __device__ __forceinline__ bool exchange(float (&v)[kUnit], const TileShare& share,
                                           unsigned tile_row) {
    float* partial = partials(share) + tile_row * Traits::kThreadN + tile_column_;
    if (!share.owns) {
      pass_on(v, partial);
      return false;
    }
    const int count = share.num_contributors;
    take_partials(v, partial, params_.atomic_reduce ? min(count, 1) : count);
    return true;
  }

  // Where partial sums of the tile lie: the stripe's own ones or, of an owner, those of its first
  // contributor. With atomic additions there is one place for all, the owner's.
  __device__ __forceinline__ float* partials(const TileShare& share) const {
    const int stripe = params_.atomic_reduce ? share.owner : stripe_ + (share.owns ? 1 : 0);
    return params_.partials + static_cast<std::int64_t>(stripe) * kShape.tile_elements();
  }

  __device__ __forceinline__ void pass_on(const float (&v)[kUnit], float* to) {
    if (params_.atomic_reduce) {
      reduce_add(to, v[0], v[1], v[2], v[3]);
      reduce_add(to + 4, v[4], v[5], v[6], v[7]);
    } else {
      float4* quads = reinterpret_cast<float4*>(to);
      __stcg(quads, make_float4(v[0], v[1], v[2], v[3]));
      __stcg(quads + 1, make_float4(v[4], v[5], v[6], v[7]));
    }
  }

  // Adds what contributors passed on, in their order.
  __device__ __forceinline__ void take_partials(float (&v)[kUnit], const float* from, int count) {
#pragma unroll 1
    for (int i = 0; i < count; ++i, from += kShape.tile_elements()) {
      const float4* quads = reinterpret_cast<const float4*>(from);
      // Past L1, which does not see what other multiprocessors wrote.
      add(v, __ldcg(quads), __ldcg(quads + 1));
    }
  }

  static __device__ __forceinline__ void add(float (&v)[kUnit], const float4& low,
                                             const float4& high) {
    v[0] += low.x, v[1] += low.y, v[2] += low.z, v[3] += low.w;
    v[4] += high.x, v[5] += high.y, v[6] += high.z, v[7] += high.w;
  }

  __device__ __forceinline__ ColumnTerms column_terms(int expert, unsigned column) const {
    float factor = power_of_two(kRestPower);
    if (Traits::kGlobalScale || (Traits::kMayHaveGlobalScale && params_.global_scales != nullptr)) {
      factor *= __ldg(params_.global_scales + expert);
    }
    ColumnTerms terms{};
    if constexpr (Traits::kChannel) load_permuted(terms.scale, params_.scales, expert, column);
#pragma unroll
    for (int i = 0; i < kUnit; ++i)
      terms.scale[i] = Traits::kChannel ? terms.scale[i] * factor : factor;
    if (params_.bias != nullptr) load_permuted(terms.bias, params_.bias, expert, column);
    return terms;
  }
  static constexpr int kRestPower = Multiplier::kSumPower - Multiplier::kExchangePower;
  static constexpr bool kScalesColumns =
      Traits::kChannel || Traits::kGlobalScale || Traits::kMayHaveGlobalScale || kRestPower != 0;

  static __device__ __forceinline__ float power_of_two(int power) {
    return __int_as_float((127 + power) << 23);
  }

  // Scales eight columns of a row's sums, adds bias, and writes them to C.
  __device__ __forceinline__ void finish(float (&v)[kUnit], const ColumnTerms& terms,
                                         unsigned tile_row, int id, unsigned column) {
    using Output = typename Traits::Output;
    float a_scale = 1.0f;
    if constexpr (Traits::kA8) a_scale = rows_.a_scale(tile_row);
    const float weight = rows_.weight(tile_row);
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      if constexpr (Traits::kA8) v[i] *= a_scale;
      if constexpr (kScalesColumns) v[i] *= terms.scale[i];
      v[i] = (v[i] + terms.bias[i]) * weight;
    }
    int4 out;
    out.x = Output::pack(v[0], v[1]);
    out.y = Output::pack(v[2], v[3]);
    out.z = Output::pack(v[4], v[5]);
    out.w = Output::pack(v[6], v[7]);
    *reinterpret_cast<int4*>(static_cast<char*>(params_.c) +
                             (static_cast<std::int64_t>(id) * params_.n + column) * 2) = out;
  }

  // Eight neighbouring columns of a per-column vector [expert, n]. Within 32 columns position 8 i +
  // t holds column 2 i + {0, 1, 8, 9, 16, 17, 24, 25}[t]: columns 8 j + 2 i + {0, 1} stand together
  // at position 8 i + 2 j.
  __device__ __forceinline__ void load_permuted(float (&out)[kUnit], const void* vector, int expert,
                                                unsigned column) const {
    const std::int64_t first = static_cast<std::int64_t>(expert) * params_.n + column / 32u * 32;
    const std::uint32_t* pairs =
        reinterpret_cast<const std::uint32_t*>(static_cast<const char*>(vector) + first * 2);
    const unsigned j = column / 8 % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Traits::Output::unpack(__ldg(pairs + 4 * i + j), out[2 * i], out[2 * i + 1]);
    }
  }

  // To be followed by a barrier, which shows all threads what one of them has acquired. The locks
  // are opened again for the next launch. A launch whose contributors never come, as another one
  // that overlaps it has opened their locks, ends with an error: it would occupy the device for
  // ever.
  __device__ __forceinline__ void await_contributors(const TileShare& share) {
#pragma unroll 1
    for (int i = position_.thread; i < share.num_contributors; i += Traits::kThreads) {
      int* lock = params_.locks + stripe_ + 1 + i;
#pragma unroll 1
      for (int look = 0; lock_acquire(lock) != kContributed; ++look) {
        if (look == kMostLooks) trap();
      }
      *lock = 0;
    }
  }

  // Tells the owner of a contribution: the barrier behind the last m block orders the other
  // threads' partial sums before the signal, and a release is cumulative.
  __device__ __forceinline__ void signal(const TileShare& share) {
    if (position_.thread == 0 && !share.owns) lock_release(params_.locks + stripe_, kContributed);
  }

  const Params& params_;
  SharedAddress sums_;
  const TileRows<Traits>& rows_;
  int stripe_;
  ThreadPosition<Traits> position_;
  unsigned tile_column_ = position_.thread % kUnitsPerRow * kUnit;
};

}  // namespace marlin_moe
