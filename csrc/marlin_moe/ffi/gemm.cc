// The GEMM by itself, and what is asked about it.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/function.h>

#include <string>
#include <vector>

#include "configs.h"
#include "expert_weights.h"
#include "marlin_moe/host/arguments.h"
#include "marlin_moe/host/cuda_status.h"
#include "marlin_moe/moe_align.h"
#include "workspace.h"

namespace marlin_moe {
namespace binding {

namespace types = MARLIN_TYPE_NAMESPACE;

// A GEMM's activations and weights, in the arguments that they are part of.
static MoeGemmArgs to_args(const ExpertWeightsObj& weights, const Operand& a, ffi::AnyView a_type,
                           ffi::AnyView top_k, ffi::AnyView block_size) {
  MoeGemmArgs args = weights.args;
  args.a_type = activation_type(weights, a_type, a);
  args.m = a.size(0);
  args.a = a.data();
  args.a_stride = a.row_stride();
  args.top_k = to_int("top_k", top_k);
  if (args.top_k < 1) refuse("top_k", std::to_string(args.top_k), "1 or more");
  args.block_size = to_int("block_size", block_size);
  return args;
}

// Takes what moe_align() wrote. Lists that are shorter than the worst routing needs would be read
// past their ends.
static void take_alignment(const Call& call, ffi::AnyView sorted_token_ids, ffi::AnyView expert_ids,
                           ffi::AnyView num_tokens_past_padded, MoeGemmArgs* args) {
  const Operand ids = call.here("sorted_token_ids", take("sorted_token_ids", sorted_token_ids,
                                                         {kInt32}, {kAny}, "(capacity,)"));
  const Operand experts = call.here(
      "expert_ids", take("expert_ids", expert_ids, {kInt32}, {kAny}, "(capacity / block_size,)"));
  const Operand used =
      call.here("num_tokens_past_padded",
                take("num_tokens_past_padded", num_tokens_past_padded, {kInt32}, {1}, "(1,)"));
  args->sorted_token_ids = ids.data_as<const int>();
  args->expert_ids = experts.data_as<const int>();
  args->num_tokens_past_padded = used.data_as<const int>();
  if (args->block_size < 1) return;  // the library says what is allowed
  const std::int64_t least =
      moe_align_capacity(args->m * args->top_k, args->num_experts, args->block_size);
  if (ids.size(0) < least) {
    refuse("sorted_token_ids", std::to_string(ids.size(0)) + " elements",
           "at least " + std::to_string(least) + ", as alignment_capacity() says");
  }
  const std::int64_t blocks = ids.size(0) / args->block_size;
  if (experts.size(0) < blocks) {
    refuse("expert_ids", std::to_string(experts.size(0)) + " elements",
           "at least " + std::to_string(blocks) + ", one for a block of sorted_token_ids");
  }
}

static ffi::Optional<ffi::Tensor> moe_gemm_(ffi::AnyView a, ffi::AnyView weights,
                                            ffi::AnyView sorted_token_ids, ffi::AnyView expert_ids,
                                            ffi::AnyView num_tokens_past_padded,
                                            ffi::AnyView block_size, ffi::AnyView top_k,
                                            ffi::AnyView a_type, ffi::AnyView a_scales,
                                            ffi::AnyView topk_weights, ffi::AnyView expert_parallel,
                                            ffi::AnyView atomic_reduce, ffi::AnyView config,
                                            ffi::AnyView out) {
  const auto experts = to_weights("weights", weights);
  const Operand source =
      take("a", a, {}, {kAny, experts->args.k}, "[m, k], k as weights.b has", Rows::kStrided);
  Call call("a", source);
  call.here("weights", experts->b);
  MoeGemmArgs args = to_args(*experts, source, a_type, top_k, block_size);
  const bool quantised = args.a_type.size_bits() == 8;
  if (!quantised && a_scales != nullptr) {
    refuse("a_scales", describe(a_scales), "None: only 8-bit activations have scales");
  }
  args.a_scales =
      call.here("a_scales", take_optional("a_scales", a_scales, {kFloat}, {args.m}, "(m,)"))
          .data_as<const float>();
  if (topk_weights != nullptr) {
    args.topk_weights =
        call.here("topk_weights",
                  take_elements("topk_weights", topk_weights, kFloat,
                                static_cast<std::int64_t>(args.m) * args.top_k, "[m, top_k]"))
            .data_as<const float>();
  }
  take_alignment(call, sorted_token_ids, expert_ids, num_tokens_past_padded, &args);
  args.expert_parallel = to_bool("expert_parallel", expert_parallel);
  args.atomic_reduce = to_bool("atomic_reduce", atomic_reduce);
  const auto given = take_config("config", config);
  const DLDataType dtype = own_dtype(args.c_type);
  const DLDataType integers{kDLInt, 16, 1};
  const Output result =
      take_output(call, "out", out, {dtype, integers},
                  {static_cast<std::int64_t>(args.m) * args.top_k, args.n}, "[m * top_k, n]");
  args.c = result.operand.data();
  launch_gemm(call, args, given ? &*given : nullptr);
  return result.made;
}

static ffi::Array<std::int64_t> choose_config(ffi::AnyView a, ffi::AnyView weights,
                                              ffi::AnyView top_k, ffi::AnyView block_size,
                                              ffi::AnyView a_type) {
  const auto experts = to_weights("weights", weights);
  const Operand source =
      take("a", a, {}, {kAny, experts->args.k}, "[m, k], k as weights.b has", Rows::kStrided);
  Call call("a", source);
  const MoeGemmArgs args = to_args(*experts, source, a_type, top_k, block_size);
  call.stream();  // the choice is the device's
  MoeGemmConfig config;
  check(moe_gemm_choose_config(args, &config));
  return {config.thread_k,      config.thread_n,     config.threads,
          config.blocks_per_sm, config.stripe_slack, config.gather_first};
}

// Lists of block_size, thread_k, thread_n, threads and blocks_per_sm.
static ffi::Array<ffi::Array<std::int64_t>> gemm_tiles(ffi::AnyView weights) {
  const auto experts = to_weights("weights", weights);
  Call call("weights", experts->b);
  call.stream();  // the kernels are the device's
  MoeGemmArgs args = experts->args;
  args.m = 1;
  std::vector<MoeGemmTile> tiles;
  check(moe_gemm_tiles(args, &tiles));
  ffi::Array<ffi::Array<std::int64_t>> found;
  for (const auto& [block_size, config] : tiles) {
    found.push_back(
        {block_size, config.thread_k, config.thread_n, config.threads, config.blocks_per_sm});
  }
  return found;
}

// The name of the GPU that weights are on.
static ffi::String device_name(ffi::AnyView weights) {
  cudaDeviceProp properties = {};
  const int device = to_weights("weights", weights)->b.tensor->device.device_id;
  check(cuda_status(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties"));
  return properties.name;
}

static int block_size_for(ffi::AnyView m, ffi::AnyView num_experts, ffi::AnyView top_k,
                          ffi::AnyView a_type) {
  const auto positive = [](const char* name, ffi::AnyView given, int least) {
    const int number = to_int(name, given);
    if (number < least) refuse(name, std::to_string(number), std::to_string(least) + " or more");
    return number;
  };
  return moe_gemm_block_size(positive("m", m, 0), positive("num_experts", num_experts, 1),
                             positive("top_k", top_k, 1), to_type("a_type", a_type));
}

}  // namespace binding
}  // namespace marlin_moe

TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_gemm, marlin_moe::binding::moe_gemm_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_gemm_choose_config, marlin_moe::binding::choose_config)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(device_name, marlin_moe::binding::device_name)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_gemm_tiles, marlin_moe::binding::gemm_tiles)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_gemm_block_size, marlin_moe::binding::block_size_for)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(clear_workspaces, marlin_moe::binding::clear_workspaces)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(set_empty, marlin_moe::binding::set_empty)
