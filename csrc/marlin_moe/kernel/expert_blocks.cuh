// Finds the blocks of sorted_token_ids that have an expert, where expert parallelism leaves some
// without. All lanes of a warp call these functions, with the same arguments, and get the same
// answers. They are not inlined, so that the kernels of a file share their compilation.
#pragma once

namespace marlin_moe {

// Of expert_ids[first, first + 32), one bit each: which are not negative.
__device__ __forceinline__ unsigned expert_mask(const int* expert_ids, int num_blocks, int first) {
  const int i = first + static_cast<int>(threadIdx.x % 32);
  return __ballot_sync(0xffffffffu, i < num_blocks && expert_ids[i] >= 0);
}

// Number of entries of expert_ids[0, num_blocks) that are not negative.
inline __device__ __noinline__ int count_expert_blocks(const int* expert_ids, int num_blocks) {
  int count = 0;
#pragma unroll 1
  for (int first = 0; first < num_blocks; first += 32) {
    count += __popc(expert_mask(expert_ids, num_blocks, first));
  }
  return count;
}

// Index of the `ordinal`-th such entry; there are more than `ordinal`.
inline __device__ __noinline__ int find_expert_block(const int* expert_ids, int num_blocks,
                                                     int ordinal) {
  int first = 0;
  unsigned mask = 0;
#pragma unroll 1
  for (;; first += 32) {
    mask = expert_mask(expert_ids, num_blocks, first);
    const int count = __popc(mask);
    if (ordinal < count) break;
    ordinal -= count;
  }
#pragma unroll 1
  for (; ordinal > 0; --ordinal) mask &= mask - 1;
  return first + __ffs(static_cast<int>(mask)) - 1;
}

}  // namespace marlin_moe
