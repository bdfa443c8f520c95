// The C interface of preparation, alignment and activations: each struct of marlin_moe.h is turned
// into that of the C++ function, which checks it.
#include "marlin_moe/prepare.h"
#include "marlin_moe/activations.h"
#include "marlin_moe/marlin_moe.h"
#include "marlin_moe/moe_align.h"
#include "support.h"

namespace marlin_moe {

static cudaStream_t to_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

// The fields that the structs of all weights have.
template <class Args>
static Status convert_shape(const Args& from, WeightShape* to) {
  to->num_experts = from.num_experts;
  to->n = from.n;
  to->k = from.k;
  to->source_n = from.source_n;
  to->source_k = from.source_k;
  to->column_parts = from.column_parts;
  const Status status = to_type("a_type", from.a_type, &to->a_type);
  return status.ok() ? to_type("b_type", from.b_type, &to->b_type) : status;
}

static Status convert(const marlin_moe_repack_gptq_args& from, RepackGptqArgs* to) {
  to->qweight = from.qweight;
  to->perm = from.perm;
  to->out = from.out;
  to->stream = to_stream(from.stream);
  return convert_shape(from, &to->shape);
}

static Status convert(const marlin_moe_repack_awq_args& from, RepackAwqArgs* to) {
  to->qweight = from.qweight;
  to->qzeros = from.qzeros;
  to->num_groups = from.num_groups;
  to->out = from.out;
  to->stream = to_stream(from.stream);
  return convert_shape(from, &to->shape);
}

static Status convert(const marlin_moe_repack_rows_args& from, RepackRowsArgs* to) {
  to->weights = from.weights;
  to->out = from.out;
  to->stream = to_stream(from.stream);
  return convert_shape(from, &to->shape);
}

static Status convert(const marlin_moe_sort_rows_by_group_args& from, SortRowsByGroupArgs* to) {
  to->num_experts = from.num_experts;
  to->k = from.k;
  to->g_idx = from.g_idx;
  to->perm = from.perm;
  to->sorted_g_idx = from.sorted_g_idx;
  to->stream = to_stream(from.stream);
  return {};
}

static Status convert(const marlin_moe_permute_scales_args& from, PermuteScalesArgs* to) {
  to->num_experts = from.num_experts;
  to->num_groups = from.num_groups;
  to->n = from.n;
  to->group_size = from.group_size;
  to->source_n = from.source_n;
  to->source_groups = from.source_groups;
  to->column_parts = from.column_parts;
  to->columns_per_scale = from.columns_per_scale;
  to->columns_first = from.columns_first != 0;
  to->float32_scales = from.float32_scales != 0;
  to->scales = from.scales;
  to->out = from.out;
  to->global_scales = from.global_scales;
  to->stream = to_stream(from.stream);
  Status status = to_type("a_type", from.a_type, &to->a_type);
  if (status.ok()) status = to_type("b_type", from.b_type, &to->b_type);
  if (status.ok()) status = to_type("c_type", from.c_type, &to->c_type);
  if (status.ok()) status = to_type("s_type", from.s_type, &to->s_type);
  return status;
}

static Status convert(const marlin_moe_scale_global_scales_args& from, ScaleGlobalScalesArgs* to) {
  to->num_experts = from.num_experts;
  to->global_scales = from.global_scales;
  to->out = from.out;
  to->stream = to_stream(from.stream);
  return to_type("c_type", from.c_type, &to->c_type);
}

static Status convert(const marlin_moe_permute_bias_args& from, PermuteBiasArgs* to) {
  to->num_experts = from.num_experts;
  to->n = from.n;
  to->source_n = from.source_n;
  to->column_parts = from.column_parts;
  to->bias = from.bias;
  to->out = from.out;
  to->stream = to_stream(from.stream);
  return {};
}

static Status convert(const marlin_moe_permute_zero_points_args& from, PermuteZeroPointsArgs* to) {
  to->num_experts = from.num_experts;
  to->num_groups = from.num_groups;
  to->n = from.n;
  to->source_n = from.source_n;
  to->source_groups = from.source_groups;
  to->column_parts = from.column_parts;
  to->qzeros = from.qzeros;
  to->out = from.out;
  to->stream = to_stream(from.stream);
  return to_type("a_type", from.a_type, &to->a_type);
}

static Status convert(const marlin_moe_align_args& from, MoeAlignArgs* to) {
  to->num_ids = from.num_ids;
  to->num_experts = from.num_experts;
  to->block_size = from.block_size;
  to->topk_ids = from.topk_ids;
  to->expert_map = from.expert_map;
  to->drop_remote = from.drop_remote != 0;
  to->sorted_token_ids = from.sorted_token_ids;
  to->expert_ids = from.expert_ids;
  to->num_tokens_past_padded = from.num_tokens_past_padded;
  to->workspace = from.workspace;
  to->workspace_bytes = from.workspace_bytes;
  to->stream = to_stream(from.stream);
  return {};
}

static Status convert(const marlin_moe_quantize_activations_args& from,
                      QuantizeActivationsArgs* to) {
  to->m = from.m;
  to->k = from.k;
  to->x = from.x;
  to->x_stride = from.x_stride;
  to->out = from.out;
  to->scales = from.scales;
  to->factor = from.factor;
  to->stream = to_stream(from.stream);
  const Status status = to_type("x_type", from.x_type, &to->x_type);
  return status.ok() ? to_type("out_type", from.out_type, &to->out_type) : status;
}

static Status convert(const marlin_moe_act_and_mul_args& from, ActAndMulArgs* to) {
  to->m = from.m;
  to->n = from.n;
  to->activation = static_cast<Activation>(from.activation);
  to->interleaved = from.interleaved != 0;
  if (from.alpha != 0.0f) to->alpha = from.alpha;
  if (from.limit != 0.0f) to->limit = from.limit;
  to->x = from.x;
  to->out = from.out;
  to->stream = to_stream(from.stream);
  return to_type("type", from.type, &to->type);
}

static Status convert(const marlin_moe_topk_sum_args& from, TopkSumArgs* to) {
  to->m = from.m;
  to->n = from.n;
  to->top_k = from.top_k;
  to->x = from.x;
  to->out = from.out;
  to->topk_ids = from.topk_ids;
  to->num_experts = from.num_experts;
  to->expert_map = from.expert_map;
  to->stream = to_stream(from.stream);
  return to_type("type", from.type, &to->type);
}

// Checks and converts a struct, and calls `function` with it and `more`.
template <class From, class To, class... Parameters, class... More>
static int call(const From* from, Status (*function)(const To&, Parameters...), More... more) {
  To to;
  Status status = check_struct(from);
  if (status.ok()) status = convert(*from, &to);
  if (status.ok()) status = function(to, more...);
  return report(status);
}

}  // namespace marlin_moe

int marlin_moe_padded_shape(const marlin_moe_padded_shape_args* args, int32_t* n, int32_t* k,
                            int32_t* num_groups) {
  marlin_moe::WeightShape shape;
  marlin_moe::PaddedShape padded;
  marlin_moe::Status status = marlin_moe::check_struct(args);
  if (status.ok()) status = marlin_moe::check_out("n", n);
  if (status.ok()) status = marlin_moe::check_out("k", k);
  if (status.ok()) status = marlin_moe::check_out("num_groups", num_groups);
  if (status.ok()) status = marlin_moe::to_type("a_type", args->a_type, &shape.a_type);
  if (status.ok()) status = marlin_moe::to_type("b_type", args->b_type, &shape.b_type);
  if (status.ok()) {
    shape.n = args->n;
    shape.k = args->k;
    status = marlin_moe::padded_shape(shape, args->group_size, &padded);
  }
  if (status.ok()) {
    *n = padded.n;
    *k = padded.k;
    *num_groups = padded.num_groups;
  }
  return marlin_moe::report(status);
}

int marlin_moe_repack_gptq(const marlin_moe_repack_gptq_args* args) {
  return marlin_moe::call(args, marlin_moe::repack_gptq);
}

int marlin_moe_repack_awq(const marlin_moe_repack_awq_args* args) {
  return marlin_moe::call(args, marlin_moe::repack_awq);
}

int marlin_moe_repack_rows(const marlin_moe_repack_rows_args* args) {
  return marlin_moe::call(args, marlin_moe::repack_rows);
}

int marlin_moe_sort_rows_by_group(const marlin_moe_sort_rows_by_group_args* args) {
  return marlin_moe::call(args, marlin_moe::sort_rows_by_group);
}

int marlin_moe_permute_scales(const marlin_moe_permute_scales_args* args) {
  return marlin_moe::call(args, marlin_moe::permute_scales);
}

int marlin_moe_scale_global_scales(const marlin_moe_scale_global_scales_args* args) {
  return marlin_moe::call(args, marlin_moe::scale_global_scales);
}

int marlin_moe_permute_bias(const marlin_moe_permute_bias_args* args) {
  return marlin_moe::call(args, marlin_moe::permute_bias);
}

int marlin_moe_permute_zero_points(const marlin_moe_permute_zero_points_args* args) {
  return marlin_moe::call(args, marlin_moe::permute_zero_points);
}

int marlin_moe_align(const marlin_moe_align_args* args) {
  return marlin_moe::call(args, marlin_moe::moe_align);
}

int marlin_moe_align_capacity(const marlin_moe_align_args* args, int64_t* places) {
  const marlin_moe::Status status = marlin_moe::check_out("places", places);
  if (!status.ok()) return marlin_moe::report(status);
  std::size_t workspace_bytes = 0;  // this query checks the numbers
  const int code = marlin_moe::call(args, marlin_moe::moe_align_workspace_size, &workspace_bytes);
  if (code == MARLIN_MOE_OK) {
    *places = marlin_moe::moe_align_capacity(args->num_ids, args->num_experts, args->block_size);
  }
  return code;
}

int marlin_moe_align_workspace_size(const marlin_moe_align_args* args, size_t* bytes) {
  const marlin_moe::Status status = marlin_moe::check_out("bytes", bytes);
  if (!status.ok()) return marlin_moe::report(status);
  return marlin_moe::call(args, marlin_moe::moe_align_workspace_size, bytes);
}

int marlin_moe_quantize_activations(const marlin_moe_quantize_activations_args* args) {
  return marlin_moe::call(args, marlin_moe::quantize_activations);
}

int marlin_moe_act_and_mul(const marlin_moe_act_and_mul_args* args) {
  return marlin_moe::call(args, marlin_moe::act_and_mul);
}

int marlin_moe_topk_sum(const marlin_moe_topk_sum_args* args) {
  return marlin_moe::call(args, marlin_moe::topk_sum);
}
