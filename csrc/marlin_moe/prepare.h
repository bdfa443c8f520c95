// Turns the weights of checkpoints into the layouts that moe_gemm() reads, on the GPU, once at load
// time: repacked weights, permuted scales, biases and zero points.
//
// Each call checks its arguments and launches its work on the stream. It allocates nothing and
// waits for nothing, and a CUDA graph can capture it. Pointers are device pointers, aligned to 16
// bytes unless said otherwise; matrices are row-major; results may not overlap their sources.
// Nibbles and bytes of a word are counted from its low end.
#pragma once

#include <cuda_runtime_api.h>

#include "moe_gemm.h"

namespace marlin_moe {

// The types of activations and weights that a layout is made for. Beside 16-bit activations,
// weights may have any type; beside kS8: kU4, kU4B8; beside kFE4M3fn: kU4, kU4B8,
// kFE4M3fn, kFE2M1f.
//
// A source may have fewer rows and columns than the result, such as a shard of a layer: see
// padded_shape(). What it does not have becomes weights of 0.
struct WeightShape {
  int num_experts = 0;
  int n = 0;         // output columns of the result, a multiple of 64
  int k = 0;         // rows of the result, a multiple of 64
  int source_n = 0;  // output columns of the source; 0: n
  int source_k = 0;  // rows of the source; 0: k
  // Matrices side by side in n, as gate and up are: each of them is padded on its own. Divides n
  // and source_n.
  int column_parts = 0;
  ScalarType a_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  ScalarType b_type = MARLIN_TYPE_NAMESPACE::kU4B8;
};

// What moe_gemm() takes in the place of a layer, or a shard of one, of any size.
struct PaddedShape {
  int n = 0;
  int k = 0;
  int num_groups = 0;  // k / group_size; 1 for a scale per column, also as one group of all rows,
                       // and for act-order
};

// Sets *padded to the smallest shape that holds n columns and k rows, which in `shape` may be any
// numbers from 1 on: n a multiple of 64, k of 64 and of the group size. The types and the group
// size say what kernels it is for.
//
// Prepare weights, scales, zero points and bias with *padded, and with the sizes that there are as
// the source's. Columns of A that there are too many have to hold zeros, or other finite numbers;
// such columns of C hold zeros. Gate and up side by side: take column_parts = 2 and n = 2 * the
// padded k of the down projection, which reads what act_and_mul() makes of them, zeros again.
Status padded_shape(const WeightShape& shape, int group_size, PaddedShape* padded);

// Weights packed along their rows, as GPTQ stores them.
struct RepackGptqArgs {
  WeightShape shape;              // b_type: not kU4 with a_type kFE4M3fn
  const void* qweight = nullptr;  // int32 [num_experts, source_k * bits / 32, source_n]: element i
                                  // of word r is row r * 32 / bits + i
  const int* perm = nullptr;      // optional, act-order: [num_experts, k]; row i of the result is
                                  // row perm[i], from 0 to k - 1, of the source and its padding
  void* out = nullptr;            // int32 [num_experts, k / 16, n * bits / 2]
  cudaStream_t stream = nullptr;
};
Status repack_gptq(const RepackGptqArgs& args);

// Sorts the rows of GPTQ weights with act-order by their groups, keeping the order of a group's
// rows. The results are what repack_gptq() and moe_gemm() take: the stable permutation, and each
// row's group in the new order. Compares each row with all others: meant for load time.
struct SortRowsByGroupArgs {
  int num_experts = 0;
  int k = 0;                    // rows, a multiple of 64
  const int* g_idx = nullptr;   // [num_experts, k], group of each row, in any order
  int* perm = nullptr;          // [num_experts, k], row of the checkpoint for each sorted row
  int* sorted_g_idx = nullptr;  // [num_experts, k], ascending
  cudaStream_t stream = nullptr;
};
Status sort_rows_by_group(const SortRowsByGroupArgs& args);

// Integer weights packed along their columns, as AWQ stores them: the elements of a word are eight
// columns in the order [0, 2, 4, 6, 1, 3, 5, 7], or four in the order [0, 2, 1, 3].
struct RepackAwqArgs {
  WeightShape shape;              // b_type: kU4, kU4B8, kU8B128
  const void* qweight = nullptr;  // int32 [num_experts, source_k, source_n * bits / 32]
  // Read only with b_type kU4. With a_type kFE4M3fn, zero points change how weights are encoded;
  // with fewer rows than k, they say which weight is 0.
  const void* qzeros = nullptr;  // int32 [num_experts, groups of source_k rows, source_n / 8], in
                                 // AWQ's order
  int num_groups = 0;            // of the result, a divisor of k
  void* out = nullptr;           // int32 [num_experts, k / 16, n * bits / 2]
  cudaStream_t stream = nullptr;
};
Status repack_awq(const RepackAwqArgs& args);

// Weights whose output columns are rows, as FP8, MXFP4 and NVFP4 checkpoints store them.
struct RepackRowsArgs {
  WeightShape shape;              // b_type: not kU4 with a_type kFE4M3fn
  const void* weights = nullptr;  // uint8 [num_experts, source_n, source_k * bits / 8]; of two in
                                  // a byte, the low nibble has the even row
  void* out = nullptr;            // int32 [num_experts, k / 16, n * bits / 2]
  cudaStream_t stream = nullptr;
};
Status repack_rows(const RepackRowsArgs& args);

// Scales of weights, as moe_gemm() takes them:
//  - s_type = c_type: permuted, and multiplied by 2^d, d the exponent deficit of weights that the
//    kernels dequantise: 8 (kFloat16) or 120 (kBFloat16) for b_type kFE4M3fn beside 16-bit
//    activations of the same type, 9 for integer weights beside a_type kFE4M3fn. The product is
//    rounded to the nearest: from 65520 (kFloat16) or nearly 2^128 (kBFloat16) on it is infinite,
//    below 2^-14 or 2^-126 it loses bits, down to 0;
//  - the same in several groups beside a_type kS8: to int16 multiples of global_scales[expert], the
//    expert's largest magnitude / 4096, permuted;
//  - kFE4M3fn (NVFP4): to the upper byte of the kFloat16 number s * 2^7 without its sign, permuted.
//    A NaN stays one beside kFloat16; beside kBFloat16 the GEMM reads it as infinity, which times a
//    weight of 0 and in a sum with products of both signs is NaN;
//  - kFE8M0fnu (MXFP4, MXFP8): permuted; of kFE2M1f weights beside a_type kFE4M3fn multiplied by
//    2^6 as well. A NaN stays one, which beside a_type kFE4M3fn may make infinity. Beside 16-bit
//    activations scales above 2^64 (of kFE4M3fn weights 2^31) are infinite or NaN to the GEMM;
//    below 2^-60 (2^-93) weights lose bits.
//
// One scale for a block of 128 rows and 128 columns, as in DeepSeek-V3's weight_scale_inv of
// [source_n / 128, source_k / 128], each rounded up: group_size = columns_per_scale = 128,
// columns_first, source_groups = source_k / 128, rounded up. One scale for a whole matrix:
// num_groups = 1, columns_per_scale = source_n / column_parts.
struct PermuteScalesArgs {
  int num_experts = 0;
  int num_groups = 1;
  int n = 0;  // a multiple of 64
  ScalarType a_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  ScalarType b_type = MARLIN_TYPE_NAMESPACE::kU4B8;
  ScalarType c_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  ScalarType s_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  int group_size = kGroupSizeChannel;  // as moe_gemm() will be given it; num_groups = 1 is a scale
                                       // per column, whatever it says
  int source_n = 0;                    // as in WeightShape
  int source_groups = 0;               // of the source; 0: num_groups
  int column_parts = 0;                // as in WeightShape
  // Columns that share a scale of the source: blocks of so many, from the first column of each part
  // on; the last block of a part may be smaller. 0: 1.
  int columns_per_scale = 0;
  bool columns_first = false;    // the source is [num_experts, its scales in a row, source_groups]
  bool float32_scales = false;   // of the source; with s_type = c_type. It is s_type otherwise
  const void* scales = nullptr;  // s_type or float32 [num_experts, source_groups, column_parts *
                                 // (source_n / column_parts / columns_per_scale, rounded up)]
  void* out = nullptr;           // s_type [num_experts, num_groups, n]
  // With a_type kS8: [num_experts], aligned to 4 bytes, for moe_gemm(). Needed with more than one
  // group. With one group it may be null; else it becomes ones.
  float* global_scales = nullptr;
  cudaStream_t stream = nullptr;
};
Status permute_scales(const PermuteScalesArgs& args);

// The global scales of NVFP4 weights, times 2^7 (c_type kFloat16) or 2^119 (kBFloat16).
struct ScaleGlobalScalesArgs {
  int num_experts = 0;
  ScalarType c_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  const float* global_scales = nullptr;  // [num_experts], aligned to 4 bytes
  float* out = nullptr;                  // [num_experts], aligned to 4 bytes
  cudaStream_t stream = nullptr;
};
Status scale_global_scales(const ScaleGlobalScalesArgs& args);

struct PermuteBiasArgs {
  int num_experts = 0;
  int n = 0;                   // a multiple of 64
  int source_n = 0;            // as in WeightShape
  int column_parts = 0;        // as in WeightShape
  const void* bias = nullptr;  // [num_experts, source_n] of a 16-bit type
  void* out = nullptr;         // [num_experts, n]
  cudaStream_t stream = nullptr;
};
Status permute_bias(const PermuteBiasArgs& args);

// Zero points of kU4 weights, packed as AWQ does it.
struct PermuteZeroPointsArgs {
  int num_experts = 0;
  int num_groups = 1;
  int n = 0;  // a multiple of 64
  ScalarType a_type = MARLIN_TYPE_NAMESPACE::kFloat16;
  int source_n = 0;              // as in WeightShape, a multiple of 8
  int source_groups = 0;         // of the source; 0: num_groups
  int column_parts = 0;          // as in WeightShape
  const void* qzeros = nullptr;  // int32 [num_experts, source_groups, source_n / 8], in AWQ's order
  void* out = nullptr;           // int32 [num_experts, num_groups, n / 8]
  cudaStream_t stream = nullptr;
};
Status permute_zero_points(const PermuteZeroPointsArgs& args);

}  // namespace marlin_moe
