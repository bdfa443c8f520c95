// Element-wise work, eight elements (16 bytes) to a thread at a time.
#include "marlin_moe/activations.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>

#include "argument_checker.h"
#include "launch.h"

namespace marlin_moe {

static constexpr int kVector = 8;
static constexpr int kElementwiseThreads = 256;

// Arithmetic of a 16-bit type.
struct HalfNumbers {
  static __device__ __forceinline__ float unpack(std::uint32_t bits) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
  }
  static __device__ __forceinline__ std::uint32_t pack(float value) {
    return __half_as_ushort(__float2half_rn(value));
  }
};

struct BFloat16Numbers {
  static __device__ __forceinline__ float unpack(std::uint32_t bits) {
    return __uint_as_float(bits << 16);
  }
  static __device__ __forceinline__ std::uint32_t pack(float value) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
  }
};

template <class Numbers>
__device__ __forceinline__ void unpack_vector(const uint4& from, float (&to)[kVector]) {
  const std::uint32_t words[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = Numbers::unpack(words[i] & 0xffff);
    to[2 * i + 1] = Numbers::unpack(words[i] >> 16);
  }
}

template <class Numbers>
__device__ __forceinline__ uint4 pack_vector(const float (&from)[kVector]) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = Numbers::pack(from[2 * i]) | Numbers::pack(from[2 * i + 1]) << 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// Eight-bit types: the largest magnitude, and how a scaled number becomes a byte.

struct SignedBytes {
  static constexpr float kLargest = 127.0f;
  static __device__ __forceinline__ std::uint32_t byte(float value) {
    const int rounded = max(-127, min(127, __float2int_rn(value)));
    return static_cast<std::uint32_t>(rounded) & 0xff;
  }
};

struct Fp8Bytes {
  static constexpr float kLargest = 448.0f;
  static __device__ __forceinline__ std::uint32_t byte(float value) {
    return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
  }
};

// The larger of two magnitudes, of pairs of 16-bit floating-point numbers without their signs. As
// integers they have the same order, and NaN is above all numbers: it is kept.
__device__ __forceinline__ std::uint32_t larger_magnitudes(std::uint32_t largest,
                                                           std::uint32_t pair) {
  return __vmaxu2(largest, pair & 0x7fff7fffu);
}

// The largest 16-bit half over the block; every thread gets it.
__device__ __forceinline__ std::uint32_t largest_of_block(std::uint32_t pair) {
  __shared__ std::uint32_t warps[32];
  std::uint32_t largest = max(pair & 0xffff, pair >> 16);
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = largest;
  __syncthreads();
  for (unsigned i = 0; i < blockDim.x / 32; ++i) largest = max(largest, warps[i]);
  return largest;
}

template <class Numbers, class Bytes>
__global__ void quantize_rows_kernel(int vectors, std::int64_t in_stride, const std::uint16_t* in,
                                     uint2* out, float* scales, const float* factor) {
  const std::int64_t row = blockIdx.x;
  const uint4* from = reinterpret_cast<const uint4*>(in + row * in_stride);
  std::uint32_t pair = 0;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += static_cast<int>(blockDim.x)) {
    const uint4 bits = from[i];
    pair = larger_magnitudes(larger_magnitudes(pair, bits.x), bits.y);
    pair = larger_magnitudes(larger_magnitudes(pair, bits.z), bits.w);
  }
  const float scale = __fdiv_rn(Numbers::unpack(largest_of_block(pair)), Bytes::kLargest);
  if (threadIdx.x == 0) scales[row] = factor == nullptr ? scale : scale * *factor;
  const float divisor = scale == 0.0f ? 1.0f : scale;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += static_cast<int>(blockDim.x)) {
    float values[kVector];
    unpack_vector<Numbers>(from[i], values);
    std::uint32_t words[2] = {0, 0};
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      words[j / 4] |= Bytes::byte(__fdiv_rn(values[j], divisor)) << (8 * (j % 4));
    }
    out[row * vectors + i] = make_uint2(words[0], words[1]);
  }
}

static void check_16_bit_type(const char* name, ScalarType type, ArgumentChecker* checker) {
  checker->type(name, type, {MARLIN_TYPE_NAMESPACE::kFloat16, MARLIN_TYPE_NAMESPACE::kBFloat16});
}

Status quantize_activations(const QuantizeActivationsArgs& args) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  ArgumentChecker checker;
  checker.range("m", args.m, 0, std::numeric_limits<int>::max());
  checker.dimension("k", args.k, 16);
  check_16_bit_type("x_type", args.x_type, &checker);
  checker.type("out_type", args.out_type, {types::kS8, types::kFE4M3fn});
  if (!checker.ok() || args.m == 0) return checker.status();
  checker.pointer("x", args.x, 16);
  checker.stride("x_stride", args.x_stride, args.k, kVector);
  checker.pointer("out", args.out, 16);
  checker.pointer("scales", args.scales, 4);
  checker.optional_pointer("factor", args.factor, 4);
  if (!checker.ok()) return checker.status();

  const bool half = args.x_type == types::kFloat16;
  auto kernel = half ? quantize_rows_kernel<HalfNumbers, SignedBytes>
                     : quantize_rows_kernel<BFloat16Numbers, SignedBytes>;
  if (args.out_type == types::kFE4M3fn) {
    kernel = half ? quantize_rows_kernel<HalfNumbers, Fp8Bytes>
                  : quantize_rows_kernel<BFloat16Numbers, Fp8Bytes>;
  }
  const int vectors = args.k / kVector;
  const int threads = std::min(512, (vectors + 31) / 32 * 32);
  return launch("quantize_activations", kernel, dim3(static_cast<unsigned>(args.m)), threads, 0,
                args.stream, vectors, args.x_stride, static_cast<const std::uint16_t*>(args.x),
                static_cast<uint2*>(args.out), args.scales, args.factor);
}

// What comes of a gate and of the value beside it. Parameters are those of kSwigluOai.
struct ActivationParams {
  float alpha;
  float limit;
};

struct Silu {
  static __device__ __forceinline__ float apply(float gate, float up, const ActivationParams&) {
    return up * __fdiv_rn(gate, 1.0f + expf(-gate));
  }
};

struct Gelu {
  static __device__ __forceinline__ float apply(float gate, float up, const ActivationParams&) {
    // 1 + erf(x) as erfc(-x), which keeps its digits where erf is close to -1.
    return up * (0.5f * gate * erfcf(gate * -0.70710678f));
  }
};

struct GeluTanh {
  static __device__ __forceinline__ float apply(float gate, float up, const ActivationParams&) {
    // (1 + tanh(x)) / 2 as 1 / (1 + exp(-2 x)), for the same reason.
    const float twice = 1.59576912f * (gate + 0.044715f * gate * gate * gate);
    return up * __fdiv_rn(gate, 1.0f + expf(-twice));
  }
};

struct SwigluOai {
  static __device__ __forceinline__ float apply(float gate, float up,
                                                const ActivationParams& params) {
    // Comparisons keep NaN, fminf() does not.
    gate = gate > params.limit ? params.limit : gate;
    up = up > params.limit ? params.limit : up < -params.limit ? -params.limit : up;
    return (up + 1.0f) * __fdiv_rn(gate, 1.0f + expf(-params.alpha * gate));
  }
};

template <class Numbers, class Function, bool kInterleaved>
__global__ void act_and_mul_kernel(std::int64_t count, int vectors, ActivationParams params,
                                   const uint4* in, uint4* out) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const int column = static_cast<int>(index % vectors);
  const uint4* from = in + index / vectors * 2 * vectors + (kInterleaved ? 2 * column : column);
  float values[2][kVector];
  unpack_vector<Numbers>(from[0], values[0]);
  unpack_vector<Numbers>(from[kInterleaved ? 1 : vectors], values[1]);
  float results[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const int pair = 2 * (i % 4);
    results[i] = kInterleaved
                     ? Function::apply(values[i / 4][pair], values[i / 4][pair + 1], params)
                     : Function::apply(values[0][i], values[1][i], params);
  }
  out[index] = pack_vector<Numbers>(results);
}

using ActAndMulKernel = void (*)(std::int64_t, int, ActivationParams, const uint4*, uint4*);

template <class Numbers, class Function>
static ActAndMulKernel act_and_mul_kernel_for(bool interleaved) {
  return interleaved ? act_and_mul_kernel<Numbers, Function, true>
                     : act_and_mul_kernel<Numbers, Function, false>;
}

// Null for a number that is no activation.
template <class Numbers>
static ActAndMulKernel act_and_mul_kernel_for(Activation activation, bool interleaved) {
  switch (activation) {
    case Activation::kSilu:
      return act_and_mul_kernel_for<Numbers, Silu>(interleaved);
    case Activation::kGelu:
      return act_and_mul_kernel_for<Numbers, Gelu>(interleaved);
    case Activation::kGeluTanh:
      return act_and_mul_kernel_for<Numbers, GeluTanh>(interleaved);
    case Activation::kSwigluOai:
      return act_and_mul_kernel_for<Numbers, SwigluOai>(interleaved);
  }
  return nullptr;
}

// The blocks of a launch with a thread for each of m * vectors vectors.
static std::int64_t elementwise_blocks(int m, int vectors) {
  const std::int64_t count = static_cast<std::int64_t>(m) * vectors;
  return (count + kElementwiseThreads - 1) / kElementwiseThreads;
}

static void check_elementwise(int m, int n, ScalarType type, ArgumentChecker* checker) {
  checker->range("m", m, 0, std::numeric_limits<int>::max());
  checker->dimension("n", n, kVector);
  check_16_bit_type("type", type, checker);
  if (checker->ok() && elementwise_blocks(m, n / kVector) > std::numeric_limits<int>::max()) {
    checker->refuse("m", std::to_string(m), "fewer rows: m * n is more than one launch can index");
  }
}

static void check_positive(const char* name, float given, ArgumentChecker* checker) {
  if (given > 0.0f && std::isfinite(given)) return;
  std::ostringstream text;
  text << given;
  checker->refuse(name, text.str(), "a positive number that is finite");
}

Status act_and_mul(const ActAndMulArgs& args) {
  ArgumentChecker checker;
  check_elementwise(args.m, args.n, args.type, &checker);
  const bool half = args.type == MARLIN_TYPE_NAMESPACE::kFloat16;
  const auto kernel =
      half ? act_and_mul_kernel_for<HalfNumbers>(args.activation, args.interleaved)
           : act_and_mul_kernel_for<BFloat16Numbers>(args.activation, args.interleaved);
  if (kernel == nullptr) {
    checker.refuse("activation", std::to_string(static_cast<int>(args.activation)),
                   "kSilu, kGelu, kGeluTanh, kSwigluOai");
  }
  if (args.activation == Activation::kSwigluOai) {
    check_positive("alpha", args.alpha, &checker);
    check_positive("limit", args.limit, &checker);
  }
  if (!checker.ok() || args.m == 0) return checker.status();
  checker.pointer("x", args.x, 16);
  checker.pointer("out", args.out, 16);
  if (!checker.ok()) return checker.status();
  const int vectors = args.n / kVector;
  return launch("act_and_mul", kernel,
                dim3(static_cast<unsigned>(elementwise_blocks(args.m, vectors))),
                kElementwiseThreads, 0, args.stream, static_cast<std::int64_t>(args.m) * vectors,
                vectors, ActivationParams{args.alpha, args.limit},
                static_cast<const uint4*>(args.x), static_cast<uint4*>(args.out));
}

struct SumParams {
  std::int64_t count;  // vectors of the result
  int vectors;         // of a row
  int top_k;
  const uint4* in;
  uint4* out;
  const int* topk_ids;
  int num_experts;
  const int* expert_map;
};

__device__ __forceinline__ bool is_written(const SumParams& params, std::int64_t id) {
  if (params.topk_ids == nullptr) return true;
  const int expert = params.topk_ids[id];
  if (static_cast<unsigned>(expert) >= static_cast<unsigned>(params.num_experts)) return false;
  return params.expert_map == nullptr || params.expert_map[expert] >= 0;
}

template <class Numbers>
__global__ void topk_sum_kernel(const SumParams params) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= params.count) return;
  const std::int64_t first = index / params.vectors * params.top_k;
  const int vector = static_cast<int>(index % params.vectors);
  float sums[kVector] = {};
#pragma unroll 4
  for (int j = 0; j < params.top_k; ++j) {
    if (!is_written(params, first + j)) continue;
    float values[kVector];
    unpack_vector<Numbers>(params.in[(first + j) * params.vectors + vector], values);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sums[i] += values[i];
  }
  params.out[index] = pack_vector<Numbers>(sums);
}

Status topk_sum(const TopkSumArgs& args) {
  ArgumentChecker checker;
  check_elementwise(args.m, args.n, args.type, &checker);
  checker.range("top_k", args.top_k, 1, 1 << 20);
  if (args.topk_ids != nullptr) checker.range("num_experts", args.num_experts, 1, 1 << 20);
  if (args.topk_ids == nullptr && args.expert_map != nullptr) {
    checker.refuse("expert_map", "a pointer", "null, unless topk_ids is given");
  }
  if (!checker.ok() || args.m == 0) return checker.status();
  checker.pointer("x", args.x, 16);
  checker.pointer("out", args.out, 16);
  checker.optional_pointer("topk_ids", args.topk_ids, 4);
  checker.optional_pointer("expert_map", args.expert_map, 4);
  if (!checker.ok()) return checker.status();
  const int vectors = args.n / kVector;
  const SumParams params{static_cast<std::int64_t>(args.m) * vectors,
                         vectors,
                         args.top_k,
                         static_cast<const uint4*>(args.x),
                         static_cast<uint4*>(args.out),
                         args.topk_ids,
                         args.num_experts,
                         args.expert_map};
  const bool half = args.type == MARLIN_TYPE_NAMESPACE::kFloat16;
  return launch("topk_sum", half ? topk_sum_kernel<HalfNumbers> : topk_sum_kernel<BFloat16Numbers>,
                dim3(static_cast<unsigned>(elementwise_blocks(args.m, vectors))),
                kElementwiseThreads, 0, args.stream, params);
}

}  // namespace marlin_moe
