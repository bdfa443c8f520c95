// What the rows of a thread block's tile are: their ids, and what their sums are multiplied by. It
// lies in shared memory, behind the pipeline.
#pragma once

#include "kernel_traits.cuh"
#include "ptx.cuh"

namespace marlin_moe {

template <class Traits>
class TileRows {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  __device__ __forceinline__ TileRows(const Params& params, SharedAddress shared)
      : params_(params), shared_(shared) {}

  // Loads the ids of a block of sorted_token_ids; a barrier later all threads may read them.
  __device__ __forceinline__ void load_ids(int block) {
    if (threadIdx.x < Traits::kRows) {
      const unsigned id = params_.sorted_token_ids[block * Traits::kRows + threadIdx.x];
      // Whatever stands for padding, -1 too.
      store_shared(id_address(threadIdx.x), min(id, static_cast<unsigned>(params_.num_ids)));
    }
  }

  // Loads what depends on the ids, for use after another barrier: while the pipeline fills, its
  // latency is hidden.
  __device__ __forceinline__ void load_factors() {
    if (threadIdx.x >= Traits::kRows) return;
    const int id = this->id(threadIdx.x);
    if (id >= params_.num_ids) return;
    store_shared(weight_address(threadIdx.x),
                 params_.topk_weights != nullptr ? __ldg(params_.topk_weights + id) : 1.0f);
    if constexpr (Traits::kA8) {
      store_shared(a_scale_address(threadIdx.x),
                   __ldg(params_.a_scales + id / params_.a_row_divisor));
    }
  }

  // `num_ids`: padding.
  __device__ __forceinline__ int id(unsigned row) const {
    return static_cast<int>(load_shared_4(id_address(row)));
  }
  __device__ __forceinline__ float weight(unsigned row) const {
    return __uint_as_float(load_shared_4(weight_address(row)));
  }
  // Of 8-bit A.
  __device__ __forceinline__ float a_scale(unsigned row) const {
    return __uint_as_float(load_shared_4(a_scale_address(row)));
  }

 private:
  __device__ __forceinline__ SharedAddress id_address(unsigned row) const {
    return shared_ + Traits::kShape.ids_offset() + 4 * row;
  }
  __device__ __forceinline__ SharedAddress weight_address(unsigned row) const {
    return shared_ + Traits::kShape.row_weights_offset() + 4 * row;
  }
  __device__ __forceinline__ SharedAddress a_scale_address(unsigned row) const {
    return shared_ + Traits::kShape.row_scales_offset() + 4 * row;
  }

  const Params& params_;
  SharedAddress shared_;
};

}  // namespace marlin_moe
