#include "examples/moe_layer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "marlin_moe/activations.h"
#include "marlin_moe/moe_align.h"

namespace marlin_moe_example {

namespace {

namespace moe = marlin_moe;
using moe::Status;

constexpr std::size_t kAlignment = 256;

// Hands out parts of the workspace, each aligned. Without memory it only counts.
class Arena {
 public:
  explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}

  void* take(std::size_t bytes) {
    void* part = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return part;
  }
  std::size_t used() const { return used_; }

 private:
  char* memory_;
  std::size_t used_ = 0;
};

// All calls of a layer, with their arguments filled in.
struct Plan {
  moe::MoeAlignArgs align;
  moe::MoeGemmArgs gate_up;
  moe::ActAndMulArgs activate;
  moe::MoeGemmArgs down;
  moe::TopkSumArgs sum;
  std::size_t bytes = 0;
};

int global_experts(const MoeLayerArgs& args) {
  return args.expert_map == nullptr ? args.num_experts : args.num_global_experts;
}

moe::MoeAlignArgs align_args(const MoeLayerArgs& args, int block_size) {
  moe::MoeAlignArgs align;
  align.num_ids = args.m * args.top_k;
  align.num_experts = global_experts(args);
  align.block_size = block_size;
  align.topk_ids = args.topk_ids;
  align.expert_map = args.expert_map;
  align.drop_remote = true;
  align.stream = args.stream;
  return align;
}

moe::MoeGemmArgs gemm_args(const MoeLayerArgs& args, const moe::MoeAlignArgs& align,
                           const ExpertWeights& weights, int n, int k) {
  moe::MoeGemmArgs gemm;
  gemm.m = args.m;
  gemm.n = n;
  gemm.k = k;
  gemm.num_experts = args.num_experts;
  gemm.top_k = args.top_k;
  gemm.block_size = align.block_size;
  gemm.a_type = gemm.c_type = gemm.s_type = args.type;
  gemm.b_type = MARLIN_TYPE_NAMESPACE::kU4B8;
  gemm.group_size = args.group_size;
  gemm.num_groups = args.group_size > 0 ? k / args.group_size : 1;
  gemm.a_stride = k;
  gemm.b = weights.b;
  gemm.scales = weights.scales;
  gemm.stream = args.stream;
  return gemm;
}

// The GEMMs run one after the other and can share a workspace. It comes first and is as large as
// any m up to this one may need: its part that has to stay zero is never used for anything else,
// also where layers of another m need less of it or none.
Status add_gemms(const MoeLayerArgs& args, Arena* arena, Plan* plan) {
  plan->gate_up = gemm_args(args, plan->align, args.gate_up, 2 * args.intermediate, args.hidden);
  plan->down = gemm_args(args, plan->align, args.down, args.hidden, args.intermediate);
  plan->down.m = args.m * args.top_k;  // a row for each id
  plan->down.top_k = 1;
  plan->down.topk_weights = args.topk_weights;
  std::size_t bytes = 0;
  for (moe::MoeGemmArgs* gemm : {&plan->gate_up, &plan->down}) {
    std::size_t now = 0;
    std::size_t most = 0;
    // The first query looks for a kernel as well.
    Status status = moe::moe_gemm_workspace_size(*gemm, &now);
    if (status.ok()) status = moe::moe_gemm_max_workspace_size(*gemm, &most);
    if (!status.ok()) return status;
    bytes = std::max(bytes, most);
  }
  void* workspace = arena->take(bytes);
  for (moe::MoeGemmArgs* gemm : {&plan->gate_up, &plan->down}) {
    gemm->workspace = workspace;
    gemm->workspace_bytes = bytes;
  }
  return {};
}

// Gives the alignment its outputs and scratch memory, and tells the GEMMs.
Status add_alignment(Arena* arena, Plan* plan) {
  moe::MoeAlignArgs& align = plan->align;
  Status status = moe::moe_align_workspace_size(align, &align.workspace_bytes);
  if (!status.ok()) return status;
  const auto places = static_cast<std::size_t>(
      moe::moe_align_capacity(align.num_ids, align.num_experts, align.block_size));
  const std::size_t blocks = places / static_cast<std::size_t>(align.block_size);
  align.workspace = arena->take(align.workspace_bytes);
  align.sorted_token_ids = static_cast<int*>(arena->take(places * sizeof(int)));
  align.expert_ids = static_cast<int*>(arena->take(blocks * sizeof(int)));
  align.num_tokens_past_padded = static_cast<int*>(arena->take(sizeof(int)));
  for (moe::MoeGemmArgs* gemm : {&plan->gate_up, &plan->down}) {
    gemm->sorted_token_ids = align.sorted_token_ids;
    gemm->expert_ids = align.expert_ids;
    gemm->num_tokens_past_padded = align.num_tokens_past_padded;
  }
  return {};
}

// Strings the steps together: the rows of one are the input of the next.
void add_activations(const MoeLayerArgs& args, Arena* arena, Plan* plan) {
  const auto ids = static_cast<std::size_t>(plan->align.num_ids);
  const auto hidden = static_cast<std::size_t>(args.hidden);
  const auto intermediate = static_cast<std::size_t>(args.intermediate);
  constexpr std::size_t kElementBytes = 2;
  plan->gate_up.a = args.x;
  plan->gate_up.c = arena->take(ids * 2 * intermediate * kElementBytes);

  plan->activate.m = plan->align.num_ids;
  plan->activate.n = args.intermediate;
  plan->activate.type = args.type;
  plan->activate.x = plan->gate_up.c;
  plan->activate.out = arena->take(ids * intermediate * kElementBytes);
  plan->activate.stream = args.stream;

  plan->down.a = plan->activate.out;
  plan->down.c = arena->take(ids * hidden * kElementBytes);

  plan->sum.m = args.m;
  plan->sum.n = args.hidden;
  plan->sum.top_k = args.top_k;
  plan->sum.type = args.type;
  plan->sum.x = plan->down.c;
  plan->sum.out = args.out;
  plan->sum.topk_ids = args.topk_ids;
  plan->sum.num_experts = global_experts(args);
  plan->sum.expert_map = args.expert_map;
  plan->sum.stream = args.stream;
}

Status make_plan(const MoeLayerArgs& args, Plan* plan) {
  // The calls below check the rest; these two are multiplied first.
  const std::int64_t ids = static_cast<std::int64_t>(args.m) * args.top_k;
  if (args.m < 0 || args.top_k < 1 || ids > std::numeric_limits<int>::max()) {
    return {moe::StatusCode::kInvalidArgument,
            "m = " + std::to_string(args.m) + ", top_k = " + std::to_string(args.top_k) +
                " is not allowed; allowed: m 0 or more, top_k 1 or more, m * top_k an int"};
  }
  Arena arena(args.workspace);
  moe::MoeGemmArgs first =
      gemm_args(args, plan->align, args.gate_up, 2 * args.intermediate, args.hidden);
  first.num_experts = global_experts(args);
  int block_size = 0;
  Status status = moe::moe_gemm_block_size(first, &block_size);
  if (!status.ok()) return status;
  plan->align = align_args(args, block_size);
  status = add_gemms(args, &arena, plan);
  if (status.ok()) status = add_alignment(&arena, plan);
  if (!status.ok()) return status;
  add_activations(args, &arena, plan);
  plan->bytes = arena.used();
  return {};
}

}  // namespace

Status marlin_moe_layer_workspace_size(const MoeLayerArgs& args, std::size_t* bytes) {
  Plan plan;
  const Status status = make_plan(args, &plan);
  if (status.ok()) *bytes = plan.bytes;
  return status;
}

Status marlin_moe_layer(const MoeLayerArgs& args) {
  Plan plan;
  Status status = make_plan(args, &plan);
  if (!status.ok() || args.m == 0) return status;
  if (args.workspace == nullptr ||
      reinterpret_cast<std::uintptr_t>(args.workspace) % kAlignment != 0) {
    return {moe::StatusCode::kInvalidArgument,
            "workspace is null or misaligned; allowed: a device pointer aligned to " +
                std::to_string(kAlignment) + " bytes"};
  }
  if (args.workspace_bytes < plan.bytes) {
    return {moe::StatusCode::kInsufficientWorkspace,
            "workspace_bytes = " + std::to_string(args.workspace_bytes) +
                " is not enough; needed: " + std::to_string(plan.bytes) +
                ", as marlin_moe_layer_workspace_size() says"};
  }
  status = moe::moe_align(plan.align);
  if (status.ok()) status = moe::moe_gemm(plan.gate_up);
  if (status.ok()) status = moe::act_and_mul(plan.activate);
  if (status.ok()) status = moe::moe_gemm(plan.down);
  if (status.ok()) status = moe::topk_sum(plan.sum);
  return status;
}

}  // namespace marlin_moe_example
