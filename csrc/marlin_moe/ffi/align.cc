// Tokens sorted by expert.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/function.h>

#include "call.h"
#include "marlin_moe/moe_align.h"

namespace marlin_moe {
namespace binding {

// A list of int32 in an output; null where the caller gave it.
static ffi::Optional<ffi::Tensor> take_list(Call& call, const char* name, ffi::AnyView given,
                                            std::int64_t length, const char* layout, int** data) {
  const Output output = take_output(call, name, given, {kInt32}, {length}, layout);
  *data = output.operand.data_as<int>();
  return output.made;
}

static ffi::Array<ffi::Optional<ffi::Tensor>> moe_align_(
    ffi::AnyView topk_ids, ffi::AnyView num_experts, ffi::AnyView block_size,
    ffi::AnyView expert_map, ffi::AnyView drop_remote, ffi::AnyView sorted_token_ids,
    ffi::AnyView expert_ids, ffi::AnyView num_tokens_past_padded) {
  const Operand ids = take_elements("topk_ids", topk_ids, kInt32, kAny, "[m, top_k]");
  Call call("topk_ids", ids);
  MoeAlignArgs args;
  args.num_ids = static_cast<int>(ids.elements());
  args.num_experts = to_int("num_experts", num_experts);
  args.block_size = to_int("block_size", block_size);
  args.drop_remote = to_bool("drop_remote", drop_remote);
  std::size_t bytes = 0;
  check(moe_align_workspace_size(args, &bytes));  // checks the numbers
  args.topk_ids = ids.data_as<const int>();
  args.expert_map = call.here("expert_map", take_optional("expert_map", expert_map, {kInt32},
                                                          {args.num_experts}, "(num_experts,)"))
                        .data_as<const int>();
  const std::int64_t capacity = moe_align_capacity(args.num_ids, args.num_experts, args.block_size);
  const ffi::Array<ffi::Optional<ffi::Tensor>> made = {
      take_list(call, "out.sorted_token_ids", sorted_token_ids, capacity, "(capacity,)",
                &args.sorted_token_ids),
      take_list(call, "out.expert_ids", expert_ids, capacity / args.block_size,
                "(capacity / block_size,)", &args.expert_ids),
      take_list(call, "out.num_tokens_past_padded", num_tokens_past_padded, 1, "(1,)",
                &args.num_tokens_past_padded)};
  ffi::Optional<ffi::Tensor> scratch;
  if (bytes > 0) {
    scratch = call.scratch(static_cast<std::int64_t>(bytes));
    args.workspace = Operand{scratch.value().GetDLTensorPtr()}.data();
    args.workspace_bytes = bytes;
  }
  args.stream = call.stream();
  check(moe_align(args));
  return made;
}

static std::int64_t capacity_for(ffi::AnyView num_ids, ffi::AnyView num_experts,
                                 ffi::AnyView block_size) {
  MoeAlignArgs args;
  args.num_ids = to_int("num_ids", num_ids);
  args.num_experts = to_int("num_experts", num_experts);
  args.block_size = to_int("block_size", block_size);
  std::size_t bytes = 0;
  check(moe_align_workspace_size(args, &bytes));  // checks the numbers
  return moe_align_capacity(args.num_ids, args.num_experts, args.block_size);
}

}  // namespace binding
}  // namespace marlin_moe

TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_align, marlin_moe::binding::moe_align_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(alignment_capacity, marlin_moe::binding::capacity_for)
