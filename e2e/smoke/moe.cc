// Uses the host API as an application would.
#include "moe.h"

#include "marlin_moe/moe_gemm.h"

std::string smoke_check(int columns) {
  marlin_moe::MoeGemmArgs args;
  args.n = columns;
  args.k = 128;
  args.group_size = 128;
  args.num_experts = 8;
  args.top_k = 2;
  args.block_size =
      marlin_moe::moe_gemm_block_size(args.m, args.num_experts, args.top_k, args.a_type);
  return marlin_moe::moe_gemm(args).message;
}
