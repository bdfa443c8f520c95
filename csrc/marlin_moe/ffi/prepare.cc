// Weights of checkpoints into the layouts that the GEMM reads.
#include "marlin_moe/prepare.h"

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/function.h>

#include <string>

#include "call.h"
#include "marlin_moe/host/arguments.h"

namespace marlin_moe {
namespace binding {

namespace types = MARLIN_TYPE_NAMESPACE;

static constexpr DLDataType kInt8{kDLInt, 8, 1};
static constexpr DLDataType kFp8{kDLFloat8_e4m3fn, 8, 1};
static constexpr DLDataType kFp4Pair{kDLFloat4_e2m1fn, 4, 2};

// The types that a layout is made for.
static WeightShape to_types(ffi::AnyView a_type, ffi::AnyView b_type) {
  WeightShape shape;
  shape.a_type = to_type("a_type", a_type);
  shape.b_type = to_type("b_type", b_type);
  return shape;
}

static Output take_packed(Call& call, ffi::AnyView out, const WeightShape& shape) {
  const std::int64_t words = static_cast<std::int64_t>(shape.n) * shape.b_type.size_bits() / 2;
  return take_output(call, "out", out, {kInt32, kUint32}, {shape.num_experts, shape.k / 16, words},
                     "[num_experts, k / 16, n * bits / 2]");
}

static ffi::Optional<ffi::Tensor> repack_gptq_(ffi::AnyView qweight, ffi::AnyView b_type,
                                               ffi::AnyView a_type, ffi::AnyView perm,
                                               ffi::AnyView out) {
  RepackGptqArgs args;
  args.shape = to_types(a_type, b_type);
  const Operand source = take("qweight", qweight, {kInt32, kUint32}, {kAny, kAny, kAny},
                              "[num_experts, k * bits / 32, n]");
  Call call("qweight", source);
  args.shape.num_experts = source.size(0);
  args.shape.k = source.size(1) * 32 / args.shape.b_type.size_bits();
  args.shape.n = source.size(2);
  args.qweight = source.data();
  args.perm =
      call.here("perm", take_optional("perm", perm, {kInt32},
                                      {args.shape.num_experts, args.shape.k}, "[num_experts, k]"))
          .data_as<const int>();
  const Output result = take_packed(call, out, args.shape);
  args.out = result.operand.data();
  args.stream = call.stream();
  check(repack_gptq(args));
  return result.made;
}

static ffi::Optional<ffi::Tensor> repack_awq_(ffi::AnyView qweight, ffi::AnyView b_type,
                                              ffi::AnyView a_type, ffi::AnyView qzeros,
                                              ffi::AnyView out) {
  RepackAwqArgs args;
  args.shape = to_types(a_type, b_type);
  const Operand source = take("qweight", qweight, {kInt32, kUint32}, {kAny, kAny, kAny},
                              "[num_experts, k, n * bits / 32]");
  Call call("qweight", source);
  if (qzeros != nullptr && args.shape.a_type != types::kFE4M3fn) {
    refuse("qzeros", describe(qzeros),
           "None: zero points change weights beside a_type kFE4M3fn only; elsewhere "
           "permute_zero_points() takes them");
  }
  args.shape.num_experts = source.size(0);
  args.shape.k = source.size(1);
  args.shape.n = source.size(2) * 32 / args.shape.b_type.size_bits();
  args.qweight = source.data();
  const Operand zeros =
      call.here("qzeros", take_optional("qzeros", qzeros, {kInt32, kUint32},
                                        {args.shape.num_experts, kAny, args.shape.n / 8},
                                        "[num_experts, num_groups, n / 8]"));
  args.qzeros = zeros.data();
  args.num_groups = zeros ? zeros.size(1) : 0;
  const Output result = take_packed(call, out, args.shape);
  args.out = result.operand.data();
  args.stream = call.stream();
  check(repack_awq(args));
  return result.made;
}

static ffi::Optional<ffi::Tensor> repack_rows_(ffi::AnyView weights, ffi::AnyView b_type,
                                               ffi::AnyView a_type, ffi::AnyView out) {
  RepackRowsArgs args;
  args.shape = to_types(a_type, b_type);
  const Operand source = take("weights", weights, {kUint8, kInt8, kFp8, kFp4Pair},
                              {kAny, kAny, kAny}, "[num_experts, n, k * bits / 8]");
  Call call("weights", source);
  args.shape.num_experts = source.size(0);
  args.shape.n = source.size(1);
  args.shape.k = source.size(2) * 8 / args.shape.b_type.size_bits();
  args.weights = source.data();
  const Output result = take_packed(call, out, args.shape);
  args.out = result.operand.data();
  args.stream = call.stream();
  check(repack_rows(args));
  return result.made;
}

static ffi::Array<ffi::Optional<ffi::Tensor>> sort_rows_by_group_(ffi::AnyView g_idx,
                                                                  ffi::AnyView perm,
                                                                  ffi::AnyView sorted_g_idx) {
  const Operand source = take("g_idx", g_idx, {kInt32}, {kAny, kAny}, "[num_experts, k]");
  Call call("g_idx", source);
  SortRowsByGroupArgs args;
  args.num_experts = source.size(0);
  args.k = source.size(1);
  args.g_idx = source.data_as<const int>();
  const Dimensions shape = {args.num_experts, args.k};
  const char* layout = "[num_experts, k], as g_idx has";
  const Output order = take_output(call, "out.perm", perm, {kInt32}, shape, layout);
  const Output groups = take_output(call, "out.g_idx", sorted_g_idx, {kInt32}, shape, layout);
  args.perm = order.operand.data_as<int>();
  args.sorted_g_idx = groups.operand.data_as<int>();
  args.stream = call.stream();
  check(sort_rows_by_group(args));
  return {order.made, groups.made};
}

// The type of the GEMM's result: 16-bit scales have it, and tell it.
static ScalarType result_type(ffi::AnyView given, const ScalarType& s_type) {
  if (given != nullptr) return to_type("c_type", given);
  return s_type.size_bits() == 16 ? s_type : types::kBFloat16;
}

static ffi::Array<ffi::Optional<ffi::Tensor>> permute_scales_(
    ffi::AnyView scales, ffi::AnyView b_type, ffi::AnyView group_size, ffi::AnyView a_type,
    ffi::AnyView c_type, ffi::AnyView s_type, ffi::AnyView columns_first, ffi::AnyView out,
    ffi::AnyView global_scales) {
  PermuteScalesArgs args;
  args.a_type = to_type("a_type", a_type);
  args.b_type = to_type("b_type", b_type);
  args.group_size = to_int("group_size", group_size);
  args.columns_first = to_bool("columns_first", columns_first);
  const Operand source =
      take("scales", scales, {}, {kAny, kAny, kAny},
           args.columns_first ? "[num_experts, n, num_groups]" : "[num_experts, num_groups, n]");
  Call call("scales", source);
  args.s_type = type_of("s_type", s_type, "scales", source.dtype());
  check_holds("scales", source, args.s_type);
  args.c_type = result_type(c_type, args.s_type);
  args.num_experts = source.size(0);
  args.num_groups = source.size(args.columns_first ? 2 : 1);
  args.n = source.size(args.columns_first ? 1 : 2);
  args.scales = source.data();
  const Output result =
      take_output(call, "out.scales", out, {source.dtype(), own_dtype(args.s_type)},
                  {args.num_experts, args.num_groups, args.n}, "[num_experts, num_groups, n]");
  args.out = result.operand.data();
  Output units;
  if (args.a_type == types::kS8 && args.group_size > 0 && args.num_groups > 1) {
    units = take_output(call, "out.global_scales", global_scales, {kFloat}, {args.num_experts},
                        "(num_experts,)");
    args.global_scales = units.operand.data_as<float>();
  } else if (global_scales != nullptr) {
    refuse("out.global_scales", describe(global_scales),
           "None: only a_type kS8 beside several groups has them");
  }
  args.stream = call.stream();
  check(permute_scales(args));
  return {result.made, units.made};
}

static ffi::Optional<ffi::Tensor> scale_global_scales_(ffi::AnyView global_scales,
                                                       ffi::AnyView c_type, ffi::AnyView out) {
  const Operand source = take("global_scales", global_scales, {kFloat}, {kAny}, "(num_experts,)");
  Call call("global_scales", source);
  ScaleGlobalScalesArgs args;
  args.num_experts = source.size(0);
  args.c_type = to_type("c_type", c_type);
  args.global_scales = source.data_as<const float>();
  const Output result =
      take_output(call, "out", out, {kFloat}, {args.num_experts}, "(num_experts,)");
  args.out = result.operand.data_as<float>();
  args.stream = call.stream();
  check(scale_global_scales(args));
  return result.made;
}

static ffi::Optional<ffi::Tensor> permute_bias_(ffi::AnyView bias, ffi::AnyView out) {
  const Operand source = take("bias", bias, {kHalf, kBfloat, {kDLInt, 16, 1}, {kDLUInt, 16, 1}},
                              {kAny, kAny}, "[num_experts, n]");
  Call call("bias", source);
  PermuteBiasArgs args;
  args.num_experts = source.size(0);
  args.n = source.size(1);
  args.bias = source.data();
  const Output result = take_output(call, "out", out, {source.dtype()}, {args.num_experts, args.n},
                                    "[num_experts, n]");
  args.out = result.operand.data();
  args.stream = call.stream();
  check(permute_bias(args));
  return result.made;
}

static ffi::Optional<ffi::Tensor> permute_zero_points_(ffi::AnyView qzeros, ffi::AnyView a_type,
                                                       ffi::AnyView out) {
  const char* layout = "[num_experts, num_groups, n / 8]";
  const Operand source = take("qzeros", qzeros, {kInt32, kUint32}, {kAny, kAny, kAny}, layout);
  Call call("qzeros", source);
  PermuteZeroPointsArgs args;
  args.num_experts = source.size(0);
  args.num_groups = source.size(1);
  args.n = source.size(2) * 8;
  args.a_type = to_type("a_type", a_type);
  args.qzeros = source.data();
  const Output result = take_output(call, "out", out, {kInt32, kUint32},
                                    {args.num_experts, args.num_groups, source.size(2)}, layout);
  args.out = result.operand.data();
  args.stream = call.stream();
  check(permute_zero_points(args));
  return result.made;
}

}  // namespace binding
}  // namespace marlin_moe

TVM_FFI_DLL_EXPORT_TYPED_FUNC(repack_gptq, marlin_moe::binding::repack_gptq_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(repack_awq, marlin_moe::binding::repack_awq_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(repack_rows, marlin_moe::binding::repack_rows_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(sort_rows_by_group, marlin_moe::binding::sort_rows_by_group_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(permute_scales, marlin_moe::binding::permute_scales_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale_global_scales, marlin_moe::binding::scale_global_scales_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(permute_bias, marlin_moe::binding::permute_bias_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(permute_zero_points, marlin_moe::binding::permute_zero_points_)
