// What a layer does to activations around its GEMMs.
#include "activations.h"

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/function.h>

#include <string>
#include <utility>

#include "call.h"
#include "marlin_moe/host/arguments.h"

namespace marlin_moe {
namespace binding {

namespace types = MARLIN_TYPE_NAMESPACE;

static ffi::Array<ffi::Optional<ffi::Tensor>> quantize_activations_(ffi::AnyView x,
                                                                    ffi::AnyView out_type,
                                                                    ffi::AnyView factor,
                                                                    ffi::AnyView values,
                                                                    ffi::AnyView scales) {
  const Operand source = take("x", x, {kHalf, kBfloat}, {kAny, kAny}, "[m, k]", Rows::kStrided);
  Call call("x", source);
  QuantizeActivationsArgs args;
  args.m = source.size(0);
  args.k = source.size(1);
  args.x_type = type_of("x_type", nullptr, "x", source.dtype());
  args.out_type = to_type("out_type", out_type);
  check(check_type("out_type", args.out_type, {types::kS8, types::kFE4M3fn}));
  args.x = source.data();
  args.x_stride = source.row_stride();
  args.factor = call.here("factor", take_optional("factor", factor, {kFloat}, {1}, "(1,)"))
                    .data_as<const float>();
  const DLDataType own = own_dtype(args.out_type);
  // Not every framework can export a float8 tensor.
  const DLDataType bytes = args.out_type == types::kS8 ? own : kUint8;
  const Output quantised =
      take_output(call, "out.values", values, {bytes, own}, {args.m, args.k}, "[m, k]");
  const Output factors = take_output(call, "out.scales", scales, {kFloat}, {args.m}, "(m,)");
  args.out = quantised.operand.data();
  args.scales = factors.operand.data_as<float>();
  args.stream = call.stream();
  check(quantize_activations(args));
  return {quantised.made, factors.made};
}

// A parameter of kSwigluOai, which others do not have.
static void take_parameter(const char* name, ffi::AnyView given, Activation activation,
                           float* parameter) {
  if (given == nullptr) return;
  if (activation != Activation::kSwigluOai) {
    refuse(name, describe(given), "None: a number goes with activation swigluoai only");
  }
  *parameter = to_positive(name, given);
}

std::optional<ActAndMulArgs> take_activation(ffi::AnyView activation, ffi::AnyView interleaved,
                                             ffi::AnyView alpha, ffi::AnyView limit,
                                             bool optional) {
  static constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"silu", Activation::kSilu},
      {"gelu", Activation::kGelu},
      {"gelu_tanh", Activation::kGeluTanh},
      {"swigluoai", Activation::kSwigluOai}};
  const auto text = activation.as<ffi::String>();
  const std::string_view given = text ? std::string_view(text->data(), text->size()) : "";
  if (optional && given == "none") {
    for (const auto& [name, value] : {std::pair{"alpha", alpha}, {"limit", limit}}) {
      take_parameter(name, value, Activation::kSilu, nullptr);
    }
    if (to_bool("interleaved", interleaved)) {
      refuse("interleaved", "True", "False: without an activation there are no gates");
    }
    return {};
  }
  std::string names = optional ? "none" : "";
  for (const auto& [name, number] : kNames) {
    if (given != name) {
      names += (names.empty() ? "" : ", ") + std::string(name);
      continue;
    }
    ActAndMulArgs args;
    args.activation = number;
    args.interleaved = to_bool("interleaved", interleaved);
    take_parameter("alpha", alpha, number, &args.alpha);
    take_parameter("limit", limit, number, &args.limit);
    return args;
  }
  refuse("activation", describe(activation), names);
}

static ffi::Optional<ffi::Tensor> act_and_mul_(ffi::AnyView x, ffi::AnyView activation,
                                               ffi::AnyView interleaved, ffi::AnyView alpha,
                                               ffi::AnyView limit, ffi::AnyView out) {
  ActAndMulArgs args = *take_activation(activation, interleaved, alpha, limit, false);
  const Operand source = take("x", x, {kHalf, kBfloat}, {kAny, kAny}, "[m, 2 * n]");
  Call call("x", source);
  if (source.size(1) % 2 != 0) {
    refuse("x", std::to_string(source.size(1)) + " columns", "[m, 2 * n], an even number");
  }
  args.m = source.size(0);
  args.n = source.size(1) / 2;
  args.type = type_of("type", nullptr, "x", source.dtype());
  args.x = source.data();
  const Output result = take_output(call, "out", out, {source.dtype()}, {args.m, args.n}, "[m, n]");
  args.out = result.operand.data();
  args.stream = call.stream();
  check(act_and_mul(args));
  return result.made;
}

static ffi::Optional<ffi::Tensor> topk_sum_(ffi::AnyView x, ffi::AnyView top_k,
                                            ffi::AnyView topk_ids, ffi::AnyView num_experts,
                                            ffi::AnyView expert_map, ffi::AnyView out) {
  const Operand source = take("x", x, {kHalf, kBfloat}, {kAny, kAny}, "[m * top_k, n]");
  Call call("x", source);
  const int rows = source.size(0);
  TopkSumArgs args;
  args.top_k = to_int("top_k", top_k);
  if (args.top_k < 1 || rows % args.top_k != 0) {
    refuse("top_k", std::to_string(args.top_k),
           "a divisor of the " + std::to_string(rows) + " rows of x");
  }
  args.m = rows / args.top_k;
  args.n = source.size(1);
  args.type = type_of("type", nullptr, "x", source.dtype());
  args.x = source.data();
  args.num_experts = to_int("num_experts", num_experts);
  if (topk_ids == nullptr && (args.num_experts != 0 || expert_map != nullptr)) {
    refuse("topk_ids", "None", "int32 [m, top_k], which num_experts and expert_map are about");
  }
  if (topk_ids != nullptr) {
    const Operand ids = take_elements("topk_ids", topk_ids, kInt32, rows, "one for a row of x");
    args.topk_ids = call.here("topk_ids", ids).data_as<const int>();
  }
  args.expert_map = call.here("expert_map", take_optional("expert_map", expert_map, {kInt32},
                                                          {args.num_experts}, "(num_experts,)"))
                        .data_as<const int>();
  const Output result = take_output(call, "out", out, {source.dtype()}, {args.m, args.n}, "[m, n]");
  args.out = result.operand.data();
  args.stream = call.stream();
  check(topk_sum(args));
  return result.made;
}

}  // namespace binding
}  // namespace marlin_moe

TVM_FFI_DLL_EXPORT_TYPED_FUNC(quantize_activations, marlin_moe::binding::quantize_activations_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(act_and_mul, marlin_moe::binding::act_and_mul_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(topk_sum, marlin_moe::binding::topk_sum_)
