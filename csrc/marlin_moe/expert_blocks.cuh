// Finds the blocks of sorted_token_ids that have an expert, where expert parallelism leaves some
// without.
#pragma once

namespace marlin_moe {

// Number of entries of expert_ids[0, num_blocks) that are not negative. All threads of the block
// call it and get the same answer.
__device__ __forceinline__ int count_expert_blocks(const int* expert_ids, int num_blocks) {
  int count = 0;
  for (int first = 0; first < num_blocks; first += static_cast<int>(blockDim.x)) {
    const int i = first + static_cast<int>(threadIdx.x);
    count += __syncthreads_count(i < num_blocks && expert_ids[i] >= 0);
  }
  return count;
}

// Index of the `ordinal`-th such entry. All lanes of a warp call it with the same argument.
__device__ __forceinline__ int find_expert_block(const int* expert_ids, int num_blocks,
                                                 int ordinal) {
  int seen = 0;
  for (int first = 0; first < num_blocks; first += 32) {
    const int i = first + static_cast<int>(threadIdx.x % 32);
    const bool has_expert = i < num_blocks && expert_ids[i] >= 0;
    const unsigned found = __ballot_sync(0xffffffffu, has_expert);
    const int here = __popc(found);
    if (ordinal < seen + here) {
      const unsigned before = found & ((1u << threadIdx.x % 32) - 1);
      const bool here_it_is = has_expert && __popc(before) == ordinal - seen;
      return first + __ffs(__ballot_sync(0xffffffffu, here_it_is)) - 1;
    }
    seen += here;
  }
  return num_blocks - 1;  // unreachable: the caller counted the entries
}

}  // namespace marlin_moe
