// Permutes scales, biases and zero points. A thread writes one element, or one word of zero points.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>

#include "argument_checker.h"
#include "launch.h"
#include "marlin_moe/host/cuda_status.h"
#include "marlin_moe/plan/layout.h"
#include "marlin_moe/prepare.h"
#include "source_columns.h"

namespace marlin_moe {

// A block writes kGroupsPerBlock rows of 64 columns: a source with columns first has those groups
// of a column in few cache lines.
static constexpr int kColumnsPerBlock = 64;
static constexpr int kGroupsPerBlock = 32;
static constexpr int kScaleThreads = 256;
static constexpr int kMostInGridY = 65535;

// Number formats of scales in memory.

struct Half {
  using Stored = __half;
  __device__ __forceinline__ static float value(Stored s) { return __half2float(s); }
  __device__ __forceinline__ static Stored rounded(float x) { return __float2half_rn(x); }
};

struct BFloat16 {
  using Stored = __nv_bfloat16;
  __device__ __forceinline__ static float value(Stored s) { return __bfloat162float(s); }
  __device__ __forceinline__ static Stored rounded(float x) { return __float2bfloat16_rn(x); }
};

struct Float32 {
  using Stored = float;
  __device__ __forceinline__ static float value(Stored s) { return s; }
};

// What becomes of one scale. Each has `Source` and `Scale`, the types in memory before and after,
// and operator().

struct CopiedScale {
  using Source = std::uint16_t;
  using Scale = std::uint16_t;
  __device__ __forceinline__ Scale operator()(Source bits) const { return bits; }
};

template <class From, class To>
struct MultipliedScale {
  using Source = typename From::Stored;
  using Scale = typename To::Stored;
  float factor;
  __device__ __forceinline__ Scale operator()(Source s) const {
    return To::rounded(From::value(s) * factor);
  }
};

// A scale as a multiple of its expert's unit, in 16 bits. A block has one expert.
template <class From>
struct FixedPointScale {
  using Source = typename From::Stored;
  using Scale = std::uint16_t;
  const float* units;
  __device__ __forceinline__ Scale operator()(Source s) const {
    const float unit = units[blockIdx.y];
    if (unit == 0.0f) return 0;
    return static_cast<Scale>(__float2int_rn(__fdiv_rn(From::value(s), unit)));
  }
};

// e4m3 to the upper byte of the f16 number s * 2^7 shifted left by one, which drops the sign. In
// f16, e4m3's fields lie three bits lower and its exponent's bias is 8 larger: s's bits, moved
// there, are s * 2^-8, and 2^15 brings them to s * 2^7.
struct Nvfp4Scale {
  using Source = std::uint8_t;
  using Scale = std::uint8_t;
  __device__ __forceinline__ Scale operator()(Source s) const {
    constexpr std::uint32_t kNan = 0xfc;  // f16's; infinity beside bf16 (fp4_weights.cuh)
    if ((s & 0x7f) == 0x7f) return kNan;
    const __half small = __ushort_as_half(static_cast<unsigned short>((s & 0x7f) << 7));
    const __half scaled = __float2half_rn(__half2float(small) * 32768.0f);
    return static_cast<Scale>(__half_as_ushort(scaled) >> 7);
  }
};

// e8m0 times a power of two; 255 is its NaN.
struct ExponentScale {
  using Source = std::uint8_t;
  using Scale = std::uint8_t;
  int power;
  __device__ __forceinline__ Scale operator()(Source s) const {
    if (s == 255) return s;
    return static_cast<Scale>(min(s + power, 254));
  }
};

// Which scales of a row of the source belong to the result's columns. A part of the source begins
// with a scale of its own.
struct SourceScales {
  int part;         // columns of a part of the result
  int source_part;  // columns of a part of the source
  int columns_per_scale;
  int part_scales;  // scales of a part of the source
  int in_row;       // scales in a row of the source

  SourceScales(const SourceColumns& columns, int per_scale)
      : part(columns.part),
        source_part(columns.source_part),
        columns_per_scale(per_scale),
        part_scales((source_part + per_scale - 1) / per_scale),
        in_row(columns.source_n / source_part * part_scales) {}

  // The source's scale for a column of the result; negative: padding.
  __device__ __forceinline__ int at(int column) const {
    const int index = column / part;
    const int within = column - index * part;
    return within < source_part ? index * part_scales + within / columns_per_scale : -1;
  }
};

struct ScaleShape {
  int num_groups;
  int n;
  ColumnOrder order;
  bool byte_order;  // [0, 2, 1, 3] of every four on top of `order`
  bool columns_first;
  int source_groups;
  SourceScales source;  // what the source does not have becomes zeros
};

template <class Change>
__global__ void permute_scales_kernel(const ScaleShape shape, const Change change,
                                      const typename Change::Source* scales,
                                      typename Change::Scale* out) {
  const int position =
      static_cast<int>(blockIdx.x) % (shape.n / kColumnsPerBlock) * kColumnsPerBlock +
      static_cast<int>(threadIdx.x) % kColumnsPerBlock;
  const int first_group =
      static_cast<int>(blockIdx.x) / (shape.n / kColumnsPerBlock) * kGroupsPerBlock;
  const int last_group = min(first_group + kGroupsPerBlock, shape.num_groups);
  const std::int64_t expert = blockIdx.y;
  const int place = shape.source.at(
      column_at(shape.order, shape.byte_order ? byte_scale_at(position) : position));
  for (int group = first_group + static_cast<int>(threadIdx.x) / kColumnsPerBlock;
       group < last_group; group += kScaleThreads / kColumnsPerBlock) {
    const std::int64_t source =
        shape.columns_first ? (expert * shape.source.in_row + place) * shape.source_groups + group
                            : (expert * shape.source_groups + group) * shape.source.in_row + place;
    const bool padding = place < 0 || group >= shape.source_groups;
    out[(expert * shape.num_groups + group) * shape.n + position] =
        change(padding ? typename Change::Source{} : scales[source]);
  }
}

template <class Change>
static Status launch_scales(const char* name, int num_experts, const ScaleShape& shape,
                            const Change& change, const void* scales, void* out,
                            cudaStream_t stream) {
  const int group_blocks = (shape.num_groups + kGroupsPerBlock - 1) / kGroupsPerBlock;
  const dim3 grid(static_cast<unsigned>(shape.n / kColumnsPerBlock * group_blocks),
                  static_cast<unsigned>(num_experts));
  return launch(name, permute_scales_kernel<Change>, grid, kScaleThreads, 0, stream, shape, change,
                static_cast<const typename Change::Source*>(scales),
                static_cast<typename Change::Scale*>(out));
}

// What the largest magnitude is a multiple of, in fixed point.
static constexpr float kFixedPointOne = 4096.0f;

// Raises units[expert], which start at 0, to the expert's largest magnitude / kFixedPointOne. As
// integers, magnitudes have the order of the numbers, and NaN is above all of them: it is kept.
template <class From>
__global__ void find_units_kernel(std::int64_t count, const typename From::Stored* scales,
                                  float* units) {
  const typename From::Stored* own = scales + blockIdx.y * count;
  int largest = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    largest = max(largest, __float_as_int(fabsf(From::value(own[i]))));
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  if (threadIdx.x % 32 == 0) {
    const float unit = __int_as_float(largest) / kFixedPointOne;
    atomicMax(reinterpret_cast<int*>(units + blockIdx.y), __float_as_int(unit));
  }
}

__global__ void write_ones_kernel(int count, float* ones) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) ones[i] = 1.0f;
}

template <class From>
static Status fixed_point_scales(const PermuteScalesArgs& args, const ScaleShape& shape) {
  const char* name = "permute_scales";
  const std::size_t bytes = static_cast<std::size_t>(args.num_experts) * sizeof(float);
  Status status = cuda_status(cudaMemsetAsync(args.global_scales, 0, bytes, args.stream), name);
  if (!status.ok()) return status;
  const std::int64_t count = static_cast<std::int64_t>(shape.source_groups) * shape.source.in_row;
  constexpr std::int64_t kMostBlocks = 64;  // of an expert
  const std::int64_t blocks = std::min(kMostBlocks, (count + kScaleThreads - 1) / kScaleThreads);
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(args.num_experts));
  status = launch(name, find_units_kernel<From>, grid, kScaleThreads, 0, args.stream, count,
                  static_cast<const typename From::Stored*>(args.scales), args.global_scales);
  if (!status.ok()) return status;
  return launch_scales(name, args.num_experts, shape, FixedPointScale<From>{args.global_scales},
                       args.scales, args.out, args.stream);
}

// The power of two by which dequantised weights are too small, which scales of the output's type
// make up for (kernel/dequant.cuh).
static int exponent_deficit(const PermuteScalesArgs& args) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  if (args.a_type == types::kFE4M3fn) return args.b_type.is_integer() ? 9 : 0;
  // Kernels with another output type than the activations' make up for it themselves.
  if (args.a_type != args.c_type) return 0;
  if (args.b_type == types::kFE4M3fn) return args.c_type == types::kFloat16 ? 8 : 120;
  return 0;
}

// Scales of a 16-bit type, which `To` is.
template <class To>
static Status multiplied_scales(const PermuteScalesArgs& args, const ScaleShape& shape) {
  const auto start = [&](const auto& change) {
    return launch_scales("permute_scales", args.num_experts, shape, change, args.scales, args.out,
                         args.stream);
  };
  const int deficit = exponent_deficit(args);
  const float factor = __builtin_ldexpf(1.0f, deficit);
  if (args.float32_scales) return start(MultipliedScale<Float32, To>{factor});
  if (deficit == 0) return start(CopiedScale{});
  return start(MultipliedScale<To, To>{factor});
}

static void check_scale_types(const PermuteScalesArgs& args, ArgumentChecker* checker) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  checker->type("a_type", args.a_type,
                {types::kFloat16, types::kBFloat16, types::kS8, types::kFE4M3fn});
  checker->type("b_type", args.b_type,
                {types::kU4, types::kU4B8, types::kU8B128, types::kFE4M3fn, types::kFE2M1f});
  checker->type("c_type", args.c_type, {types::kFloat16, types::kBFloat16});
  if (args.b_type == types::kFE2M1f) {
    checker->type("s_type", args.s_type, {types::kFE4M3fn, types::kFE8M0fnu},
                  " with b_type = kFE2M1f");
  } else if (args.b_type == types::kFE4M3fn) {
    checker->type("s_type", args.s_type, {args.c_type, types::kFE8M0fnu},
                  " with b_type = kFE4M3fn and c_type = " + type_name(args.c_type));
  } else {
    checker->type(
        "s_type", args.s_type, {args.c_type},
        " with b_type = " + type_name(args.b_type) + " and c_type = " + type_name(args.c_type));
  }
  if (args.s_type == types::kFE4M3fn) {
    checker->type("a_type", args.a_type, {types::kFloat16, types::kBFloat16},
                  " with s_type = kFE4M3fn");
  } else if (args.s_type == types::kFE8M0fnu) {
    checker->type("a_type", args.a_type, {types::kFloat16, types::kBFloat16, types::kFE4M3fn},
                  " with s_type = kFE8M0fnu");
  }
  if (args.float32_scales && args.s_type.size_bits() != 16) {
    checker->refuse("float32_scales", "true with s_type = " + type_name(args.s_type),
                    "false; or s_type = c_type");
  }
}

static void check_groups(const PermuteScalesArgs& args, ArgumentChecker* checker) {
  checker->group_size(args.group_size, args.num_groups == 1);
  checker->range("num_groups", args.num_groups, 1,
                 args.group_size == kGroupSizeChannel ? 1 : 1 << 20);
}

Status permute_scales(const PermuteScalesArgs& args) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  ArgumentChecker checker;
  checker.range("num_experts", args.num_experts, 1, kMostInGridY);
  checker.dimension("n", args.n, 64);
  check_scale_types(args, &checker);
  check_groups(args, &checker);
  const SourceColumns columns =
      source_columns(args.n, args.source_n, args.column_parts, 1, &checker);
  const int source_groups =
      source_rows("source_groups", args.source_groups, "num_groups", args.num_groups, 1, &checker);
  checker.range("columns_per_scale", args.columns_per_scale, 0, 1 << 20);
  checker.pointer("scales", args.scales, 16);
  checker.pointer("out", args.out, 16);
  const bool per_column = scale_group_size(args.group_size, args.num_groups) == kGroupSizeChannel;
  const bool fixed_point = args.a_type == types::kS8 && !per_column;
  if (fixed_point) {
    checker.pointer("global_scales", args.global_scales, 4);
  } else if (args.a_type == types::kS8) {
    checker.optional_pointer("global_scales", args.global_scales, 4);
  }
  if (!checker.ok()) return checker.status();

  const bool eight_bit_a = args.a_type.size_bits() == 8;
  const bool channel = per_column || eight_bit_a;
  const ScaleShape shape{args.num_groups,
                         args.n,
                         channel ? ColumnOrder::kChannel : ColumnOrder::kGrouped,
                         args.s_type.size_bits() == 8 && !eight_bit_a,
                         args.columns_first,
                         source_groups,
                         SourceScales{columns, std::max(args.columns_per_scale, 1)}};
  const auto start = [&](const auto& change) {
    return launch_scales("permute_scales", args.num_experts, shape, change, args.scales, args.out,
                         args.stream);
  };
  if (args.s_type == types::kFE4M3fn) return start(Nvfp4Scale{});
  if (args.s_type == types::kFE8M0fnu) {
    return start(ExponentScale{eight_bit_a && args.b_type == types::kFE2M1f ? 6 : 0});
  }
  if (fixed_point) {
    if (args.float32_scales) return fixed_point_scales<Float32>(args, shape);
    return args.s_type == types::kFloat16 ? fixed_point_scales<Half>(args, shape)
                                          : fixed_point_scales<BFloat16>(args, shape);
  }
  if (args.a_type == types::kS8 && args.global_scales != nullptr) {
    const int blocks = (args.num_experts + kScaleThreads - 1) / kScaleThreads;
    Status status = launch("permute_scales", write_ones_kernel, dim3(static_cast<unsigned>(blocks)),
                           kScaleThreads, 0, args.stream, args.num_experts, args.global_scales);
    if (!status.ok()) return status;
  }
  return args.s_type == types::kFloat16 ? multiplied_scales<Half>(args, shape)
                                        : multiplied_scales<BFloat16>(args, shape);
}

Status permute_bias(const PermuteBiasArgs& args) {
  ArgumentChecker checker;
  checker.range("num_experts", args.num_experts, 1, kMostInGridY);
  checker.dimension("n", args.n, 64);
  const SourceColumns columns =
      source_columns(args.n, args.source_n, args.column_parts, 1, &checker);
  checker.pointer("bias", args.bias, 16);
  checker.pointer("out", args.out, 16);
  if (!checker.ok()) return checker.status();
  const ScaleShape shape{1,     args.n, ColumnOrder::kChannel,   false,
                         false, 1,      SourceScales{columns, 1}};
  return launch_scales("permute_bias", args.num_experts, shape, CopiedScale{}, args.bias, args.out,
                       args.stream);
}

struct ZeroPointShape {
  bool eight_bit_a;
  int words_per_row;
  std::int64_t words;
  int num_groups;
  int source_groups;
  SourceColumns columns;
};

__global__ void permute_zero_points_kernel(const ZeroPointShape shape, const std::uint32_t* qzeros,
                                           std::uint32_t* out) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= shape.words) return;
  const int word = static_cast<int>(index % shape.words_per_row);
  const std::int64_t row_index = index / shape.words_per_row;
  const int group = static_cast<int>(row_index % shape.num_groups);
  const std::int64_t source_row = row_index / shape.num_groups * shape.source_groups + group;
  const std::uint32_t* row = qzeros + source_row * (shape.columns.source_n / 8);
  std::uint32_t packed = 0;
#pragma unroll
  for (int position = 0; position < 8; ++position) {
    const int column = shape.columns.at(zero_point_column_at(shape.eight_bit_a, {word, position}));
    if (column < 0 || group >= shape.source_groups) continue;
    const std::uint32_t zero = row[column / 8] >> (4 * place_of_eight(column % 8)) & 15;
    packed |= zero << (4 * position);
  }
  out[index] = packed;
}

Status permute_zero_points(const PermuteZeroPointsArgs& args) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  ArgumentChecker checker;
  checker.range("num_experts", args.num_experts, 1, kMostInGridY);
  checker.range("num_groups", args.num_groups, 1, 1 << 20);
  checker.dimension("n", args.n, 64);
  checker.type("a_type", args.a_type,
               {types::kFloat16, types::kBFloat16, types::kS8, types::kFE4M3fn});
  const SourceColumns columns =
      source_columns(args.n, args.source_n, args.column_parts, 8, &checker);
  const int source_groups =
      source_rows("source_groups", args.source_groups, "num_groups", args.num_groups, 1, &checker);
  checker.pointer("qzeros", args.qzeros, 16);
  checker.pointer("out", args.out, 16);
  const std::int64_t words =
      static_cast<std::int64_t>(args.num_experts) * args.num_groups * (args.n / 8);
  const std::int64_t blocks = (words + kScaleThreads - 1) / kScaleThreads;
  checker.range("num_experts * num_groups * n / 2048", blocks, 1, 0x7fffffff);
  if (!checker.ok()) return checker.status();
  const ZeroPointShape shape{
      args.a_type.size_bits() == 8, args.n / 8, words, args.num_groups, source_groups, columns};
  return launch("permute_zero_points", permute_zero_points_kernel,
                dim3(static_cast<unsigned>(blocks)), kScaleThreads, 0, args.stream, shape,
                static_cast<const std::uint32_t*>(args.qzeros),
                static_cast<std::uint32_t*>(args.out));
}

__global__ void scale_global_scales_kernel(int count, float factor, const float* from, float* to) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) to[i] = from[i] * factor;
}

Status scale_global_scales(const ScaleGlobalScalesArgs& args) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  ArgumentChecker checker;
  checker.range("num_experts", args.num_experts, 1, kMostInGridY);
  checker.type("c_type", args.c_type, {types::kFloat16, types::kBFloat16});
  checker.pointer("global_scales", args.global_scales, 4);
  checker.pointer("out", args.out, 4);
  if (!checker.ok()) return checker.status();
  const float factor = __builtin_ldexpf(1.0f, args.c_type == types::kFloat16 ? 7 : 119);
  const int blocks = (args.num_experts + kScaleThreads - 1) / kScaleThreads;
  return launch("scale_global_scales", scale_global_scales_kernel,
                dim3(static_cast<unsigned>(blocks)), kScaleThreads, 0, args.stream,
                args.num_experts, factor, args.global_scales, args.out);
}

}  // namespace marlin_moe
