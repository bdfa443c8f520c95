// An example of the whole library: the experts of one MoE layer.
//
//   out[t, :] = sum over j of topk_weights[t, j] * down(silu(gate(x[t, :])) * up(x[t, :]))
//
// with the three matrices of expert topk_ids[t, j]. It is five steps on one stream: align tokens to
// experts, GEMM 1 (gate and up, side by side), SiLU and multiply, GEMM 2 (down, which applies the
// top-k weights), sum.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "marlin_moe/moe_gemm.h"

namespace marlin_moe_example {

// Weights of one GEMM, prepared by repack_gptq() and permute_scales(): see prepare.h.
struct ExpertWeights {
  const void* b = nullptr;       // int32 [num_experts, k / 16, 2 * n]
  const void* scales = nullptr;  // type [num_experts, k / group_size, n]
};

// Arguments of marlin_moe_layer(); device pointers, aligned to 16 bytes unless said otherwise.
struct MoeLayerArgs {
  int m = 0;             // tokens
  int hidden = 0;        // a multiple of 128
  int intermediate = 0;  // a multiple of 128
  int num_experts = 0;   // of this device
  int top_k = 1;
  int group_size = 128;
  marlin_moe::ScalarType type = MARLIN_TYPE_NAMESPACE::kFloat16;  // of activations and scales

  const void* x = nullptr;              // type [m, hidden]
  const int* topk_ids = nullptr;        // [m, top_k]
  const float* topk_weights = nullptr;  // [m, top_k]
  ExpertWeights gate_up;                // k = hidden, n = 2 * intermediate: gate first
  ExpertWeights down;                   // k = intermediate, n = hidden
  void* out = nullptr;                  // type [m, hidden]

  // Expert parallelism: of `num_global_experts`, the local number of each or -1. Then `out` is this
  // device's part of the sum. Null: all experts are here.
  const int* expert_map = nullptr;
  int num_global_experts = 0;

  // marlin_moe_layer_workspace_size() bytes, aligned to 256. It serves this layer with any m up to
  // the one that it was sized for.
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  cudaStream_t stream = nullptr;
};

// Sets *bytes to the scratch memory that the layer needs; pointers are not looked at.
marlin_moe::Status marlin_moe_layer_workspace_size(const MoeLayerArgs& args, std::size_t* bytes);

// Launches the layer. It can be captured into a CUDA graph.
marlin_moe::Status marlin_moe_layer(const MoeLayerArgs& args);

}  // namespace marlin_moe_example
