// Gathers the columns of A for weights whose rows were sorted by group (GPTQ's act-order).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "marlin_moe/moe_gemm.h"
#include "routed_rows.h"

namespace marlin_moe {

// Arguments of permute_columns(); device pointers.
struct PermuteColumnsArgs {
  const void* a;          // [rows, k] of 16-bit elements
  std::int64_t a_stride;  // elements between rows of A
  const int* perm;        // [num_experts, k]
  RoutedRows rows;
  int max_ids;  // about *num_tokens_past_padded; any number is right
  int k;
  void* out;  // [num_ids, k], row id: A[id / top_k, perm[expert of id]]
};

// Launches the gather on `stream`. Rows of ids without an expert are left as they are.
Status permute_columns(const PermuteColumnsArgs& args, cudaStream_t stream);

}  // namespace marlin_moe
