// Uses the host API as an application would.
#include "marlin_moe/moe_gemm.h"

// The block size to align tokens with for a batch of `tokens`.
int smoke_block_size(int tokens) {
  return marlin_moe::moe_gemm_block_size(tokens, /*num_experts=*/64, /*top_k=*/8, vllm::kBFloat16);
}
