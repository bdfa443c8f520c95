// Numbers and decisions that are the same in all lanes of a warp, told to the compiler as such.
//
// wgmma takes its descriptors from uniform registers. The compiler keeps addresses there as long as
// it can see that the lanes of a warp stay together: one branch that might part them, anywhere in
// the loop over tiles, costs a move for every product. So whatever steers a multiplying warp is
// passed through one of these.
#pragma once

namespace marlin_moe::sm90 {

__device__ __forceinline__ int uniform(int value) { return __reduce_max_sync(0xffffffffu, value); }
__device__ __forceinline__ bool uniform(bool condition) {
  return __any_sync(0xffffffffu, condition);
}
// Which warpgroup of the block the thread belongs to.
__device__ __forceinline__ unsigned warpgroup_index() {
  return __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
}

}  // namespace marlin_moe::sm90
