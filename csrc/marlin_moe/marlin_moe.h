/* C interface of the quantised Mixture-of-Experts GEMM and of the functions around it, for other
 * languages: plain structs, status codes and a message per thread. Every struct is that of a C++
 * function, whose header says what each argument means. */
#ifndef MARLIN_MOE_MARLIN_MOE_H_
#define MARLIN_MOE_MARLIN_MOE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum marlin_moe_status {
  MARLIN_MOE_OK = 0,
  MARLIN_MOE_INVALID_ARGUMENT = 1,
  MARLIN_MOE_INSUFFICIENT_WORKSPACE = 2,
  MARLIN_MOE_NO_KERNEL = 3,
  MARLIN_MOE_CUDA_ERROR = 4
} marlin_moe_status;

/* Scalar types; 0 is none. */
typedef enum marlin_moe_type {
  MARLIN_MOE_FLOAT16 = 1,
  MARLIN_MOE_BFLOAT16 = 2,
  MARLIN_MOE_S8 = 3,
  MARLIN_MOE_FE4M3FN = 4,
  MARLIN_MOE_U4 = 5,
  MARLIN_MOE_U4B8 = 6,
  MARLIN_MOE_U8B128 = 7,
  MARLIN_MOE_FE2M1F = 8,
  MARLIN_MOE_FE8M0FNU = 9
} marlin_moe_type;

/* In every struct, `struct_size` is its sizeof(): a library with another definition refuses the
 * call. Fields that end in `type` hold a marlin_moe_type. Flags are 0 or 1. `stream` is a
 * cudaStream_t. Functions that return int return a marlin_moe_status. */

/* moe_gemm.h: MoeGemmArgs. */
typedef struct marlin_moe_gemm_args {
  size_t struct_size;
  int32_t m;
  int32_t n;
  int32_t k;
  int32_t num_experts;
  int32_t top_k;
  int32_t block_size;
  int32_t a_type;
  int32_t b_type;
  int32_t c_type;
  int32_t s_type;
  int32_t group_size;
  int32_t num_groups;
  int32_t expert_parallel;
  int32_t atomic_reduce;
  int64_t a_stride;
  const void* a;
  const float* a_scales;
  const void* b;
  const void* scales;
  const void* zero_points;
  const float* global_scales;
  const void* bias;
  const int32_t* g_idx;
  const int32_t* perm;
  const float* topk_weights;
  const int32_t* sorted_token_ids;
  const int32_t* expert_ids;
  const int32_t* num_tokens_past_padded;
  void* c;
  void* workspace;
  size_t workspace_bytes;
  void* stream;
} marlin_moe_gemm_args;

/* MoeGemmConfig. */
typedef struct marlin_moe_gemm_config {
  size_t struct_size;
  int32_t thread_k;
  int32_t thread_n;
  int32_t threads;
  int32_t blocks_per_sm;
  int32_t stripe_slack;
  int32_t gather_first;
} marlin_moe_gemm_config;

/* Launches the GEMM; `config` may be null. */
int marlin_moe_gemm(const marlin_moe_gemm_args* args, const marlin_moe_gemm_config* config);

/* Sets *bytes to the workspace that marlin_moe_gemm() needs for these shapes, types and this
 * configuration, which may be null. It suffices for any routing. */
int marlin_moe_gemm_workspace_size(const marlin_moe_gemm_args* args,
                                   const marlin_moe_gemm_config* config, size_t* bytes);

/* Sets *bytes to what suffices for every block size, configuration and n, and for every m up to
 * args->m, but for gather_first = 1 only where it would be chosen; with act-order for every k up to
 * args->k. */
int marlin_moe_gemm_max_workspace_size(const marlin_moe_gemm_args* args, size_t* bytes);

/* Sets *config to the configuration that marlin_moe_gemm() takes for these shapes and types. The
 * caller sets config->struct_size. */
int marlin_moe_gemm_choose_config(const marlin_moe_gemm_args* args, marlin_moe_gemm_config* config);

/* Sets *block_size to the one to align tokens with on the current device: that of the kernel which
 * is likely to be the fastest. Pointers and args->block_size are not looked at. */
int marlin_moe_gemm_choose_block_size(const marlin_moe_gemm_args* args, int32_t* block_size);

/* The same without a device, for activations of a marlin_moe_type and the kernels that run
 * everywhere; 0 if a number or the type is none that a call may have. */
int32_t marlin_moe_gemm_block_size(int32_t m, int32_t num_experts, int32_t top_k, int32_t a_type);

/* prepare.h: weights of checkpoints, once at load time. Of source_n, source_k, source_groups and
 * column_parts, 0 is what there is without padding; of columns_per_scale, 0 is 1. */

/* What padded_shape() looks at: WeightShape and the group size. */
typedef struct marlin_moe_padded_shape_args {
  size_t struct_size;
  int32_t n;
  int32_t k;
  int32_t a_type;
  int32_t b_type;
  int32_t group_size;
} marlin_moe_padded_shape_args;

/* Sets *n, *k and *num_groups to what the GEMM takes in the place of args->n and args->k. */
int marlin_moe_padded_shape(const marlin_moe_padded_shape_args* args, int32_t* n, int32_t* k,
                            int32_t* num_groups);

typedef struct marlin_moe_repack_gptq_args {
  size_t struct_size;
  int32_t num_experts;
  int32_t n;
  int32_t k;
  int32_t a_type;
  int32_t b_type;
  int32_t source_n;
  int32_t source_k;
  int32_t column_parts;
  const void* qweight;
  const int32_t* perm;
  void* out;
  void* stream;
} marlin_moe_repack_gptq_args;
int marlin_moe_repack_gptq(const marlin_moe_repack_gptq_args* args);

typedef struct marlin_moe_repack_awq_args {
  size_t struct_size;
  int32_t num_experts;
  int32_t n;
  int32_t k;
  int32_t a_type;
  int32_t b_type;
  int32_t num_groups;
  int32_t source_n;
  int32_t source_k;
  int32_t column_parts;
  const void* qweight;
  const void* qzeros;
  void* out;
  void* stream;
} marlin_moe_repack_awq_args;
int marlin_moe_repack_awq(const marlin_moe_repack_awq_args* args);

typedef struct marlin_moe_repack_rows_args {
  size_t struct_size;
  int32_t num_experts;
  int32_t n;
  int32_t k;
  int32_t a_type;
  int32_t b_type;
  int32_t source_n;
  int32_t source_k;
  int32_t column_parts;
  const void* weights;
  void* out;
  void* stream;
} marlin_moe_repack_rows_args;
int marlin_moe_repack_rows(const marlin_moe_repack_rows_args* args);

typedef struct marlin_moe_sort_rows_by_group_args {
  size_t struct_size;
  int32_t num_experts;
  int32_t k;
  const int32_t* g_idx;
  int32_t* perm;
  int32_t* sorted_g_idx;
  void* stream;
} marlin_moe_sort_rows_by_group_args;
int marlin_moe_sort_rows_by_group(const marlin_moe_sort_rows_by_group_args* args);

typedef struct marlin_moe_permute_scales_args {
  size_t struct_size;
  int32_t num_experts;
  int32_t num_groups;
  int32_t n;
  int32_t a_type;
  int32_t b_type;
  int32_t c_type;
  int32_t s_type;
  int32_t group_size;
  int32_t columns_first;
  int32_t source_n;
  int32_t source_groups;
  int32_t column_parts;
  int32_t columns_per_scale;
  int32_t float32_scales;
  const void* scales;
  void* out;
  float* global_scales;
  void* stream;
} marlin_moe_permute_scales_args;
int marlin_moe_permute_scales(const marlin_moe_permute_scales_args* args);

typedef struct marlin_moe_scale_global_scales_args {
  size_t struct_size;
  int32_t num_experts;
  int32_t c_type;
  const float* global_scales;
  float* out;
  void* stream;
} marlin_moe_scale_global_scales_args;
int marlin_moe_scale_global_scales(const marlin_moe_scale_global_scales_args* args);

typedef struct marlin_moe_permute_bias_args {
  size_t struct_size;
  int32_t num_experts;
  int32_t n;
  int32_t source_n;
  int32_t column_parts;
  const void* bias;
  void* out;
  void* stream;
} marlin_moe_permute_bias_args;
int marlin_moe_permute_bias(const marlin_moe_permute_bias_args* args);

typedef struct marlin_moe_permute_zero_points_args {
  size_t struct_size;
  int32_t num_experts;
  int32_t num_groups;
  int32_t n;
  int32_t a_type;
  int32_t source_n;
  int32_t source_groups;
  int32_t column_parts;
  const void* qzeros;
  void* out;
  void* stream;
} marlin_moe_permute_zero_points_args;
int marlin_moe_permute_zero_points(const marlin_moe_permute_zero_points_args* args);

/* moe_align.h: tokens sorted by expert. */

typedef struct marlin_moe_align_args {
  size_t struct_size;
  int32_t num_ids;
  int32_t num_experts;
  int32_t block_size;
  int32_t drop_remote;
  const int32_t* topk_ids;
  const int32_t* expert_map;
  int32_t* sorted_token_ids;
  int32_t* expert_ids;
  int32_t* num_tokens_past_padded;
  void* workspace;
  size_t workspace_bytes;
  void* stream;
} marlin_moe_align_args;
int marlin_moe_align(const marlin_moe_align_args* args);

/* Sets *places to the most entries of sorted_token_ids that any routing uses. */
int marlin_moe_align_capacity(const marlin_moe_align_args* args, int64_t* places);

/* Sets *bytes to the workspace that marlin_moe_align() needs. */
int marlin_moe_align_workspace_size(const marlin_moe_align_args* args, size_t* bytes);

/* activations.h: what happens to activations around the GEMMs. */

typedef struct marlin_moe_quantize_activations_args {
  size_t struct_size;
  int32_t m;
  int32_t k;
  int32_t x_type;
  int32_t out_type;
  int64_t x_stride;
  const void* x;
  void* out;
  float* scales;
  const float* factor;
  void* stream;
} marlin_moe_quantize_activations_args;
int marlin_moe_quantize_activations(const marlin_moe_quantize_activations_args* args);

/* What a field `activation` holds. */
typedef enum marlin_moe_activation {
  MARLIN_MOE_ACTIVATION_SILU = 0,
  MARLIN_MOE_ACTIVATION_GELU = 1,
  MARLIN_MOE_ACTIVATION_GELU_TANH = 2,
  MARLIN_MOE_ACTIVATION_SWIGLU_OAI = 3 /* alpha and limit are gpt-oss's where they are 0 */
} marlin_moe_activation;

typedef struct marlin_moe_act_and_mul_args {
  size_t struct_size;
  int32_t m;
  int32_t n;
  int32_t type;
  int32_t activation;
  int32_t interleaved;
  float alpha;
  float limit;
  const void* x;
  void* out;
  void* stream;
} marlin_moe_act_and_mul_args;
int marlin_moe_act_and_mul(const marlin_moe_act_and_mul_args* args);

typedef struct marlin_moe_topk_sum_args {
  size_t struct_size;
  int32_t m;
  int32_t n;
  int32_t top_k;
  int32_t type;
  int32_t num_experts;
  const void* x;
  void* out;
  const int32_t* topk_ids;
  const int32_t* expert_map;
  void* stream;
} marlin_moe_topk_sum_args;
int marlin_moe_topk_sum(const marlin_moe_topk_sum_args* args);

/* Why the thread's last call with another status than MARLIN_MOE_OK failed; never null. Valid until
 * the thread's next call. */
const char* marlin_moe_last_error(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* MARLIN_MOE_MARLIN_MOE_H_ */
