// Finds the blocks of sorted_token_ids that have an expert, where expert parallelism leaves some
// without. All lanes of a warp call these functions, with the same arguments, and get the same
// answers. They are not inlined, so that the kernels of a file share their compilation.
#pragma once

#include "kernel.h"
#include "marlin_moe/plan/schedule.h"

namespace marlin_moe {

// Where a search stands: at 32 entries of expert_ids, behind `before` that have an expert.
struct ExpertBlockPosition {
  int first = 0;  // a multiple of 32
  int before = 0;
};

struct FoundExpertBlock {
  int block;
  ExpertBlockPosition position;
};

// Of expert_ids[first, first + 32), one bit each: which are not negative.
__device__ __forceinline__ unsigned expert_mask(const int* expert_ids, int num_blocks, int first) {
  const int i = first + static_cast<int>(threadIdx.x % 32);
  return __ballot_sync(0xffffffffu, i < num_blocks && expert_ids[i] >= 0);
}

// Number of entries of expert_ids[0, num_blocks) that are not negative.
inline __device__ __noinline__ int count_expert_blocks(const int* expert_ids, int num_blocks) {
  constexpr int kLoads = 4;  // at a time: one after the other they would take as long each
  int count = 0;
#pragma unroll 1
  for (int first = 0; first < num_blocks; first += 32 * kLoads) {
    int experts[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int i = first + 32 * j + static_cast<int>(threadIdx.x % 32);
      experts[j] = i < num_blocks ? expert_ids[i] : -1;
    }
#pragma unroll
    for (const int expert : experts) count += __popc(__ballot_sync(0xffffffffu, expert >= 0));
  }
  return count;
}

// Index of the `ordinal`-th such entry; there are more than `ordinal`. The search goes on from
// where the last one ended, forwards or back.
inline __device__ __noinline__ FoundExpertBlock find_expert_block(const int* expert_ids,
                                                                  int num_blocks,
                                                                  ExpertBlockPosition from,
                                                                  int ordinal) {
  unsigned mask = expert_mask(expert_ids, num_blocks, from.first);
#pragma unroll 1
  while (ordinal < from.before) {
    from.first -= 32;
    mask = expert_mask(expert_ids, num_blocks, from.first);
    from.before -= __popc(mask);
  }
#pragma unroll 1
  while (ordinal >= from.before + __popc(mask)) {
    from.before += __popc(mask);
    from.first += 32;
    mask = expert_mask(expert_ids, num_blocks, from.first);
  }
  const unsigned lane = threadIdx.x % 32;
  const int rank = from.before + __popc(mask & ((1u << lane) - 1));  // of the lane's entry
  const unsigned found = __ballot_sync(0xffffffffu, (mask >> lane & 1) && rank == ordinal);
  return {from.first + __ffs(static_cast<int>(found)) - 1, from};
}

// The blocks of sorted_token_ids that a launch multiplies: all in use, or those with an expert.
class ExpertBlocks {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  __device__ __forceinline__ ExpertBlocks(const Params& params, int block_size)
      : params_(params),
        num_blocks_(divide(*params.num_tokens_past_padded, block_size)),
        count_(params.expert_parallel ? count_expert_blocks(params.expert_ids, num_blocks_)
                                      : num_blocks_) {}

  __device__ __forceinline__ int count() const { return count_; }

  // The block of sorted_token_ids that is the `ordinal`-th of count().
  __device__ __forceinline__ int find(int ordinal) {
    if (!params_.expert_parallel) return ordinal;
    const FoundExpertBlock found =
        find_expert_block(params_.expert_ids, num_blocks_, position_, ordinal);
    position_ = found.position;
    return found.block;
  }

 private:
  const Params& params_;
  int num_blocks_;
  int count_;
  ExpertBlockPosition position_;
};

}  // namespace marlin_moe
