#include "marlin_moe/moe_gemm.h"

#include <algorithm>
#include <limits>
#include <string>

#include "cuda_status.h"
#include "gemm_arguments.h"
#include "launch_plan.h"
#include "marlin_moe/prepare/permute_columns.h"
#include "marlin_moe/prepare/stage_rows.h"

namespace marlin_moe {

using MARLIN_NAMESPACE_NAME::KernelParams;

// The checks that workspace queries and calls share, for any number of rows.
static Status check_request(const MoeGemmArgs& args, const MoeGemmConfig* given) {
  Status status = check_problem(args);
  if (status.ok() && given != nullptr) status = check_config(*given);
  return status;
}

Status moe_gemm_choose_config(const MoeGemmArgs& args, MoeGemmConfig* config) {
  LaunchPlan plan;
  Status status = check_request(args, nullptr);
  if (status.ok()) status = plan_launch(args, nullptr, &plan);
  if (status.ok()) *config = plan.config;
  return status;
}

Status moe_gemm_workspace_size(const MoeGemmArgs& args, std::size_t* bytes,
                               const MoeGemmConfig* config) {
  LaunchPlan plan;
  Status status = check_request(args, config);
  if (status.ok() && args.m > 0) status = plan_launch(args, config, &plan);
  if (status.ok()) *bytes = plan.workspace.bytes;
  return status;
}

Status moe_gemm_max_workspace_size(const MoeGemmArgs& args, std::size_t* bytes) {
  const DeviceInfo* device = nullptr;
  Status status = check_problem(args);
  if (status.ok()) status = device_info(&device);
  if (status.ok()) *bytes = max_workspace_bytes(args, *device);
  return status;
}

static Status check_workspace(const MoeGemmArgs& args, const LaunchPlan& plan) {
  if (args.workspace_bytes >= plan.workspace.bytes) return {};
  return {StatusCode::kInsufficientWorkspace,
          "workspace_bytes = " + std::to_string(args.workspace_bytes) +
              " is not enough; needed: " + std::to_string(plan.workspace.bytes) +
              ", as moe_gemm_workspace_size() says of these arguments"};
}

// A place in the workspace, or null where there is none.
static void* workspace_at(const MoeGemmArgs& args, std::size_t offset) {
  return args.workspace == nullptr ? nullptr : static_cast<char*>(args.workspace) + offset;
}

static KernelParams kernel_params(const MoeGemmArgs& args, const LaunchPlan& plan) {
  KernelParams params{};
  params.a = args.a;
  params.b = args.b;
  params.scales = args.scales;
  params.zero_points = args.zero_points;
  params.bias = args.bias;
  params.global_scales = args.global_scales;
  params.a_scales = args.a_scales;
  params.c = args.c;
  params.g_idx = args.g_idx;
  params.topk_weights = args.topk_weights;
  params.sorted_token_ids = args.sorted_token_ids;
  params.expert_ids = args.expert_ids;
  params.num_tokens_past_padded = args.num_tokens_past_padded;
  params.locks = static_cast<int*>(args.workspace);
  params.partials = static_cast<float*>(workspace_at(args, plan.workspace.partials));
  params.a_stride = args.a_stride;
  params.num_ids = args.m * args.top_k;
  params.n = args.n;
  params.k = args.k;
  params.num_groups = args.num_groups;
  params.stripe_slack = plan.config.stripe_slack;
  params.a_row_divisor = args.top_k;
  params.stripes = plan.blocks;
  params.n_tiles = plan.n_tiles;
  params.tile_stages = plan.tile_stages;
  params.atomic_reduce = args.atomic_reduce;
  params.expert_parallel = args.expert_parallel;
  params.k_splits = plan.k_splits;
  params.num_experts = args.num_experts;
  return params;
}

static RoutedRows routed_rows(const MoeGemmArgs& args) {
  return {args.sorted_token_ids, args.expert_ids,  args.num_tokens_past_padded,
          args.m * args.top_k,   args.num_experts, args.top_k,
          args.block_size};
}

// Act-order: gathers A's columns into the workspace and makes the kernel read them there.
static Status gather_columns(const MoeGemmArgs& args, const LaunchPlan& plan,
                             KernelParams* params) {
  PermuteColumnsArgs permute{};
  permute.a = args.a;
  permute.a_stride = args.a_stride;
  permute.perm = args.perm;
  permute.rows = routed_rows(args);
  permute.max_ids = static_cast<int>(max_padded_ids(args));
  permute.k = args.k;
  permute.out = workspace_at(args, plan.workspace.gathered_a);
  params->a = permute.out;
  params->a_stride = args.k;
  params->a_row_divisor = 1;
  return permute_columns(permute, args.stream);
}

// sm90: copies A's rows into the workspace in the order of the tiles, and makes the kernel read
// them there.
static Status gather_rows(const MoeGemmArgs& args, const LaunchPlan& plan, KernelParams* params) {
  StageRowsArgs stage{};
  stage.a = args.a;
  stage.a_stride = args.a_stride * args.a_type.size_bits() / 8;
  stage.row_bytes = row_bytes(args);
  stage.rows = routed_rows(args);
  stage.max_ids = static_cast<int>(
      std::min<std::int64_t>(max_staged_ids(args), std::numeric_limits<int>::max()));
  stage.out = workspace_at(args, plan.workspace.gathered_a);
  params->staged_a = stage.out;
  return stage_rows(stage, args.stream);
}

// Atomic additions start from zeros.
static Status clear_sums(const MoeGemmArgs& args, const LaunchPlan& plan,
                         const KernelParams& params) {
  if (!args.atomic_reduce || plan.k_splits <= 1) return {};
  return cuda_status(cudaMemsetAsync(params.partials, 0, partial_bytes(plan), args.stream),
                     "cudaMemsetAsync");
}

static cudaError_t launch_kernel(const LaunchPlan& plan, KernelParams* params,
                                 cudaStream_t stream) {
  void* arguments[] = {params};
  return cudaLaunchKernel(reinterpret_cast<const void*>(plan.kernel.function),
                          dim3(static_cast<unsigned>(plan.blocks)),
                          dim3(static_cast<unsigned>(plan.config.threads)), arguments,
                          static_cast<std::size_t>(plan.kernel.shared_bytes), stream);
}

static Status launch(const MoeGemmArgs& args, const LaunchPlan& plan) {
  KernelParams params = kernel_params(args, plan);
  Status status;
  if (is_act_order(args)) status = gather_columns(args, plan, &params);
  if (plan.config.gather_first == 1) status = gather_rows(args, plan, &params);
  if (status.ok()) status = clear_sums(args, plan, params);
  if (!status.ok()) return status;
  cudaError_t error = launch_kernel(plan, &params, args.stream);
  if (error == cudaErrorInvalidValue) {
    // So it is in a context that does not know yet how much shared memory the kernel may have:
    // another than the one that was told, or the one behind cudaDeviceReset().
    (void)cudaGetLastError();
    status = allow_shared_memory(plan.kernel);
    if (!status.ok()) return status;
    error = launch_kernel(plan, &params, args.stream);
  }
  return cuda_status(error, "cudaLaunchKernel");
}

Status moe_gemm(const MoeGemmArgs& args, const MoeGemmConfig* config) {
  Status status = check_request(args, config);
  if (!status.ok() || args.m == 0) return status;
  LaunchPlan plan;
  status = check_operands(args);
  if (status.ok()) status = plan_launch(args, config, &plan);
  if (status.ok()) status = check_workspace(args, plan);
  if (!status.ok()) return status;
  log_plan(args, plan);
  return launch(args, plan);
}

}  // namespace marlin_moe
