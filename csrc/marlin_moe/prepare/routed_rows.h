// Which rows of A the tokens of sorted blocks have, for the copies of A that come before a GEMM.
#pragma once

namespace marlin_moe {

// Device pointers. Numbers that are none of the ids or experts are padding of other aligners, or
// experts elsewhere.
struct RoutedRows {
  const int* sorted_token_ids;
  const int* expert_ids;
  const int* num_tokens_past_padded;
  int num_ids;      // ids from 0 to num_ids - 1 are tokens, others are padding
  int num_experts;  // entries of expert_ids from 0 to num_experts - 1 are experts, others are none
  int top_k;        // id / top_k is the row of A
  int block_size;   // ids per entry of expert_ids
};

}  // namespace marlin_moe
