// From a warp's sums to rows of C: over the k warps of a block, over the blocks that share a tile,
// then scales, bias, top-k weight and rounding.
//
// Both sums are taken in a fixed order, so a launch gives the same bits every time, unless the
// caller asks for atomic additions: then a tile's contributors add to one sum in whatever order
// they come, and its owner reads one sum instead of one for each of them.
#pragma once

#include <cstdint>

#include "kernel_traits.cuh"
#include "ptx.cuh"

namespace marlin_moe {

// A block's share of a tile: which stripes hold the rest of it.
struct TileShare {
  bool owns;              // holds the tile's first stage, writes C
  int first_contributor;  // stripes whose partial sums the owner adds, in this order;
  int num_contributors;   // none: the block has the whole tile
  int owner;              // stripe that owns the tile
};

template <class Traits, class Multiplier>
class Epilogue {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  __device__ __forceinline__ Epilogue(const Params& params, char* shared, const int* ids,
                                      int stripe)
      : params_(params), sums_(reinterpret_cast<float*>(shared)), ids_(ids), stripe_(stripe) {}

  // Finishes the tile of `multiplier`. All threads of the block call it, after the last copy into
  // shared memory has arrived and been read.
  __device__ __forceinline__ void run(const Multiplier& multiplier, const TileShare& share,
                                      int expert, int n_tile) {
    // Not unrolled over m blocks: each of them picks its registers by a uniform branch instead.
#pragma unroll 1
    for (int m = 0; m < Traits::kMBlocks; ++m) {
      store_sums(multiplier, m);
      if (m == 0 && share.owns) await_contributors(share);
      __syncthreads();
#pragma unroll 1
      for (int unit = position_.thread; unit < kRowsPerBlock * kUnitsPerRow;
           unit += Traits::kThreads) {
        finish_unit(share, expert, n_tile, m, unit);
      }
      __syncthreads();
    }
    if (share.owns) {
      release_contributors(share);
    } else {
      contribute(share);
    }
  }

 private:
  static constexpr TileShape kShape = Traits::kShape;
  static constexpr int kStride = kShape.reduction_stride();
  static constexpr int kRowsPerBlock = kShape.rows_per_m_block();
  static constexpr int kUnit = 8;  // columns that one thread finishes at a time: 16 bytes of C
  static constexpr int kUnitsPerRow = Traits::kThreadN / kUnit;

  __device__ __forceinline__ void store_sums(const Multiplier& multiplier, int m_block) {
    const int q = position_.lane % 4;
    const int c = position_.lane / 4;
    float* warp_sums = sums_ + position_.k_warp * kRowsPerBlock * kStride +
                       position_.n_warp * Traits::kWarpColumns;
#pragma unroll
    for (int m = 0; m < Traits::kMBlocks; ++m) {
      if (m != m_block) continue;
#pragma unroll
      for (int t = 0; t < Traits::kAccTiles; ++t) {
        const float (&acc)[4] = multiplier.acc[m][t];
        if constexpr (Traits::kTransposed) {
          float* token = warp_sums + 2 * q * kStride + 16 * t + c;
          token[0] = acc[0];
          token[kStride] = acc[1];
          token[8] = acc[2];
          token[kStride + 8] = acc[3];
        } else {
          float* row = warp_sums + c * kStride + 8 * t + 2 * q;
          *reinterpret_cast<float2*>(row) = make_float2(acc[0], acc[1]);
          *reinterpret_cast<float2*>(row + 8 * kStride) = make_float2(acc[2], acc[3]);
        }
      }
    }
  }

  // Finishes eight columns of a row: writes them to C, or to the stripe's partial sums.
  __device__ __forceinline__ void finish_unit(const TileShare& share, int expert, int n_tile,
                                              int m_block, int unit) {
    const int row = unit / kUnitsPerRow;
    const int tile_row = m_block * kRowsPerBlock + row;
    const int tile_column = unit % kUnitsPerRow * kUnit;
    const int column = n_tile * Traits::kThreadN + tile_column;
    const int id = ids_[tile_row];
    if (id >= params_.num_ids || column >= params_.n) return;

    float v[kUnit] = {};
#pragma unroll
    for (int k_warp = 0; k_warp < Traits::kKWarps; ++k_warp) {
      add(v, sums_ + (k_warp * kRowsPerBlock + row) * kStride + tile_column);
    }
    const int tile_offset = tile_row * Traits::kThreadN + tile_column;
    if (!share.owns) {
      pass_on(v, share, tile_offset);
      return;
    }
    if (params_.atomic_reduce) {
      if (share.num_contributors > 0) take_global(v, partial(stripe_) + tile_offset);
    } else {
      // Unrolled so that several loads are under way before the first sum, in the same order.
#pragma unroll 4
      for (int i = 0; i < share.num_contributors; ++i) {
        add_global(v, partial(share.first_contributor + i) + tile_offset);
      }
    }
    write_output(v, expert, id, column);
  }

  // Hands eight columns of partial sums to the tile's owner.
  __device__ __forceinline__ void pass_on(const float (&v)[kUnit], const TileShare& share,
                                          int tile_offset) {
    if (params_.atomic_reduce) {
      float* to = partial(share.owner) + tile_offset;
#pragma unroll
      for (int i = 0; i < kUnit; ++i) reduce_add(to + i, v[i]);
      return;
    }
    float4* to = reinterpret_cast<float4*>(partial(stripe_) + tile_offset);
    to[0] = make_float4(v[0], v[1], v[2], v[3]);
    to[1] = make_float4(v[4], v[5], v[6], v[7]);
  }

  // Of the stripe's own sums or, with atomic additions, of those of its last tile.
  __device__ __forceinline__ float* partial(int stripe) const {
    return params_.partials + static_cast<std::int64_t>(stripe) * kShape.tile_elements();
  }

  static __device__ __forceinline__ void add(float (&v)[kUnit], const float4& low,
                                             const float4& high) {
    v[0] += low.x, v[1] += low.y, v[2] += low.z, v[3] += low.w;
    v[4] += high.x, v[5] += high.y, v[6] += high.z, v[7] += high.w;
  }
  static __device__ __forceinline__ void add(float (&v)[kUnit], const float* from) {
    const float4* quads = reinterpret_cast<const float4*>(from);
    add(v, quads[0], quads[1]);
  }
  // Past L1, which does not see what other multiprocessors wrote.
  static __device__ __forceinline__ void add_global(float (&v)[kUnit], const float* from) {
    const float4* quads = reinterpret_cast<const float4*>(from);
    add(v, __ldcg(quads), __ldcg(quads + 1));
  }

  // Adds sums that were made by atomic additions, and leaves zeros for the next launch.
  static __device__ __forceinline__ void take_global(float (&v)[kUnit], float* from) {
    add_global(v, from);
    float4* quads = reinterpret_cast<float4*>(from);
    quads[0] = quads[1] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }

  static __device__ __forceinline__ void scale(float (&v)[kUnit], float factor) {
#pragma unroll
    for (int i = 0; i < kUnit; ++i) v[i] *= factor;
  }
  static __device__ __forceinline__ float power_of_two(int power) {
    return __int_as_float((127 + power) << 23);
  }

  __device__ __forceinline__ void write_output(float (&v)[kUnit], int expert, int id, int column) {
    using Output = typename Traits::Output;
    if constexpr (Multiplier::kSumPower != 0) scale(v, power_of_two(Multiplier::kSumPower));
    if constexpr (Traits::kA8) scale(v, __ldg(params_.a_scales + id / params_.a_row_divisor));
    if constexpr (Traits::kChannel) {
      float s[kUnit];
      load_permuted(s, params_.scales, expert, column);
#pragma unroll
      for (int i = 0; i < kUnit; ++i) v[i] *= s[i];
    }
    if constexpr (Traits::kGlobalScale) scale(v, __ldg(params_.global_scales + expert));
    if (params_.bias != nullptr) {
      float b[kUnit];
      load_permuted(b, params_.bias, expert, column);
#pragma unroll
      for (int i = 0; i < kUnit; ++i) v[i] += b[i];
    }
    if (params_.topk_weights != nullptr) {
      scale(v, __ldg(params_.topk_weights + id));
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
                                                int column) const {
    const std::int64_t first = static_cast<std::int64_t>(expert) * params_.n + column / 32 * 32;
    const std::uint32_t* pairs =
        reinterpret_cast<const std::uint32_t*>(static_cast<const char*>(vector) + first * 2);
    const int j = column / 8 % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Traits::Output::unpack(__ldg(pairs + 4 * i + j), out[2 * i], out[2 * i + 1]);
    }
  }

  // To be followed by a barrier.
  __device__ __forceinline__ void await_contributors(const TileShare& share) {
    if (params_.atomic_reduce) {
      if (position_.thread == 0 && share.num_contributors > 0) {
        while (lock_acquire(params_.locks + stripe_) != share.num_contributors) {
        }
      }
      return;
    }
    for (int i = position_.thread; i < share.num_contributors; i += Traits::kThreads) {
      while (lock_acquire(params_.locks + share.first_contributor + i) == 0) {
      }
    }
  }

  // The locks go back to zero, as the next launch expects them.
  __device__ __forceinline__ void release_contributors(const TileShare& share) {
    if (params_.atomic_reduce) {
      if (position_.thread == 0 && share.num_contributors > 0) params_.locks[stripe_] = 0;
      return;
    }
    for (int i = position_.thread; i < share.num_contributors; i += Traits::kThreads) {
      params_.locks[share.first_contributor + i] = 0;
    }
  }

  // The barrier behind the last m block orders the other threads' partial sums before the signal,
  // and a release is cumulative.
  __device__ __forceinline__ void contribute(const TileShare& share) {
    if (position_.thread != 0) return;
    if (params_.atomic_reduce) {
      lock_add(params_.locks + share.owner, 1);
    } else {
      lock_release(params_.locks + stripe_, 1);
    }
  }

  const Params& params_;
  float* sums_;
  const int* ids_;
  int stripe_;
  ThreadPosition<Traits> position_;
};

}  // namespace marlin_moe
