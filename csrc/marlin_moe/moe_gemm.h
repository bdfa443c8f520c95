// Host API of the quantised Mixture-of-Experts GEMM.
//
//   C[id, :] = (sum_k A[id / top_k, k] * dequant(B[e])[k, :] + bias[e, :]) * topk_weights[id]
//
// for every id in sorted_token_ids, e being the expert of the block that holds the id. A call
// checks its arguments, picks a kernel and launches it on the stream. It allocates nothing and
// waits for nothing, and a CUDA graph can capture it. It asks the driver about a device and a
// kernel only once. What a context has to be told of a kernel is told again where a launch fails
// for it: in another context of a device, and after cudaDeviceReset().
//
// Thread blocks that share a tile wait for each other, but for those of sm90: each for blocks of
// lower index, which are started earlier on every device so far. One that waits for half a minute
// all the same ends the launch with an error, as calls that overlap and share a workspace may do.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "scalar_type.hpp"
#include "status.h"

namespace marlin_moe {

using MARLIN_TYPE_NAMESPACE::ScalarType;

// group_size of a scheme with one scale per output column.
inline constexpr int kGroupSizeChannel = -1;
// group_size of GPTQ weights quantised with desc_act: g_idx gives each row's group.
inline constexpr int kGroupSizeActOrder = 0;

// The group_size that scales are laid out and read for. A single group is one scale per output
// column, whatever number of rows it is said to have: that is how packers lay it out.
constexpr int scale_group_size(int group_size, int num_groups) {
  return num_groups == 1 ? kGroupSizeChannel : group_size;
}

// Arguments of one MoE GEMM. Pointers are device pointers, aligned to 16 bytes unless said
// otherwise; matrices are row-major.
struct MoeGemmArgs {
  int m = 0;            // rows of A (tokens); 0 launches nothing. (m * top_k + num_experts) * n
                        // up to 2^36, and entries of sorted_token_ids, padding at worst included,
                        // up to 2^30
  int n = 0;            // output columns, a multiple of 64 up to 2^24
  int k = 0;            // reduction length, a multiple of 64 and of the group size, up to 2^24;
                        // up to 2^20 where kS8 products are summed without groups
  int num_experts = 0;  // experts in B
  int top_k = 1;        // experts per token: id / top_k is the row of A
  int block_size = 0;   // ids per block of sorted_token_ids: rows of a tile that was built, as
                        // moe_gemm_block_size() says; multiples of 8

  ScalarType a_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  ScalarType b_type = MARLIN_TYPE_NAMESPACE::kU4B8;
  ScalarType c_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  ScalarType s_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  int group_size =
      kGroupSizeChannel;  // 16, 32, 64, 128 rows of B share a scale, or the above, or k
  int num_groups = 1;  // scale rows per expert; k / group_size when grouped; 1: a scale per column

  const void* a = nullptr;            // a_type [m, k], row stride a_stride
  std::int64_t a_stride = 0;          // elements between rows of A, at least k, 16-byte multiples
  const float* a_scales = nullptr;    // [m], 8-bit a_type: what a row of A is multiplied by
  const void* b = nullptr;            // int32 [num_experts, k / 16, n * bits / 2], Marlin's layout
  const void* scales = nullptr;       // s_type [num_experts, num_groups, n], permuted
  const void* zero_points = nullptr;  // int32 [num_experts, num_groups, n / 8], kU4 only
  // [num_experts], what an expert's scales are multiplied by: with s_type kFE4M3fn (NVFP4); with
  // a_type kS8 as permute_scales() makes them, null: by nothing. Otherwise not looked at.
  const float* global_scales = nullptr;
  const void* bias = nullptr;  // c_type [num_experts, n], permuted; optional
  // Act-order, as sort_rows_by_group() makes them (prepare.h):
  const int* g_idx = nullptr;  // [num_experts, k], group of each row of B, ascending
  const int* perm = nullptr;   // [num_experts, k], column of A for each row of B

  const float* topk_weights = nullptr;  // [m * top_k]; optional: null multiplies by nothing
  // Ids by expert, filled up to whole blocks, at any place in them, with m * top_k or any number
  // that is no id, as -1.
  const int* sorted_token_ids = nullptr;
  // Expert of each block; blocks with -1, or any number that is no expert, are skipped.
  const int* expert_ids = nullptr;
  // [1], entries of sorted_token_ids in use
  const int* num_tokens_past_padded = nullptr;
  // Whether expert_ids may hold -1 (expert parallelism). The result does not depend on it: false
  // only spreads the work unevenly over the device then.
  bool expert_parallel = false;

  // Sum tiles that several thread blocks share by atomic additions, into sums that a memset before
  // the launch clears. The order of the sums, and so the last bits of C, then change from run to
  // run. The family sm90 has no such kernels: set it before moe_gemm_block_size(), which then
  // chooses without them.
  bool atomic_reduce = false;

  void* c = nullptr;  // c_type [m * top_k, n]; rows whose expert is -1 are not written

  // Scratch memory of at least moe_gemm_workspace_size() bytes, aligned to 256, whatever it holds:
  // each call leaves it ready for the next, of any shape. Calls that may overlap need one each. May
  // be null if 0 bytes are needed. Of all words that it may hold at first, the 32-bit number
  // 0x5eba1cd7 and the 64-bit numbers 0x6b1dc59e37a4d201 to 0x6b1dc59e37a4d207 would mislead a
  // call: who wants to rule that out zeroes it once.
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;

  cudaStream_t stream = nullptr;
};

// A kernel choice: the tile of one thread block, whose rows are the block_size, and how many blocks
// share a multiprocessor. Which family's tile it is follows from the number of threads: 384 are
// sm90's.
struct MoeGemmConfig {
  int thread_k = 0;
  int thread_n = 0;
  int threads = 0;
  int blocks_per_sm = 0;  // 0: as many as fit
  // Pipeline stages that a block's share of the work may grow by so that it ends where a tile ends,
  // which saves an exchange of partial sums; -1: chosen from the tile. 0 with sm90
  int stripe_slack = -1;
  // Tiles of sm90 with 96 rows or more: 1 copies the rows of A into the workspace first, in the
  // order in which tiles take them; 0 gathers them anew for each tile; -1: chosen. Others: 0 or -1
  int gather_first = -1;
};

// Sets *bytes to the scratch memory that moe_gemm() needs for these arguments and this
// configuration on the current device, whatever the pointers are. It has a place for the partial
// sums of every thread block that the device holds at once, so it suffices for any routing and any
// number of row blocks in use. It is 0 if no tile is split and nothing is gathered into it.
Status moe_gemm_workspace_size(const MoeGemmArgs& args, std::size_t* bytes,
                               const MoeGemmConfig* config = nullptr);

// The same for programs that allocate once: it suffices for every block size, configuration and n,
// and for every m up to args.m, but not where a configuration asks for gather_first = 1 and the
// library would not choose it. With act-order it suffices for every k up to args.k.
Status moe_gemm_max_workspace_size(const MoeGemmArgs& args, std::size_t* bytes);

// Sets *block_size to the one to align tokens with before calling moe_gemm() on the current device:
// that of the kernel which is likely to be the fastest for these types, sizes and tokens per
// expert. Pointers and args.block_size are not looked at. Under expert parallelism, let num_experts
// be those of all devices: it is what tokens are spread over.
Status moe_gemm_block_size(const MoeGemmArgs& args, int* block_size);

// The same without a device, from the tokens per expert alone, for the kernels that run everywhere.
// 8-bit activations have kernels from 16 on. 0, which no function takes, where m, num_experts,
// top_k or a_type is none that a call may have.
int moe_gemm_block_size(int m, int num_experts, int top_k, const ScalarType& a_type);

// A kernel to launch a GEMM with: the rows of its tile, and what moe_gemm() takes with them.
struct MoeGemmTile {
  int block_size;
  MoeGemmConfig config;
};

// Sets *tiles to those that have a kernel for these arguments on the current device, for programs
// that measure which is the fastest. Pointers and args.block_size are not looked at.
Status moe_gemm_tiles(const MoeGemmArgs& args, std::vector<MoeGemmTile>* tiles);

// Sets *config to the configuration that moe_gemm() uses for these arguments.
Status moe_gemm_choose_config(const MoeGemmArgs& args, MoeGemmConfig* config);

// Launches the GEMM. `config` overrides the choice of moe_gemm_choose_config().
Status moe_gemm(const MoeGemmArgs& args, const MoeGemmConfig* config = nullptr);

}  // namespace marlin_moe
