// The checks of a MoE GEMM's arguments that need no device.
#pragma once

#include <cstdint>

#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

inline constexpr int kMaxBlockSize = 256;

inline bool is_act_order(const MoeGemmArgs& args) { return args.group_size == kGroupSizeActOrder; }

// Upper bound of *num_tokens_past_padded as moe_align() makes it: every expert that has a token may
// leave all but one place of its last block empty. Under expert parallelism there are more experts
// than num_experts. Aligners that give every expert a block make more; then it is an estimate,
// which only the size of grids depends on.
std::int64_t max_padded_ids(const MoeGemmArgs& args);

// Entries of sorted_token_ids that gathered rows have a place for: also those of aligners that give
// each expert a block, tokens or none.
inline std::int64_t max_staged_ids(const MoeGemmArgs& args) {
  return max_padded_ids(args) + static_cast<std::int64_t>(args.num_experts) * args.block_size;
}

// Bytes of a row of A.
inline std::int64_t row_bytes(const MoeGemmArgs& args) {
  return static_cast<std::int64_t>(args.k) * args.a_type.size_bits() / 8;
}

// Types, shape and groups. Which of them go together the kernels that were built decide.
Status check_problem(const MoeGemmArgs& args);

// Pointers and strides, for a problem with rows.
Status check_operands(const MoeGemmArgs& args);

}  // namespace marlin_moe
