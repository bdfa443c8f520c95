#include "marlin_moe/marlin_moe.h"

#include <string>

#include "marlin_moe/host/arguments.h"
#include "marlin_moe/moe_gemm.h"
#include "support.h"

namespace marlin_moe {

static std::string& last_error() {
  static thread_local std::string message;
  return message;
}

int report(const Status& status) {
  if (!status.ok()) last_error() = status.message;
  switch (status.code) {
    case StatusCode::kOk:
      return MARLIN_MOE_OK;
    case StatusCode::kInvalidArgument:
      return MARLIN_MOE_INVALID_ARGUMENT;
    case StatusCode::kInsufficientWorkspace:
      return MARLIN_MOE_INSUFFICIENT_WORKSPACE;
    case StatusCode::kNoKernel:
      return MARLIN_MOE_NO_KERNEL;
    case StatusCode::kCudaError:
      break;
  }
  return MARLIN_MOE_CUDA_ERROR;
}

Status to_type(const char* argument, std::int32_t given, ScalarType* type) {
  static constexpr ScalarType kTypes[] = {
      MARLIN_TYPE_NAMESPACE::kFloat16, MARLIN_TYPE_NAMESPACE::kBFloat16,
      MARLIN_TYPE_NAMESPACE::kS8,      MARLIN_TYPE_NAMESPACE::kFE4M3fn,
      MARLIN_TYPE_NAMESPACE::kU4,      MARLIN_TYPE_NAMESPACE::kU4B8,
      MARLIN_TYPE_NAMESPACE::kU8B128,  MARLIN_TYPE_NAMESPACE::kFE2M1f,
      MARLIN_TYPE_NAMESPACE::kFE8M0fnu};
  if (given < MARLIN_MOE_FLOAT16 || given > MARLIN_MOE_FE8M0FNU) {
    return invalid(argument, given, "a marlin_moe_type, 1 to 9");
  }
  *type = kTypes[given - MARLIN_MOE_FLOAT16];
  return {};
}

static Status to_types(const marlin_moe_gemm_args& from, MoeGemmArgs* to) {
  Status status = to_type("a_type", from.a_type, &to->a_type);
  if (status.ok()) status = to_type("b_type", from.b_type, &to->b_type);
  if (status.ok()) status = to_type("c_type", from.c_type, &to->c_type);
  if (status.ok()) status = to_type("s_type", from.s_type, &to->s_type);
  return status;
}

static Status to_args(const marlin_moe_gemm_args* from, MoeGemmArgs* to) {
  const Status status = check_struct(from);
  if (!status.ok()) return status;
  to->m = from->m;
  to->n = from->n;
  to->k = from->k;
  to->num_experts = from->num_experts;
  to->top_k = from->top_k;
  to->block_size = from->block_size;
  to->group_size = from->group_size;
  to->num_groups = from->num_groups;
  to->expert_parallel = from->expert_parallel != 0;
  to->atomic_reduce = from->atomic_reduce != 0;
  to->a_stride = from->a_stride;
  to->a = from->a;
  to->a_scales = from->a_scales;
  to->b = from->b;
  to->scales = from->scales;
  to->zero_points = from->zero_points;
  to->global_scales = from->global_scales;
  to->bias = from->bias;
  to->g_idx = from->g_idx;
  to->perm = from->perm;
  to->topk_weights = from->topk_weights;
  to->sorted_token_ids = from->sorted_token_ids;
  to->expert_ids = from->expert_ids;
  to->num_tokens_past_padded = from->num_tokens_past_padded;
  to->c = from->c;
  to->workspace = from->workspace;
  to->workspace_bytes = from->workspace_bytes;
  to->stream = static_cast<cudaStream_t>(from->stream);
  return to_types(*from, to);
}

static Status check_config_size(const marlin_moe_gemm_config& config) {
  return check_size("config.struct_size", config);
}

// A configuration in C++, if there is one.
class GivenConfig {
 public:
  explicit GivenConfig(const marlin_moe_gemm_config* config) : given_(config != nullptr) {
    if (given_) status_ = check_config_size(*config);
    if (!given_ || !status_.ok()) return;
    config_ = {config->thread_k,      config->thread_n,     config->threads,
               config->blocks_per_sm, config->stripe_slack, config->gather_first};
  }
  const Status& status() const { return status_; }
  const MoeGemmConfig* get() const { return given_ ? &config_ : nullptr; }

 private:
  bool given_;
  Status status_;
  MoeGemmConfig config_;
};

}  // namespace marlin_moe

int marlin_moe_gemm(const marlin_moe_gemm_args* args, const marlin_moe_gemm_config* config) {
  marlin_moe::MoeGemmArgs converted;
  const marlin_moe::GivenConfig given(config);
  marlin_moe::Status status = marlin_moe::to_args(args, &converted);
  if (status.ok()) status = given.status();
  if (status.ok()) status = marlin_moe::moe_gemm(converted, given.get());
  return marlin_moe::report(status);
}

int marlin_moe_gemm_workspace_size(const marlin_moe_gemm_args* args,
                                   const marlin_moe_gemm_config* config, size_t* bytes) {
  marlin_moe::MoeGemmArgs converted;
  const marlin_moe::GivenConfig given(config);
  marlin_moe::Status status = marlin_moe::to_args(args, &converted);
  if (status.ok()) status = given.status();
  if (status.ok()) status = marlin_moe::check_out("bytes", bytes);
  if (status.ok()) {
    status = marlin_moe::moe_gemm_workspace_size(converted, bytes, given.get());
  }
  return marlin_moe::report(status);
}

int marlin_moe_gemm_max_workspace_size(const marlin_moe_gemm_args* args, size_t* bytes) {
  marlin_moe::MoeGemmArgs converted;
  marlin_moe::Status status = marlin_moe::to_args(args, &converted);
  if (status.ok()) status = marlin_moe::check_out("bytes", bytes);
  if (status.ok()) status = marlin_moe::moe_gemm_max_workspace_size(converted, bytes);
  return marlin_moe::report(status);
}

int marlin_moe_gemm_choose_config(const marlin_moe_gemm_args* args,
                                  marlin_moe_gemm_config* config) {
  marlin_moe::MoeGemmArgs converted;
  marlin_moe::MoeGemmConfig chosen;
  marlin_moe::Status status = marlin_moe::to_args(args, &converted);
  if (status.ok()) status = marlin_moe::check_out("config", config);
  if (status.ok()) status = marlin_moe::check_config_size(*config);
  if (status.ok()) status = marlin_moe::moe_gemm_choose_config(converted, &chosen);
  if (status.ok()) {
    *config = marlin_moe_gemm_config{config->struct_size, chosen.thread_k,      chosen.thread_n,
                                     chosen.threads,      chosen.blocks_per_sm, chosen.stripe_slack,
                                     chosen.gather_first};
  }
  return marlin_moe::report(status);
}

int marlin_moe_gemm_choose_block_size(const marlin_moe_gemm_args* args, int32_t* block_size) {
  marlin_moe::MoeGemmArgs converted;
  int chosen = 0;
  marlin_moe::Status status = marlin_moe::to_args(args, &converted);
  if (status.ok()) status = marlin_moe::check_out("block_size", block_size);
  if (status.ok()) status = marlin_moe::moe_gemm_block_size(converted, &chosen);
  if (status.ok()) *block_size = chosen;
  return marlin_moe::report(status);
}

int32_t marlin_moe_gemm_block_size(int32_t m, int32_t num_experts, int32_t top_k, int32_t a_type) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  marlin_moe::ScalarType type{};
  marlin_moe::Status status = marlin_moe::to_type("a_type", a_type, &type);
  if (status.ok()) {
    status = marlin_moe::check_type(
        "a_type", type, {types::kFloat16, types::kBFloat16, types::kS8, types::kFE4M3fn});
  }
  if (status.ok() && m < 0) status = marlin_moe::invalid("m", m, "0 or more");
  if (status.ok() && num_experts < 1) {
    status = marlin_moe::invalid("num_experts", num_experts, "1 or more");
  }
  if (status.ok() && top_k < 1) status = marlin_moe::invalid("top_k", top_k, "1 or more");
  if (marlin_moe::report(status) != MARLIN_MOE_OK) return 0;
  return marlin_moe::moe_gemm_block_size(m, num_experts, top_k, type);
}

const char* marlin_moe_last_error(void) { return marlin_moe::last_error().c_str(); }
