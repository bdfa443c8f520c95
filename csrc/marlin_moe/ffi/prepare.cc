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

// A number, or what None stands for.
static int to_int_or(const char* name, ffi::AnyView given, int otherwise) {
  return given == nullptr ? otherwise : to_int(name, given);
}

// What the sizes of a result that is larger than its source are called.
static constexpr const char* kPaddedN = "padded.n";
static constexpr const char* kPaddedK = "padded.k";
static constexpr const char* kPaddedGroups = "padded.num_groups";

// Refuses a source without elements, whose sizes would stand for those of the result.
static void check_not_empty(const char* name, const Operand& source) {
  if (source.elements() == 0) refuse(name, "a tensor without elements", "one that has some");
}

// Matrices side by side in n.
static int to_parts(ffi::AnyView given) {
  const int parts = to_int("column_parts", given);
  if (parts < 1) refuse("column_parts", std::to_string(parts), "1 or more");
  return parts;
}

// Sets a shape's sizes from those of the source and the larger ones of the result, if there are.
static void set_sizes(int source_n, int source_k, ffi::AnyView n, ffi::AnyView k,
                      ffi::AnyView column_parts, WeightShape* shape) {
  shape->source_n = source_n;
  shape->source_k = source_k;
  shape->n = to_int_or(kPaddedN, n, source_n);
  shape->k = to_int_or(kPaddedK, k, source_k);
  shape->column_parts = to_parts(column_parts);
}

static Output take_packed(Call& call, ffi::AnyView out, const WeightShape& shape) {
  const std::int64_t words = static_cast<std::int64_t>(shape.n) * shape.b_type.size_bits() / 2;
  return take_output(call, "out", out, {kInt32, kUint32}, {shape.num_experts, shape.k / 16, words},
                     "[num_experts, k / 16, n * bits / 2]");
}

static ffi::Optional<ffi::Tensor> repack_gptq_(ffi::AnyView qweight, ffi::AnyView b_type,
                                               ffi::AnyView a_type, ffi::AnyView perm,
                                               ffi::AnyView n, ffi::AnyView k,
                                               ffi::AnyView column_parts, ffi::AnyView out) {
  RepackGptqArgs args;
  args.shape = to_types(a_type, b_type);
  const Operand source = take("qweight", qweight, {kInt32, kUint32}, {kAny, kAny, kAny},
                              "[num_experts, k * bits / 32, n]");
  Call call("qweight", source);
  check_not_empty("qweight", source);
  args.shape.num_experts = source.size(0);
  set_sizes(source.size(2), source.size(1) * 32 / args.shape.b_type.size_bits(), n, k, column_parts,
            &args.shape);
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

// Takes the zero points of the groups that the source's rows are in.
static Operand take_zero_points(const Call& call, ffi::AnyView qzeros, ffi::AnyView num_groups,
                                RepackAwqArgs* args) {
  const WeightShape& shape = args->shape;
  const bool padded = shape.b_type == types::kU4 && shape.k != shape.source_k;
  if (qzeros == nullptr) return {};
  if (shape.a_type != types::kFE4M3fn && !padded) {
    refuse("qzeros", describe(qzeros),
           "None: zero points change weights beside a_type kFE4M3fn and padded rows of kU4 only; "
           "elsewhere permute_zero_points() takes them");
  }
  const int groups = to_int_or(kPaddedGroups, num_groups, 0);
  const int rows = groups > 0 ? shape.k / groups : 0;
  const std::int64_t own = rows > 0 ? (shape.source_k + rows - 1) / rows : kAny;
  const Operand zeros =
      take("qzeros", qzeros, {kInt32, kUint32}, {shape.num_experts, own, shape.source_n / 8},
           "[num_experts, num_groups, n / 8]");
  args->num_groups = groups > 0 ? groups : zeros.size(1);
  return call.here("qzeros", zeros);
}

static ffi::Optional<ffi::Tensor> repack_awq_(ffi::AnyView qweight, ffi::AnyView b_type,
                                              ffi::AnyView a_type, ffi::AnyView qzeros,
                                              ffi::AnyView n, ffi::AnyView k,
                                              ffi::AnyView num_groups, ffi::AnyView column_parts,
                                              ffi::AnyView out) {
  RepackAwqArgs args;
  args.shape = to_types(a_type, b_type);
  const Operand source = take("qweight", qweight, {kInt32, kUint32}, {kAny, kAny, kAny},
                              "[num_experts, k, n * bits / 32]");
  Call call("qweight", source);
  check_not_empty("qweight", source);
  args.shape.num_experts = source.size(0);
  set_sizes(source.size(2) * 32 / args.shape.b_type.size_bits(), source.size(1), n, k, column_parts,
            &args.shape);
  args.qweight = source.data();
  args.qzeros = take_zero_points(call, qzeros, num_groups, &args).data();
  const Output result = take_packed(call, out, args.shape);
  args.out = result.operand.data();
  args.stream = call.stream();
  check(repack_awq(args));
  return result.made;
}

static ffi::Optional<ffi::Tensor> repack_rows_(ffi::AnyView weights, ffi::AnyView b_type,
                                               ffi::AnyView a_type, ffi::AnyView n, ffi::AnyView k,
                                               ffi::AnyView column_parts, ffi::AnyView out) {
  RepackRowsArgs args;
  args.shape = to_types(a_type, b_type);
  const Operand source = take("weights", weights, {kUint8, kInt8, kFp8, kFp4Pair},
                              {kAny, kAny, kAny}, "[num_experts, n, k * bits / 8]");
  Call call("weights", source);
  check_not_empty("weights", source);
  args.shape.num_experts = source.size(0);
  set_sizes(source.size(1), source.size(2) * 8 / args.shape.b_type.size_bits(), n, k, column_parts,
            &args.shape);
  args.weights = source.data();
  const Output result = take_packed(call, out, args.shape);
  args.out = result.operand.data();
  args.stream = call.stream();
  check(repack_rows(args));
  return result.made;
}

static ffi::Array<std::int64_t> padded_shape_(ffi::AnyView n, ffi::AnyView k, ffi::AnyView b_type,
                                              ffi::AnyView group_size, ffi::AnyView a_type) {
  WeightShape shape = to_types(a_type, b_type);
  shape.n = to_int("n", n);
  shape.k = to_int("k", k);
  PaddedShape padded;
  check(padded_shape(shape, to_int("group_size", group_size), &padded));
  return {padded.n, padded.k, padded.num_groups};
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

// Sets the types of scales and of the GEMM's result: 16-bit scales have the latter and tell it, and
// float32 ones become it.
static void set_scale_types(const Operand& source, ffi::AnyView c_type, ffi::AnyView s_type,
                            PermuteScalesArgs* args) {
  args->c_type = c_type == nullptr ? types::kBFloat16 : to_type("c_type", c_type);
  args->float32_scales = source.dtype() == kFloat;
  if (args->float32_scales) {
    args->s_type = s_type == nullptr ? args->c_type : to_type("s_type", s_type);
    args->float32_scales = args->s_type.size_bits() == 16;
  } else {
    args->s_type = type_of("s_type", s_type, "scales", source.dtype());
  }
  if (!args->float32_scales) check_holds("scales", source, args->s_type);
  if (c_type == nullptr && args->s_type.size_bits() == 16) args->c_type = args->s_type;
}

// Sets the sizes of scales: those of the source, of which a row has a scale for each block of
// columns of each part, and those of the result.
static void set_scale_sizes(const Operand& source, ffi::AnyView n, ffi::AnyView padded_n,
                            ffi::AnyView num_groups, PermuteScalesArgs* args) {
  const int in_row = source.size(args->columns_first ? 1 : 2);
  const std::int64_t per_scale = args->columns_per_scale;
  const std::int64_t parts = args->column_parts;
  if (per_scale < 1) refuse("columns_per_scale", std::to_string(per_scale), "1 or more");
  const std::int64_t own = n == nullptr ? in_row * per_scale : to_int("n", n);
  const std::int64_t expected = (own / parts + per_scale - 1) / per_scale * parts;
  if (own < 1 || own > 1 << 20 || own % parts != 0) {
    refuse("n", std::to_string(own), "a multiple of column_parts from 1 to 1048576");
  }
  if (expected != in_row) {
    refuse("scales", std::to_string(in_row) + " in a row",
           std::to_string(expected) + ": with column_parts = " + std::to_string(parts) +
               ", one for " + std::to_string(per_scale) + " of n = " + std::to_string(own) +
               " columns");
  }
  args->num_experts = source.size(0);
  args->source_n = static_cast<int>(own);
  args->source_groups = source.size(args->columns_first ? 2 : 1);
  args->n = to_int_or(kPaddedN, padded_n, args->source_n);
  args->num_groups = to_int_or(kPaddedGroups, num_groups, args->source_groups);
}

static ffi::Array<ffi::Optional<ffi::Tensor>> permute_scales_(
    ffi::AnyView scales, ffi::AnyView b_type, ffi::AnyView group_size, ffi::AnyView a_type,
    ffi::AnyView c_type, ffi::AnyView s_type, ffi::AnyView columns_first,
    ffi::AnyView columns_per_scale, ffi::AnyView n, ffi::AnyView padded_n, ffi::AnyView num_groups,
    ffi::AnyView column_parts, ffi::AnyView out, ffi::AnyView global_scales) {
  PermuteScalesArgs args;
  args.a_type = to_type("a_type", a_type);
  args.b_type = to_type("b_type", b_type);
  args.group_size = to_int("group_size", group_size);
  args.columns_first = to_bool("columns_first", columns_first);
  args.columns_per_scale = to_int("columns_per_scale", columns_per_scale);
  args.column_parts = to_parts(column_parts);
  const Operand source =
      take("scales", scales, {}, {kAny, kAny, kAny},
           args.columns_first ? "[num_experts, n, num_groups]" : "[num_experts, num_groups, n]");
  Call call("scales", source);
  check_not_empty("scales", source);
  set_scale_types(source, c_type, s_type, &args);
  set_scale_sizes(source, n, padded_n, num_groups, &args);
  args.scales = source.data();
  const DLDataType own = own_dtype(args.s_type);
  const Output result =
      take_output(call, "out.scales", out, {args.float32_scales ? own : source.dtype(), own},
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

static ffi::Optional<ffi::Tensor> permute_bias_(ffi::AnyView bias, ffi::AnyView n,
                                                ffi::AnyView column_parts, ffi::AnyView out) {
  const Operand source = take("bias", bias, {kHalf, kBfloat, {kDLInt, 16, 1}, {kDLUInt, 16, 1}},
                              {kAny, kAny}, "[num_experts, n]");
  Call call("bias", source);
  check_not_empty("bias", source);
  PermuteBiasArgs args;
  args.num_experts = source.size(0);
  args.source_n = source.size(1);
  args.n = to_int_or(kPaddedN, n, args.source_n);
  args.column_parts = to_parts(column_parts);
  args.bias = source.data();
  const Output result = take_output(call, "out", out, {source.dtype()}, {args.num_experts, args.n},
                                    "[num_experts, n]");
  args.out = result.operand.data();
  args.stream = call.stream();
  check(permute_bias(args));
  return result.made;
}

static ffi::Optional<ffi::Tensor> permute_zero_points_(ffi::AnyView qzeros, ffi::AnyView a_type,
                                                       ffi::AnyView n, ffi::AnyView num_groups,
                                                       ffi::AnyView column_parts,
                                                       ffi::AnyView out) {
  const char* layout = "[num_experts, num_groups, n / 8]";
  const Operand source = take("qzeros", qzeros, {kInt32, kUint32}, {kAny, kAny, kAny}, layout);
  Call call("qzeros", source);
  check_not_empty("qzeros", source);
  PermuteZeroPointsArgs args;
  args.num_experts = source.size(0);
  args.source_groups = source.size(1);
  args.source_n = source.size(2) * 8;
  args.num_groups = to_int_or(kPaddedGroups, num_groups, args.source_groups);
  args.n = to_int_or(kPaddedN, n, args.source_n);
  args.column_parts = to_parts(column_parts);
  args.a_type = to_type("a_type", a_type);
  args.qzeros = source.data();
  const Output result = take_output(call, "out", out, {kInt32, kUint32},
                                    {args.num_experts, args.num_groups, args.n / 8}, layout);
  args.out = result.operand.data();
  args.stream = call.stream();
  check(permute_zero_points(args));
  return result.made;
}

}  // namespace binding
}  // namespace marlin_moe

TVM_FFI_DLL_EXPORT_TYPED_FUNC(padded_shape, marlin_moe::binding::padded_shape_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(repack_gptq, marlin_moe::binding::repack_gptq_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(repack_awq, marlin_moe::binding::repack_awq_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(repack_rows, marlin_moe::binding::repack_rows_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(sort_rows_by_group, marlin_moe::binding::sort_rows_by_group_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(permute_scales, marlin_moe::binding::permute_scales_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(scale_global_scales, marlin_moe::binding::scale_global_scales_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(permute_bias, marlin_moe::binding::permute_bias_)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(permute_zero_points, marlin_moe::binding::permute_zero_points_)
