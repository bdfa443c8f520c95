// Sorts the ids of a MoE layer by expert and pads each expert's to whole blocks, as moe_gemm()
// reads them.
//
// Id i is the i-th entry of topk_ids: token i / top_k, choice i % top_k. Blocks follow each other
// by expert; in a block, ids ascend and padding, which is num_ids, comes last. The result is the
// same in every run.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "moe_gemm.h"

namespace marlin_moe {

// Arguments of moe_align(); device pointers aligned to 4 bytes unless said otherwise.
struct MoeAlignArgs {
  int num_ids = 0;      // m * top_k; 0 is allowed
  int num_experts = 0;  // of all devices: 1 to 1024
  int block_size = 0;   // a multiple of 8 from 8 to 256; moe_gemm() says which of them it takes
  // [num_ids] expert of each id. Ids whose entry is not from 0 to num_experts - 1 get no place.
  const int* topk_ids = nullptr;
  // Optional, expert parallelism: [num_experts] local expert of each, -1 for those elsewhere.
  const int* expert_map = nullptr;
  // Whether ids of experts elsewhere get no place. Otherwise they fill blocks with expert -1.
  bool drop_remote = false;

  int* sorted_token_ids = nullptr;        // [moe_align_capacity()], written up to what is used
  int* expert_ids = nullptr;              // [moe_align_capacity() / block_size], likewise
  int* num_tokens_past_padded = nullptr;  // [1], entries of sorted_token_ids used

  // Scratch memory of moe_align_workspace_size() bytes, in any state; may be null where that is 0.
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  cudaStream_t stream = nullptr;
};

// The most entries of sorted_token_ids that any routing uses; a multiple of block_size.
std::int64_t moe_align_capacity(int num_ids, int num_experts, int block_size);

// Sets *bytes to the scratch memory that moe_align() needs, whatever the pointers are: none for a
// few thousand ids.
Status moe_align_workspace_size(const MoeAlignArgs& args, std::size_t* bytes);

// Launches the alignment: one kernel for a few thousand ids, three for more.
Status moe_align(const MoeAlignArgs& args);

}  // namespace marlin_moe
