#include "moe_gemm.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "arguments.h"
#include "kernel_table.h"
#include "permute_columns.h"

namespace marlin_moe {

// Threads of this library's kernels that a multiprocessor is given at most; more blocks than that
// need more partial sums and gain nothing (docs/kernel-notes.md).
static constexpr int kMaxThreadsPerSm = 512;
static constexpr int kMaxBlockSize = 64;
// Stages worth about as much as the exchange of partial sums that they save.
static constexpr int kDefaultStripeSlack = 8;
static constexpr std::size_t kAlignment = 256;  // of the workspace's parts

// Tiles a kernel may have (SCHEME_LIMITS in private/quant_schemes.bzl).
static constexpr MoeGemmConfig kTiles[] = {
    {64, 128, 128}, {64, 256, 256}, {128, 128, 256}, {128, 64, 128}};

static bool has_zero_points(const MoeGemmArgs& args) {
  return args.b_type == MARLIN_TYPE_NAMESPACE::kU4;
}

static bool has_global_scales(const MoeGemmArgs& args) {
  return args.s_type == MARLIN_TYPE_NAMESPACE::kFE4M3fn;
}

static bool is_act_order(const MoeGemmArgs& args) { return args.group_size == kGroupSizeActOrder; }

// Which types and group sizes go together is not checked here: the kernels that were built decide.
static Status check_types(const MoeGemmArgs& args) {
  const int a_bits = args.a_type.size_bits();
  if (a_bits != 8 && a_bits != 16)
    return invalid("a_type", args.a_type.id(), "a type of 8 or 16 bits");
  const int b_bits = args.b_type.size_bits();
  if (b_bits != 4 && b_bits != 8)
    return invalid("b_type", args.b_type.id(), "a type of 4 or 8 bits");
  return {};
}

static Status check_groups(const MoeGemmArgs& args) {
  const int size = args.group_size;
  if (is_act_order(args)) {
    if (args.num_groups >= 1 && args.num_groups <= args.k) return {};
    return invalid("num_groups", args.num_groups, "1 to k = " + std::to_string(args.k));
  }
  if (size != kGroupSizeChannel && size != 16 && size != 32 && size != 64 && size != 128) {
    return invalid("group_size", size, "-1 (channel), 0 (act-order), 16, 32, 64, 128");
  }
  if (size != kGroupSizeChannel && args.k % size != 0) {
    return invalid("k", args.k, "a multiple of group_size = " + std::to_string(size));
  }
  const int groups = size == kGroupSizeChannel ? 1 : args.k / size;
  if (args.num_groups != groups)
    return invalid("num_groups", args.num_groups, std::to_string(groups));
  return {};
}

// Upper bound of *num_tokens_past_padded: every expert that has a token may leave all but one place
// of its last block empty. Under expert parallelism there are more experts than num_experts.
static std::int64_t max_padded_ids(const MoeGemmArgs& args) {
  const std::int64_t ids = static_cast<std::int64_t>(args.m) * args.top_k;
  const std::int64_t experts =
      args.expert_parallel ? ids : std::min<std::int64_t>(ids, args.num_experts);
  return ids + experts * (args.block_size - 1);
}

static Status check_shape(const MoeGemmArgs& args) {
  if (args.m < 0) return invalid("m", args.m, "0 or more");
  if (args.n <= 0 || args.n % 64 != 0) return invalid("n", args.n, "a positive multiple of 64");
  if (args.k <= 0 || args.k % 64 != 0) return invalid("k", args.k, "a positive multiple of 64");
  if (args.num_experts < 1) return invalid("num_experts", args.num_experts, "1 or more");
  if (args.top_k < 1) return invalid("top_k", args.top_k, "1 or more");
  const int size = args.block_size;
  if (size != 8 && (size % 16 != 0 || size < 16 || size > kMaxBlockSize)) {
    return invalid("block_size", size, "8, 16, 32, 48, 64");
  }
  const std::int64_t ids = max_padded_ids(args);
  const std::int64_t stages = ids / size * (args.n / 64) * (args.k / 64);
  constexpr std::int64_t kMost = std::numeric_limits<int>::max() / 2;
  if (ids > kMost || stages > kMost) {
    return invalid("m", args.m, "fewer rows: m * top_k * n * k is more than one launch can index");
  }
  return {};
}

static Status check_operands(const MoeGemmArgs& args) {
  struct Operand {
    const char* name;
    const void* pointer;
    std::uintptr_t alignment;
    bool needed;
  };
  const Operand operands[] = {{"a", args.a, 16, true},
                              {"b", args.b, 16, true},
                              {"scales", args.scales, 16, true},
                              {"zero_points", args.zero_points, 16, has_zero_points(args)},
                              {"global_scales", args.global_scales, 4, has_global_scales(args)},
                              {"a_scales", args.a_scales, 4, args.a_type.size_bits() == 8},
                              {"bias", args.bias, 16, args.bias != nullptr},
                              {"g_idx", args.g_idx, 16, is_act_order(args)},
                              {"perm", args.perm, 16, is_act_order(args)},
                              {"topk_weights", args.topk_weights, 4, args.topk_weights != nullptr},
                              {"sorted_token_ids", args.sorted_token_ids, 4, true},
                              {"expert_ids", args.expert_ids, 4, true},
                              {"num_tokens_past_padded", args.num_tokens_past_padded, 4, true},
                              {"c", args.c, 16, true},
                              {"workspace", args.workspace, kAlignment, true}};
  for (const Operand& operand : operands) {
    if (!operand.needed) continue;
    Status status = check_pointer(operand.name, operand.pointer, operand.alignment);
    if (!status.ok()) return status;
  }
  const int a_chunk = 128 / args.a_type.size_bits();
  if (args.a_stride < args.k || args.a_stride % a_chunk != 0) {
    return invalid(
        "a_stride", args.a_stride,
        "a multiple of " + std::to_string(a_chunk) + ", at least k = " + std::to_string(args.k));
  }
  return {};
}

static Status check_problem(const MoeGemmArgs& args) {
  for (const auto check : {check_types, check_shape, check_groups}) {
    Status status = check(args);
    if (!status.ok()) return status;
  }
  return {};
}

// Where the parts of the workspace lie, in bytes.
struct WorkspaceLayout {
  std::size_t partials = 0;
  std::size_t permuted_a = 0;
  std::size_t bytes = 0;
};

static std::size_t align_up(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Locks first, then the partial sums of every block that can be resident, then, for act-order, the
// gathered rows of A. A tile has no more columns than its block has threads, so that threads bound
// the partial sums whatever the tile. Atomic additions need zeros to start from and leave zeros
// behind: nothing else may lie there in a later call with another block size.
static WorkspaceLayout workspace_layout(const MoeGemmArgs& args, const DeviceInfo& device) {
  const std::size_t threads = static_cast<std::size_t>(device.multiprocessors) * kMaxThreadsPerSm;
  const std::size_t rows = args.atomic_reduce ? kMaxBlockSize : args.block_size;
  WorkspaceLayout layout;
  layout.partials = align_up(threads / 128 * sizeof(int));
  layout.permuted_a = align_up(layout.partials + threads * rows * sizeof(float));
  layout.bytes = layout.permuted_a;
  if (is_act_order(args)) {
    layout.bytes += static_cast<std::size_t>(args.m) * args.top_k * args.k * 2;
  }
  return layout;
}

Status moe_gemm_workspace_size(const MoeGemmArgs& args, std::size_t* bytes) {
  Status status = check_problem(args);
  DeviceInfo device{};
  if (status.ok()) status = device_info(&device);
  if (status.ok()) *bytes = workspace_layout(args, device).bytes;
  return status;
}

int moe_gemm_block_size(int m, int num_experts, int top_k, const ScalarType& a_type) {
  const double per_expert = static_cast<double>(m) * top_k / std::max(num_experts, 1);
  for (const int size : {8, 16, 32, 48}) {
    if (size == 8 && a_type.size_bits() == 8) continue;
    if (per_expert < 0.9 * size) return size;
  }
  return 64;
}

// Blocks of sorted_token_ids that tokens spread evenly over the experts fill on average.
static double expected_blocks(const MoeGemmArgs& args) {
  const double ids = static_cast<double>(args.m) * args.top_k;
  const double experts = args.num_experts;
  const double active = experts * (1.0 - std::exp(-ids / experts));
  return std::max(active, ids / args.block_size + 0.5 * active);
}

// A configuration and the reason for it, for the log.
struct Choice {
  MoeGemmConfig config;
  const char* reason;
};

// The tile to try first for a shape, as measured on an H100 (docs/kernel-notes.md).
static Choice preferred_config(const MoeGemmArgs& args, const DeviceInfo& device) {
  constexpr int kSmallStagesPerSm = 16;
  const double blocks = expected_blocks(args);
  if (args.block_size <= 16 && args.k % 128 == 0) {
    const double stages = blocks * ((args.n + 127) / 128) * (args.k / 128);
    if (stages <= kSmallStagesPerSm * device.multiprocessors) {
      return {{128, 128, 256, 1}, "little work: one block per multiprocessor seldom splits a tile"};
    }
  }
  const bool many_rows = args.block_size == 64 || (args.block_size == 48 && args.n > args.k);
  if (many_rows && args.n % 256 == 0 && blocks * (args.n / 256) >= device.multiprocessors) {
    return {{64, 256, 256}, "many rows: a wide tile reads A less often"};
  }
  return {{64, 128, 128}, "few rows: small tiles keep more loads of weights under way"};
}

static int most_blocks_per_sm(const Kernel& kernel) {
  return std::min(kernel.max_blocks_per_sm, kMaxThreadsPerSm / kernel.shape.threads);
}

// Chooses a configuration for checked arguments, and its kernel: the preferred one, or the first
// that was built and fits the device.
static Status choose(const MoeGemmArgs& args, const DeviceInfo& device, Kernel* kernel,
                     Choice* choice) {
  *choice = preferred_config(args, device);
  MoeGemmConfig* config = &choice->config;
  Status status = find_kernel(args, *config, device, kernel);
  for (const MoeGemmConfig& tile : kTiles) {
    if (status.code != StatusCode::kNoKernel) break;
    if (args.k % tile.thread_k != 0) continue;
    *choice = {tile, "the first tile that was built and fits the device"};
    status = find_kernel(args, tile, device, kernel);
  }
  if (!status.ok()) return status;
  if (config->blocks_per_sm == 0) config->blocks_per_sm = most_blocks_per_sm(*kernel);
  config->stripe_slack = kDefaultStripeSlack;
  return {};
}

Status moe_gemm_choose_config(const MoeGemmArgs& args, MoeGemmConfig* config) {
  Status status = check_problem(args);
  DeviceInfo device{};
  if (status.ok()) status = device_info(&device);
  Kernel kernel;
  Choice choice{};
  if (status.ok()) status = choose(args, device, &kernel, &choice);
  if (status.ok()) *config = choice.config;
  return status;
}

// The override with what it leaves open filled in, checked.
static Status complete_config(const MoeGemmArgs& args, const MoeGemmConfig& given,
                              const Kernel& kernel, MoeGemmConfig* config) {
  *config = given;
  const int most = most_blocks_per_sm(kernel);
  if (config->blocks_per_sm == 0) config->blocks_per_sm = most;
  if (config->blocks_per_sm < 1 || config->blocks_per_sm > most) {
    return invalid("config.blocks_per_sm", given.blocks_per_sm, "1 to " + std::to_string(most));
  }
  if (config->stripe_slack == -1) config->stripe_slack = kDefaultStripeSlack;
  if (config->stripe_slack < 0) {
    return invalid("config.stripe_slack", given.stripe_slack, "-1 (chosen), 0 or more");
  }
  if (args.k % config->thread_k != 0) {
    return invalid("config.thread_k", given.thread_k, "a divisor of k = " + std::to_string(args.k));
  }
  return {};
}

static Status check_config(const MoeGemmConfig& config) {
  for (const MoeGemmConfig& tile : kTiles) {
    if (config.thread_k == tile.thread_k && config.thread_n == tile.thread_n &&
        config.threads == tile.threads) {
      return {};
    }
  }
  return invalid("config",
                 "(" + std::to_string(config.thread_k) + ", " + std::to_string(config.thread_n) +
                     ", " + std::to_string(config.threads) + ")",
                 "(thread_k, thread_n, threads) of (128, 128, 256), (64, 256, 256), "
                 "(64, 128, 128), (128, 64, 128)");
}

static MARLIN_NAMESPACE_NAME::KernelParams kernel_params(const MoeGemmArgs& args,
                                                         const MoeGemmConfig& config,
                                                         const WorkspaceLayout& layout) {
  char* workspace = static_cast<char*>(args.workspace);
  MARLIN_NAMESPACE_NAME::KernelParams params{};
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
  params.locks = reinterpret_cast<int*>(workspace);
  params.partials = reinterpret_cast<float*>(workspace + layout.partials);
  params.a_stride = args.a_stride;
  params.num_ids = args.m * args.top_k;
  params.a_row_divisor = args.top_k;
  params.n = args.n;
  params.k = args.k;
  params.num_groups = args.num_groups;
  params.stripe_slack = config.stripe_slack;
  params.atomic_reduce = args.atomic_reduce;
  params.expert_parallel = args.expert_parallel;
  return params;
}

// Act-order: gathers A's columns into the workspace and makes the kernel read them there.
static Status gather_a(const MoeGemmArgs& args, const WorkspaceLayout& layout,
                       MARLIN_NAMESPACE_NAME::KernelParams* params) {
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
  const cudaError_t error = permute_columns(permute, args.stream);
  if (error == cudaSuccess) return {};
  return {StatusCode::kCudaError, std::string("permute_columns: ") + cudaGetErrorString(error)};
}

static Status launch(const MoeGemmArgs& args, const MoeGemmConfig& config, const Kernel& kernel,
                     const DeviceInfo& device, const WorkspaceLayout& layout) {
  MARLIN_NAMESPACE_NAME::KernelParams params = kernel_params(args, config, layout);
  if (is_act_order(args)) {
    Status status = gather_a(args, layout, &params);
    if (!status.ok()) return status;
  }
  const std::int64_t tiles =
      max_padded_ids(args) / args.block_size * ((args.n + config.thread_n - 1) / config.thread_n);
  const std::int64_t stages = tiles * (args.k / config.thread_k);
  const std::int64_t blocks = std::min<std::int64_t>(
      stages, static_cast<std::int64_t>(device.multiprocessors) * config.blocks_per_sm);
  void* arguments[] = {&params};
  const cudaError_t error = cudaLaunchKernel(
      reinterpret_cast<const void*>(kernel.function), dim3(static_cast<unsigned>(blocks)),
      dim3(static_cast<unsigned>(config.threads)), arguments,
      static_cast<std::size_t>(kernel.shape.shared_memory_bytes()), args.stream);
  if (error == cudaSuccess) return {};
  return {StatusCode::kCudaError, std::string("cudaLaunchKernel: ") + cudaGetErrorString(error)};
}

// Whether the environment asks for a line per call: MARLIN_MOE_LOG=1. Read once.
static bool log_enabled() {
  static const bool enabled = [] {
    const char* value = std::getenv("MARLIN_MOE_LOG");
    return value != nullptr && std::string(value) == "1";
  }();
  return enabled;
}

static void log_choice(const MoeGemmArgs& args, const Choice& choice, const DeviceInfo& device,
                       const Kernel& kernel) {
  const std::string key = describe_key(args, choice.config, device);
  std::fprintf(stderr,
               "marlin_moe: m %d, n %d, k %d, %d experts, top_k %d: %s; %d blocks per "
               "multiprocessor of %d, stripe_slack %d, %d bytes of shared memory; %s\n",
               args.m, args.n, args.k, args.num_experts, args.top_k, key.c_str(),
               choice.config.blocks_per_sm, device.multiprocessors, choice.config.stripe_slack,
               kernel.shape.shared_memory_bytes(), choice.reason);
}

Status moe_gemm(const MoeGemmArgs& args, const MoeGemmConfig* config) {
  Status status = check_problem(args);
  if (status.ok() && config != nullptr) status = check_config(*config);
  if (!status.ok() || args.m == 0) return status;
  status = check_operands(args);
  DeviceInfo device{};
  if (status.ok()) status = device_info(&device);
  if (!status.ok()) return status;

  const WorkspaceLayout layout = workspace_layout(args, device);
  if (args.workspace_bytes < layout.bytes) {
    return {StatusCode::kInsufficientWorkspace,
            "workspace_bytes = " + std::to_string(args.workspace_bytes) +
                " is not enough; needed: " + std::to_string(layout.bytes) +
                ", as moe_gemm_workspace_size() says"};
  }
  Choice choice{{}, "given by the caller"};
  Kernel kernel;
  if (config == nullptr) {
    status = choose(args, device, &kernel, &choice);
  } else {
    status = find_kernel(args, *config, device, &kernel);
    if (status.ok()) status = complete_config(args, *config, kernel, &choice.config);
  }
  if (!status.ok()) return status;
  if (log_enabled()) log_choice(args, choice, device, kernel);
  return launch(args, choice.config, kernel, device, layout);
}

}  // namespace marlin_moe
