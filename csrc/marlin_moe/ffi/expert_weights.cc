#include "expert_weights.h"

#include <tvm/ffi/function.h>

#include "marlin_moe/host/arguments.h"

namespace marlin_moe {
namespace binding {

namespace types = MARLIN_TYPE_NAMESPACE;

// Takes the tensors of one set of weights and keeps them.
class WeightsTaker {
 public:
  explicit WeightsTaker(ExpertWeightsObj* weights) : weights_(weights) {}

  // Takes a tensor if there is one; all are on one device and aligned for the kernels.
  Operand optional(const char* name, ffi::AnyView given, Dtypes dtypes, Dimensions dimensions,
                   const char* layout, std::uintptr_t alignment = 16) {
    const Operand operand = take_optional(name, given, dtypes, dimensions, layout);
    if (!operand) return operand;
    check(check_pointer(name, operand.data(), alignment));
    const auto owned = given.as<ffi::Tensor>();
    if (!owned) refuse(name, "a borrowed tensor", "one that owns its memory");
    weights_->owners.push_back(*owned);
    const Operand& first = weights_->owners.size() == 1 ? operand : weights_->b;
    return Call("b", first).here(name, operand);
  }

  Operand needed(const char* name, ffi::AnyView given, Dtypes dtypes, Dimensions dimensions,
                 const char* layout) {
    if (given == nullptr) refuse(name, "None", layout);
    return optional(name, given, dtypes, dimensions, layout);
  }

  // Takes a tensor where the weights' types ask for one, and refuses it elsewhere.
  Operand where(bool wanted, const char* when, const char* name, ffi::AnyView given, Dtypes dtypes,
                Dimensions dimensions, const char* layout, std::uintptr_t alignment = 16) {
    if (wanted && given == nullptr) refuse(name, "None", std::string(layout) + ": needed " + when);
    if (!wanted && given != nullptr) {
      refuse(name, describe(given), std::string("None: a tensor goes ") + when + " only");
    }
    return optional(name, given, dtypes, dimensions, layout, alignment);
  }

 private:
  ExpertWeightsObj* weights_;
};

static void take_types(ffi::AnyView b_type, ffi::AnyView a_type, MoeGemmArgs* args) {
  args->b_type = to_type("b_type", b_type);
  check(check_type("b_type", args->b_type,
                   {types::kU4, types::kU4B8, types::kU8B128, types::kFE4M3fn, types::kFE2M1f}));
  args->a_type = a_type == nullptr ? types::kBFloat16 : to_type("a_type", a_type);
  check(check_type("a_type", args->a_type,
                   {types::kFloat16, types::kBFloat16, types::kS8, types::kFE4M3fn}));
}

// The type of results: that of 16-bit scales, bfloat16 for MXFP4; NVFP4's global scales have been
// prepared for one that cannot be told from them.
static void take_c_type(ffi::AnyView given, MoeGemmArgs* args) {
  const bool told = args->s_type.size_bits() == 16;
  if (given == nullptr && args->s_type == types::kFE4M3fn) {
    refuse("c_type", "None", "kFloat16, kBFloat16: the one that scale_global_scales() was given");
  }
  args->c_type = given != nullptr ? to_type("c_type", given)
                 : told           ? args->s_type
                                  : types::kBFloat16;
  if (told) {
    check(check_type("c_type", args->c_type, {args->s_type}));
  } else {
    check(check_type("c_type", args->c_type, {types::kFloat16, types::kBFloat16}));
  }
}

// Takes what an expert's scales are multiplied by: NVFP4 has it always, weights for S8 activations
// may have it.
static void take_multipliers(WeightsTaker* taker, const MoeGemmArgs& shape,
                             ffi::AnyView global_scales, MoeGemmArgs* args) {
  const bool nvfp4 = shape.s_type == types::kFE4M3fn;
  const bool given = shape.a_type == types::kS8 && global_scales != nullptr;
  args->global_scales =
      taker
          ->where(nvfp4 || given, "with s_type kFE4M3fn or a_type kS8", "global_scales",
                  global_scales, {kFloat}, {shape.num_experts}, "(num_experts,)", 4)
          .data_as<const float>();
}

static void take_extras(WeightsTaker* taker, const MoeGemmArgs& shape, ffi::AnyView zero_points,
                        ffi::AnyView global_scales, ffi::AnyView bias, ffi::AnyView g_idx,
                        ffi::AnyView perm, MoeGemmArgs* args) {
  const int experts = shape.num_experts, n = shape.n, k = shape.k;
  const bool act_order = shape.group_size == kGroupSizeActOrder;
  const char* beside_act_order = "with group_size 0 (act-order)";
  args->zero_points =
      taker
          ->where(shape.b_type == types::kU4, "with b_type kU4", "zero_points", zero_points,
                  {kInt32, kUint32}, {experts, shape.num_groups, n / 8},
                  "[num_experts, num_groups, n / 8]")
          .data();
  take_multipliers(taker, shape, global_scales, args);
  const Operand added = taker->optional("bias", bias, {}, {experts, n}, "[num_experts, n]");
  if (added) check_holds("bias", added, shape.c_type);
  args->bias = added.data();
  args->g_idx = taker
                    ->where(act_order, beside_act_order, "g_idx", g_idx, {kInt32}, {experts, k},
                            "[num_experts, k]")
                    .data_as<const int>();
  args->perm = taker
                   ->where(act_order, beside_act_order, "perm", perm, {kInt32}, {experts, k},
                           "[num_experts, k]")
                   .data_as<const int>();
}

static ffi::ObjectRef expert_weights(ffi::AnyView b, ffi::AnyView scales, ffi::AnyView b_type,
                                     ffi::AnyView group_size, ffi::AnyView a_type,
                                     ffi::AnyView c_type, ffi::AnyView s_type,
                                     ffi::AnyView zero_points, ffi::AnyView global_scales,
                                     ffi::AnyView bias, ffi::AnyView g_idx, ffi::AnyView perm,
                                     ffi::AnyView a_factor) {
  auto weights = ffi::make_object<ExpertWeightsObj>();
  MoeGemmArgs& args = weights->args;
  WeightsTaker taker(weights.get());
  take_types(b_type, a_type, &args);
  args.group_size = to_int("group_size", group_size);
  weights->b = taker.needed("b", b, {kInt32, kUint32}, {kAny, kAny, kAny},
                            "[num_experts, k / 16, n * bits / 2]");
  args.b = weights->b.data();
  args.num_experts = weights->b.size(0);
  args.k = weights->b.size(1) * 16;
  args.n = weights->b.size(2) * 2 / args.b_type.size_bits();
  const Operand factors = taker.needed("scales", scales, {}, {args.num_experts, kAny, args.n},
                                       "[num_experts, num_groups, n], as b has");
  args.s_type = type_of("s_type", s_type, "scales", factors.dtype());
  check_holds("scales", factors, args.s_type);
  args.scales = factors.data();
  args.num_groups = factors.size(1);
  take_c_type(c_type, &args);
  if (a_type == nullptr) args.a_type = args.c_type;
  take_extras(&taker, args, zero_points, global_scales, bias, g_idx, perm, &args);
  const bool scaled = args.a_type == types::kS8 && args.group_size > 0;
  weights->a_factor = taker
                          .where(scaled && a_factor != nullptr, "with a_type kS8 and groups",
                                 "a_factor", a_factor, {kFloat}, {1}, "(1,)", 4)
                          .data_as<const float>();
  if (scaled && args.num_groups > 1 && args.global_scales == nullptr &&
      weights->a_factor == nullptr) {
    refuse(
        "global_scales", "None",
        "(num_experts,), which permute_scales() returned with the scales: needed with a_type kS8 "
        "and groups, unless there is an a_factor");
  }
  return ffi::ObjectRef(weights);
}

ffi::ObjectPtr<ExpertWeightsObj> to_weights(const char* name, ffi::AnyView given) {
  if (const auto reference = given.as<ffi::ObjectRef>()) {
    if (const auto* found = reference->as<ExpertWeightsObj>()) {
      return ffi::GetObjectPtr<ExpertWeightsObj>(const_cast<ExpertWeightsObj*>(found));
    }
  }
  refuse(name, describe(given), "an ExpertWeights");
}

ScalarType activation_type(const ExpertWeightsObj& weights, ffi::AnyView named, const Operand& a) {
  const ScalarType given = type_of("a_type", named, "a", a.dtype());
  check_holds("a", a, given);
  if (given == weights.args.a_type) return given;
  refuse("a_type", type_name(given),
         type_name(weights.args.a_type) + ", which the weights were prepared for");
}

}  // namespace binding
}  // namespace marlin_moe

TVM_FFI_DLL_EXPORT_TYPED_FUNC(expert_weights, marlin_moe::binding::expert_weights)
