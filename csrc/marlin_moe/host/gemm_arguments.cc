#include "gemm_arguments.h"

#include <algorithm>
#include <string>

#include "arguments.h"
#include "launch_plan.h"

namespace marlin_moe {

static bool has_zero_points(const MoeGemmArgs& args) {
  return args.b_type == MARLIN_TYPE_NAMESPACE::kU4;
}

static bool has_global_scales(const MoeGemmArgs& args) {
  const bool optional = args.a_type == MARLIN_TYPE_NAMESPACE::kS8;
  return args.s_type == MARLIN_TYPE_NAMESPACE::kFE4M3fn ||
         (optional && args.global_scales != nullptr);
}

// Which of these go together is what kernels were built for.
static Status check_types(const MoeGemmArgs& args) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  Status status = check_type("a_type", args.a_type,
                             {types::kFloat16, types::kBFloat16, types::kS8, types::kFE4M3fn});
  if (status.ok()) {
    status =
        check_type("b_type", args.b_type,
                   {types::kU4, types::kU4B8, types::kU8B128, types::kFE4M3fn, types::kFE2M1f});
  }
  if (status.ok()) {
    status = check_type("c_type", args.c_type, {types::kFloat16, types::kBFloat16});
  }
  if (status.ok()) {
    status = check_type("s_type", args.s_type, {args.c_type, types::kFE4M3fn, types::kFE8M0fnu});
  }
  return status;
}

static Status check_groups(const MoeGemmArgs& args) {
  const int size = args.group_size;
  if (is_act_order(args)) {
    if (args.num_groups >= 1 && args.num_groups <= args.k) return {};
    return invalid("num_groups", args.num_groups, "1 to k = " + std::to_string(args.k));
  }
  const bool one_group = args.num_groups == 1 && size == args.k;
  if (size != kGroupSizeChannel && size != 16 && size != 32 && size != 64 && size != 128 &&
      !one_group) {
    return invalid("group_size", size,
                   "-1 (channel), 0 (act-order), 16, 32, 64, 128, or k with num_groups = 1");
  }
  if (size != kGroupSizeChannel && args.k % size != 0) {
    return invalid("k", args.k, "a multiple of group_size = " + std::to_string(size));
  }
  const int groups = size == kGroupSizeChannel ? 1 : args.k / size;
  if (args.num_groups != groups)
    return invalid("num_groups", args.num_groups, std::to_string(groups));
  return {};
}

std::int64_t max_padded_ids(const MoeGemmArgs& args) {
  const std::int64_t ids = static_cast<std::int64_t>(args.m) * args.top_k;
  const std::int64_t experts =
      args.expert_parallel ? ids : std::min<std::int64_t>(ids, args.num_experts);
  return ids + experts * (args.block_size - 1);
}

static Status check_shape(const MoeGemmArgs& args) {
  if (args.m < 0) return invalid("m", args.m, "0 or more");
  // Offsets within a row of B's pieces are 32 bits wide in the kernels.
  constexpr int kMostOfDimension = 1 << 24;
  const auto fits = [](int size) { return size > 0 && size % 64 == 0 && size <= kMostOfDimension; };
  const char* allowed =
      "a positive multiple of 64, at most 16777216, as padded_shape() makes of other sizes";
  if (!fits(args.n)) return invalid("n", args.n, allowed);
  if (!fits(args.k)) return invalid("k", args.k, allowed);
  if (args.num_experts < 1) return invalid("num_experts", args.num_experts, "1 or more");
  if (args.top_k < 1) return invalid("top_k", args.top_k, "1 or more");
  if (args.block_size % 8 != 0 || args.block_size < 8 || args.block_size > kMaxBlockSize) {
    return invalid("block_size", args.block_size, "8 to 256 in steps of 8");
  }
  // The products of a column, of at most 128 * 15 each with 4-bit weights, are summed up as int32.
  constexpr int kMostInInt32 = 1 << 20;
  if (args.a_type == MARLIN_TYPE_NAMESPACE::kS8 &&
      scale_group_size(args.group_size, args.num_groups) == kGroupSizeChannel &&
      args.k > kMostInInt32) {
    return invalid("k", args.k, "at most 1048576 with a_type kS8 and a scale for each column");
  }
  // Tiles are 64 columns wide at least; every id may have a block of its own, and every expert one
  // without ids.
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const std::int64_t ids = static_cast<std::int64_t>(args.m) * args.top_k;
  if (ids > kMost || (ids + args.num_experts) * (args.n / 64) > kMost ||
      max_padded_ids(args) > kMost) {
    return invalid(
        "m", args.m,
        "fewer rows: (m * top_k + num_experts) * n up to 2^36, and up to 2^30 entries of "
        "sorted_token_ids, padding at worst included");
  }
  return {};
}

Status check_problem(const MoeGemmArgs& args) {
  for (const auto check : {check_types, check_shape, check_groups}) {
    Status status = check(args);
    if (!status.ok()) return status;
  }
  return {};
}

Status check_operands(const MoeGemmArgs& args) {
  Status status;
  const auto fine = [&status](const char* name, const void* pointer, std::uintptr_t alignment,
                              bool needed) {
    if (!needed || is_aligned(pointer, alignment)) return true;
    status = check_pointer(name, pointer, alignment);
    return false;
  };
  // A workspace of no bytes may be null: where it does not suffice, its size is refused.
  const bool has_workspace = args.workspace != nullptr || args.workspace_bytes != 0;
  const bool all_fine = fine("a", args.a, 16, true) && fine("b", args.b, 16, true) &&
                        fine("scales", args.scales, 16, true) &&
                        fine("zero_points", args.zero_points, 16, has_zero_points(args)) &&
                        fine("global_scales", args.global_scales, 4, has_global_scales(args)) &&
                        fine("a_scales", args.a_scales, 4, args.a_type.size_bits() == 8) &&
                        fine("bias", args.bias, 16, args.bias != nullptr) &&
                        fine("g_idx", args.g_idx, 16, is_act_order(args)) &&
                        fine("perm", args.perm, 16, is_act_order(args)) &&
                        fine("topk_weights", args.topk_weights, 4, args.topk_weights != nullptr) &&
                        fine("sorted_token_ids", args.sorted_token_ids, 4, true) &&
                        fine("expert_ids", args.expert_ids, 4, true) &&
                        fine("num_tokens_past_padded", args.num_tokens_past_padded, 4, true) &&
                        fine("c", args.c, 16, true) &&
                        fine("workspace", args.workspace, kWorkspaceAlignment, has_workspace);
  if (!all_fine) return status;
  const int a_chunk = 128 / args.a_type.size_bits();
  if (args.a_stride < args.k || args.a_stride % a_chunk != 0) {
    return invalid(
        "a_stride", args.a_stride,
        "a multiple of " + std::to_string(a_chunk) + ", at least k = " + std::to_string(args.k));
  }
  return {};
}

}  // namespace marlin_moe
