// Calls the host API where there may be no GPU: it checks its arguments before it looks for one.
#include <cstdio>
#include <string>

#include "marlin_moe/moe_gemm.h"

int main() {
  marlin_moe::MoeGemmArgs args;
  args.n = 100;
  args.k = 128;
  args.group_size = 128;
  args.num_experts = 8;
  args.top_k = 2;
  args.block_size =
      marlin_moe::moe_gemm_block_size(args.m, args.num_experts, args.top_k, args.a_type);
  const std::string refusal = marlin_moe::moe_gemm(args).message;
  std::printf("100 columns: %s\n", refusal.c_str());
  return refusal.find("n = 100 is not allowed") != std::string::npos ? 0 : 1;
}
