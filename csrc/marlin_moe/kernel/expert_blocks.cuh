// Finds the blocks of sorted_token_ids that have an expert, where expert parallelism leaves some
// without. All lanes of a warp call these functions, with the same arguments, and get the same
// answers. They are not inlined, so that the kernels of a file share their compilation.
#pragma once

#include "kernel.h"
#include "marlin_moe/plan/schedule.h"

namespace marlin_moe {

// expert_ids[0, num_blocks): 0 … num_experts - 1 are experts, whatever else stands there is none.
struct BlockExperts {
  const int* ids;
  int num_blocks;
  int num_experts;

  // The expert of a block; -1: it has none.
  __device__ __forceinline__ int of(int block) const {
    const int id = ids[block];
    return static_cast<unsigned>(id) < static_cast<unsigned>(num_experts) ? id : -1;
  }
  // Of 32 blocks from `first` on, one bit each: which have an expert.
  __device__ __forceinline__ unsigned mask(int first) const {
    const int block = first + static_cast<int>(threadIdx.x % 32);
    return __ballot_sync(0xffffffffu, block < num_blocks && of(block) >= 0);
  }
};

// Where a search stands: at 32 blocks, behind `before` that have an expert.
struct ExpertBlockPosition {
  int first = 0;  // a multiple of 32
  int before = 0;
};

struct FoundExpertBlock {
  int block;
  ExpertBlockPosition position;
};

// Number of blocks that have an expert.
inline __device__ __noinline__ int count_expert_blocks(BlockExperts experts) {
  constexpr int kLoads = 4;  // at a time: one after the other they would take as long each
  int count = 0;
#pragma unroll 1
  for (int first = 0; first < experts.num_blocks; first += 32 * kLoads) {
    int own[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int block = first + 32 * i + static_cast<int>(threadIdx.x % 32);
      own[i] = block < experts.num_blocks ? experts.of(block) : -1;
    }
#pragma unroll
    for (const int expert : own) count += __popc(__ballot_sync(0xffffffffu, expert >= 0));
  }
  return count;
}

// The `ordinal`-th block that has an expert; there are more than `ordinal`. The search goes on from
// where the last one ended, forwards or back.
inline __device__ __noinline__ FoundExpertBlock find_expert_block(BlockExperts experts,
                                                                  ExpertBlockPosition from,
                                                                  int ordinal) {
  unsigned mask = experts.mask(from.first);
#pragma unroll 1
  while (ordinal < from.before) {
    from.first -= 32;
    mask = experts.mask(from.first);
    from.before -= __popc(mask);
  }
#pragma unroll 1
  while (ordinal >= from.before + __popc(mask)) {
    from.before += __popc(mask);
    from.first += 32;
    mask = experts.mask(from.first);
  }
  const unsigned lane = threadIdx.x % 32;
  const int rank = from.before + __popc(mask & ((1u << lane) - 1));  // of the lane's block
  const unsigned found = __ballot_sync(0xffffffffu, (mask >> lane & 1) && rank == ordinal);
  return {from.first + __ffs(static_cast<int>(found)) - 1, from};
}

// The blocks of sorted_token_ids that a launch multiplies: all in use, or those with an expert.
class ExpertBlocks {
 public:
  using Params = ::MARLIN_NAMESPACE_NAME::KernelParams;

  __device__ __forceinline__ ExpertBlocks(const Params& params, int block_size)
      : searched_(params.expert_parallel),
        experts_{params.expert_ids, divide(*params.num_tokens_past_padded, block_size),
                 params.num_experts},
        count_(searched_ ? count_expert_blocks(experts_) : experts_.num_blocks) {}

  __device__ __forceinline__ int count() const { return count_; }

  // The block of sorted_token_ids that is the `ordinal`-th of count().
  __device__ __forceinline__ int find(int ordinal) {
    if (!searched_) return ordinal;
    const FoundExpertBlock found = find_expert_block(experts_, position_, ordinal);
    position_ = found.position;
    return found.block;
  }

  // The expert of a block of sorted_token_ids; -1: it has none.
  __device__ __forceinline__ int expert(int block) const { return experts_.of(block); }

 private:
  bool searched_;
  BlockExperts experts_;
  int count_;
  ExpertBlockPosition position_;
};

}  // namespace marlin_moe
