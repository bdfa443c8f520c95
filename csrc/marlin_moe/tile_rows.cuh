// What the rows of a thread block's tile are: their ids, and what their sums are multiplied by. It
// lies in shared memory, behind the pipeline.
#pragma once

#include "kernel_traits.cuh"

namespace marlin_moe {

template <class Traits>
class TileRows {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  __device__ __forceinline__ TileRows(const Params& params, char* shared)
      : params_(params), ids_(reinterpret_cast<int*>(shared + Traits::kShape.ids_offset())) {}

  // Loads the ids of a block of sorted_token_ids; a barrier later all threads may read them.
  __device__ __forceinline__ void load_ids(int block) {
    if (threadIdx.x < Traits::kRows) {
      ids_[threadIdx.x] = params_.sorted_token_ids[block * Traits::kRows + threadIdx.x];
    }
  }

  // Loads what depends on the ids, for use after another barrier: while the pipeline fills, its
  // latency is hidden.
  __device__ __forceinline__ void load_factors() {
    if (threadIdx.x >= Traits::kRows) return;
    const int id = ids_[threadIdx.x];
    if (id >= params_.num_ids) return;
    factors()[threadIdx.x] =
        params_.topk_weights != nullptr ? __ldg(params_.topk_weights + id) : 1.0f;
    if constexpr (Traits::kA8) {
      factors()[Traits::kRows + threadIdx.x] = __ldg(params_.a_scales + id / params_.a_row_divisor);
    }
  }

  // `num_ids` or more: padding.
  __device__ __forceinline__ int id(unsigned row) const { return ids_[row]; }
  __device__ __forceinline__ float weight(unsigned row) const { return factors()[row]; }
  // Of 8-bit A.
  __device__ __forceinline__ float a_scale(unsigned row) const {
    return factors()[Traits::kRows + row];
  }

 private:
  __device__ __forceinline__ float* factors() const {
    return reinterpret_cast<float*>(ids_ + Traits::kRows);
  }

  const Params& params_;
  int* ids_;
};

}  // namespace marlin_moe
