// The documented interface of a kernel: its template parameters and its arguments.
//
// Generated files instantiate the template explicitly, the launcher takes its address through the
// generated selector. Host compilers may include this header.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "marlin_moe/plan/divider.h"
#include "marlin_moe/scalar_type.hpp"

// The namespace of the kernels. Generated kernel files define it to the rule's `kernel_namespace`.
#ifndef MARLIN_NAMESPACE_NAME
#define MARLIN_NAMESPACE_NAME marlin_moe_wna16
#endif

namespace MARLIN_NAMESPACE_NAME {

// Arguments of a launch, all of them device pointers or plain numbers. Shapes and layouts as in
// MoeGemmArgs (moe_gemm.h).
struct KernelParams {
  const void* a;
  const void* b;
  const void* scales;
  const void* zero_points;
  const void* bias;            // null: none
  const float* global_scales;  // NVFP4; null or not with int8 A
  const float* a_scales;       // 8-bit A
  void* c;
  const int* g_idx;
  const float* topk_weights;  // null: no multiplication
  const int* sorted_token_ids;
  const int* expert_ids;
  const int* num_tokens_past_padded;
  // Partial sums of split tiles, [stripes, rows of the tile, thread_n]: at a contributor's stripe,
  // so never at stripe 0; with atomic additions at the owner's.
  float* partials;
  // [stripes]: whether what a stripe contributes to another's tile is there (Epilogue). Of
  // MarlinSm90: how many parts of a tile are there (PartialSums). Both leave zeros, and need none.
  int* locks;
  std::int64_t a_stride;  // elements between rows of A
  int num_ids;            // 0 … num_ids - 1 are tokens, all other ids are padding
  int n;
  int k;
  int num_groups;    // scale rows per expert
  int stripe_slack;  // stages a stripe may grow by so that stripes end with tiles
  ::marlin_moe::Divider a_row_divisor;  // id / a_row_divisor is the row of A
  ::marlin_moe::Divider stripes;        // gridDim.x
  ::marlin_moe::Divider n_tiles;        // tiles that cover n
  ::marlin_moe::Divider tile_stages;    // pipeline stages that cover k
  bool atomic_reduce;                   // split tiles are summed by atomic additions, into zeros
  bool expert_parallel;                 // whether blocks may be without an expert
  // Of MarlinSm90: into how many parts a tile may be cut along k where tiles are few. 1: none, and
  // neither partials nor locks are read; else they are as Sm90Tile (plan/sm90_tile.h) says. Stages
  // are 64 deep there, stripe_slack and atomic_reduce are not read.
  int k_splits;
  int num_experts;  // 0 … num_experts - 1 are experts; blocks with any other number are skipped
  // The family sm90: A as prepare/stage_rows.h leaves it for the kernel's tile; null: the kernel
  // gathers rows of `a`.
  const void* staged_a;
};

}  // namespace MARLIN_NAMESPACE_NAME

#define MARLIN_KERNEL_PARAMS const __grid_constant__::MARLIN_NAMESPACE_NAME::KernelParams params

namespace MARLIN_NAMESPACE_NAME {

using MARLIN_TYPE_NAMESPACE::ScalarTypeId;

using MarlinFuncPtr = void (*)(const KernelParams);

// One MoE GEMM.
//   threads             threads per block: 128 or 256
//   thread_m_blocks     rows of a block's tile, in units of 16
//   thread_n_blocks     columns of a block's tile, in units of 16
//   thread_k_blocks     depth of a pipeline stage, in units of 16
//   m_block_size_8      the tile has 8 rows (thread_m_blocks is 1), the product is transposed
//   stages              depth of the shared-memory pipeline
//   group_blocks        16-row blocks of B that share a scale; -1: scale per column; 0: act-order
//   is_zp_float         zero points of type c; no scheme of the table has them
template <const ScalarTypeId a_type_id, const ScalarTypeId b_type_id, const ScalarTypeId c_type_id,
          const ScalarTypeId s_type_id, const int threads, const int thread_m_blocks,
          const int thread_n_blocks, const int thread_k_blocks, const bool m_block_size_8,
          const int stages, const int group_blocks, const bool is_zp_float>
__global__ void Marlin(MARLIN_KERNEL_PARAMS);

// One MoE GEMM on sm_90a, with wgmma.
//   block_rows      rows of a block's tile: 8 to 256 in steps of 8
//   thread_n        columns of a block's tile: 128, 256 or 512
//   blocks_per_sm   thread blocks that share a multiprocessor: 1 or 2
//   stages          depth of the shared-memory pipeline: Sm90Tile::stages() (plan/sm90_tile.h)
//   group_blocks    16-row blocks of B that share a scale; -1: scale per column
template <const ScalarTypeId a_type_id, const ScalarTypeId b_type_id, const ScalarTypeId c_type_id,
          const ScalarTypeId s_type_id, const int block_rows, const int thread_n,
          const int blocks_per_sm, const int stages, const int group_blocks>
__global__ void MarlinSm90(MARLIN_KERNEL_PARAMS);

}  // namespace MARLIN_NAMESPACE_NAME
