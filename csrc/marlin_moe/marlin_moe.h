/* C interface of the quantised Mixture-of-Experts GEMM, for other languages: plain structs, status
 * codes and a message per thread. What each argument means is said in moe_gemm.h. */
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

/* MoeGemmArgs. `struct_size` is sizeof(marlin_moe_gemm_args): a library with another definition
 * refuses the call. Flags are 0 or 1. `stream` is a cudaStream_t. */
typedef struct marlin_moe_gemm_args {
  size_t struct_size;
  int32_t m;
  int32_t n;
  int32_t k;
  int32_t num_experts;
  int32_t top_k;
  int32_t block_size;
  int32_t a_type; /* marlin_moe_type, as are the next three */
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
  int32_t thread_k;
  int32_t thread_n;
  int32_t threads;
  int32_t blocks_per_sm;
  int32_t stripe_slack;
} marlin_moe_gemm_config;

/* Launches the GEMM; `config` may be null. */
int marlin_moe_gemm(const marlin_moe_gemm_args* args, const marlin_moe_gemm_config* config);

/* Sets *bytes to the workspace that marlin_moe_gemm() needs for these shapes and types. */
int marlin_moe_gemm_workspace_size(const marlin_moe_gemm_args* args, size_t* bytes);

/* Sets *config to the configuration that marlin_moe_gemm() takes for these shapes and types. */
int marlin_moe_gemm_choose_config(const marlin_moe_gemm_args* args, marlin_moe_gemm_config* config);

/* The block size to align tokens with, for activations of a marlin_moe_type; 0 if it is none. */
int32_t marlin_moe_gemm_block_size(int32_t m, int32_t num_experts, int32_t top_k, int32_t a_type);

/* Why the last call of this thread that did not return MARLIN_MOE_OK failed; never null. Valid
 * until the thread's next call. */
const char* marlin_moe_last_error(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* MARLIN_MOE_MARLIN_MOE_H_ */
