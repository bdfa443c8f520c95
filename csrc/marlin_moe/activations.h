// What a MoE layer does to activations around its two GEMMs: quantise, activate, and sum over each
// token's experts.
//
// Each call checks its arguments and launches one kernel on the stream. Pointers are device
// pointers, aligned to 16 bytes unless said otherwise; matrices are row-major, without gaps unless
// they have a stride. An empty matrix launches nothing.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "moe_gemm.h"

namespace marlin_moe {

// Quantises each row to eight bits with a scale of its own:
//   kS8       scale = largest magnitude / 127, values rounded to the nearest, ties to even
//   kFE4M3fn  scale = largest magnitude / 448, likewise
// A row of zeros has scale 0 and stays zero. A row with a NaN or an infinity has that as its scale.
struct QuantizeActivationsArgs {
  int m = 0;
  int k = 0;                                            // a multiple of 16
  ScalarType x_type = MARLIN_TYPE_NAMESPACE::kFloat16;  // or kBFloat16
  ScalarType out_type = MARLIN_TYPE_NAMESPACE::kS8;     // or kFE4M3fn
  const void* x = nullptr;                              // x_type [m, k], row stride x_stride
  std::int64_t x_stride = 0;                            // elements, at least k, a multiple of 8
  void* out = nullptr;                                  // out_type [m, k]
  float* scales = nullptr;                              // [m], aligned to 4 bytes
  // Optional, aligned to 4 bytes: [1], multiplies all scales but not the values, such as the factor
  // that weights packed elsewhere have for all experts.
  const float* factor = nullptr;
  cudaStream_t stream = nullptr;
};
Status quantize_activations(const QuantizeActivationsArgs& args);

// What comes of a gate g and of the value u beside it, in float:
enum class Activation {
  kSilu,       // silu(g) * u, silu(g) = g / (1 + exp(-g))
  kGelu,       // gelu(g) * u, gelu(g) = g * (1 + erf(g / sqrt(2))) / 2
  kGeluTanh,   // likewise with erf(g / sqrt(2)) taken as tanh(sqrt(2 / pi) * (g + 0.044715 * g^3))
  kSwigluOai,  // gpt-oss: g / (1 + exp(-alpha * g)) * (u + 1), g <= limit, -limit <= u <= limit
};

// out[i, c] = activation of g = x[i, c] and u = x[i, n + c], rounded once. NaN gives NaN.
struct ActAndMulArgs {
  int m = 0;
  int n = 0;                                          // a multiple of 8
  ScalarType type = MARLIN_TYPE_NAMESPACE::kFloat16;  // or kBFloat16
  Activation activation = Activation::kSilu;
  // Whether g = x[i, 2 * c] and u = x[i, 2 * c + 1] instead.
  bool interleaved = false;
  float alpha = 1.702f;     // read with kSwigluOai only, as is limit; both are positive and finite
  float limit = 7.0f;       // gpt-oss's values
  const void* x = nullptr;  // type [m, 2 * n]
  void* out = nullptr;      // type [m, n]
  cudaStream_t stream = nullptr;
};
Status act_and_mul(const ActAndMulArgs& args);

// out[t, :] = sum over j < top_k of x[t * top_k + j, :], in float, in the order of j.
struct TopkSumArgs {
  int m = 0;  // tokens
  int n = 0;  // a multiple of 8
  int top_k = 1;
  ScalarType type = MARLIN_TYPE_NAMESPACE::kFloat16;  // or kBFloat16
  const void* x = nullptr;                            // type [m * top_k, n]
  void* out = nullptr;                                // type [m, n]
  // Optional, aligned to 4 bytes: leaves out rows that moe_gemm() did not write, which are those
  // whose expert is not from 0 to num_experts - 1 or is elsewhere.
  const int* topk_ids = nullptr;    // [m * top_k]
  int num_experts = 0;              // read only with topk_ids
  const int* expert_map = nullptr;  // optional, [num_experts]: -1: elsewhere
  cudaStream_t stream = nullptr;
};
Status topk_sum(const TopkSumArgs& args);

}  // namespace marlin_moe
