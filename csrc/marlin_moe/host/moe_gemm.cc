#include "marlin_moe/moe_gemm.h"

#include <cstdint>

#include "cuda_status.h"
#include "gemm_arguments.h"
#include "gemm_config.h"
#include "kernel_table.h"
#include "marlin_moe/prepare/permute_columns.h"
#include "workspace.h"

namespace marlin_moe {

using MARLIN_NAMESPACE_NAME::KernelParams;

// The checks that workspace queries and calls share, for any number of rows.
static Status check_plan(const MoeGemmArgs& args, const MoeGemmConfig* given) {
  Status status = check_problem(args);
  if (status.ok() && given != nullptr) status = check_config(*given);
  return status;
}

// Chooses the configuration for the current device, for what was checked.
static Status plan(const MoeGemmArgs& args, const MoeGemmConfig* given, const DeviceInfo** device,
                   Choice* choice) {
  Status status = device_info(device);
  if (status.ok()) status = choose_config(args, **device, given, choice);
  return status;
}

Status moe_gemm_choose_config(const MoeGemmArgs& args, MoeGemmConfig* config) {
  const DeviceInfo* device = nullptr;
  Choice choice;
  Status status = check_plan(args, nullptr);
  if (status.ok()) status = plan(args, nullptr, &device, &choice);
  if (status.ok()) *config = choice.config;
  return status;
}

Status moe_gemm_workspace_size(const MoeGemmArgs& args, std::size_t* bytes,
                               const MoeGemmConfig* config) {
  Status status = check_plan(args, config);
  if (!status.ok()) return status;
  std::size_t needed = 0;
  if (args.m > 0) {
    const DeviceInfo* device = nullptr;
    Choice choice;
    status = plan(args, config, &device, &choice);
    if (status.ok()) needed = workspace_bytes({args, choice.config, *device});
  }
  if (status.ok()) *bytes = needed;
  return status;
}

Status moe_gemm_max_workspace_size(const MoeGemmArgs& args, std::size_t* bytes) {
  Status status = check_problem(args);
  const DeviceInfo* device = nullptr;
  if (status.ok()) status = device_info(&device);
  if (status.ok()) *bytes = max_workspace_bytes(args, *device);
  return status;
}

// The first place of partial sums is that of stripe 0, which only atomic additions use: otherwise
// it would lie before the memory that is there for them.
static float* first_partial(const MoeGemmArgs& args, const Kernel& kernel,
                            const WorkspaceLayout& layout) {
  auto address = reinterpret_cast<std::uintptr_t>(args.workspace) + layout.partials;
  if (!args.atomic_reduce) {
    address -= static_cast<std::uintptr_t>(kernel.shape.tile_elements()) * sizeof(float);
  }
  return reinterpret_cast<float*>(address);
}

static KernelParams kernel_params(const MoeGemmArgs& args, const Choice& choice,
                                  const WorkspaceLayout& layout, int blocks) {
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
  params.partials = first_partial(args, choice.kernel, layout);
  params.a_stride = args.a_stride;
  params.num_ids = args.m * args.top_k;
  params.n = args.n;
  params.k = args.k;
  params.num_groups = args.num_groups;
  params.stripe_slack = choice.config.stripe_slack;
  params.a_row_divisor = args.top_k;
  params.stripes = blocks;
  params.n_tiles = (args.n + choice.config.thread_n - 1) / choice.config.thread_n;
  params.tile_stages = args.k / choice.config.thread_k;
  params.atomic_reduce = args.atomic_reduce;
  params.expert_parallel = args.expert_parallel;
  return params;
}

// Act-order: gathers A's columns into the workspace and makes the kernel read them there.
static Status gather_a(const MoeGemmArgs& args, const WorkspaceLayout& layout,
                       KernelParams* params) {
  PermuteColumnsArgs permute{};
  permute.a = args.a;
  permute.a_stride = args.a_stride;
  permute.perm = args.perm;
  permute.sorted_token_ids = args.sorted_token_ids;
  permute.expert_ids = args.expert_ids;
  permute.num_tokens_past_padded = args.num_tokens_past_padded;
  permute.num_ids = args.m * args.top_k;
  permute.top_k = args.top_k;
  permute.block_size = args.block_size;
  permute.max_ids = static_cast<int>(max_padded_ids(args));
  permute.k = args.k;
  permute.out = static_cast<char*>(args.workspace) + layout.permuted_a;
  params->a = permute.out;
  params->a_stride = args.k;
  params->a_row_divisor = 1;
  return permute_columns(permute, args.stream);
}

static Status launch(const MoeGemmArgs& args, const Choice& choice, const DeviceInfo& device) {
  const WorkspaceLayout layout = workspace_layout(args, device);
  const int blocks = Launch{args, choice.config, device}.blocks();
  KernelParams params = kernel_params(args, choice, layout, blocks);
  if (is_act_order(args)) {
    Status status = gather_a(args, layout, &params);
    if (!status.ok()) return status;
  }
  void* arguments[] = {&params};
  return cuda_status(
      cudaLaunchKernel(reinterpret_cast<const void*>(choice.kernel.function),
                       dim3(static_cast<unsigned>(blocks)),
                       dim3(static_cast<unsigned>(choice.config.threads)), arguments,
                       static_cast<std::size_t>(choice.kernel.shape.shared_memory_bytes()),
                       args.stream),
      "cudaLaunchKernel");
}

Status moe_gemm(const MoeGemmArgs& args, const MoeGemmConfig* config) {
  Status status = check_plan(args, config);
  if (!status.ok() || args.m == 0) return status;
  status = check_operands(args);
  const DeviceInfo* device = nullptr;
  Choice choice;
  if (status.ok()) status = plan(args, config, &device, &choice);
  if (status.ok()) status = check_workspace({args, choice.config, *device});
  if (!status.ok()) return status;
  log_choice(args, choice, *device);
  return launch(args, choice, *device);
}

}  // namespace marlin_moe
