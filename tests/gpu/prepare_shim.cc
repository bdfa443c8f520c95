// A C interface to the functions around the GEMM (prepare.h, moe_align.h, activations.h) for the
// Python tests, with the device memory and the timing that they need.
//
// Each argument struct is described by one list of fields: the test's own plain struct, the text
// that Python builds its struct from, and the conversion all come from it.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "marlin_moe/activations.h"
#include "marlin_moe/moe_align.h"
#include "marlin_moe/prepare.h"
#include "tests/gpu/shim_support.h"

// FIELD(type, name, path of the field in the library's struct)

#define PREPARE_TEST_SHAPE(FIELD)              \
  FIELD(int32, num_experts, shape.num_experts) \
  FIELD(int32, n, shape.n)                     \
  FIELD(int32, k, shape.k)                     \
  FIELD(int64, a_type, shape.a_type)           \
  FIELD(int64, b_type, shape.b_type)           \
  FIELD(int32, source_n, shape.source_n)       \
  FIELD(int32, source_k, shape.source_k)       \
  FIELD(int32, column_parts, shape.column_parts)

#define PREPARE_TEST_REPACK_GPTQ(FIELD) \
  PREPARE_TEST_SHAPE(FIELD)             \
  FIELD(pointer, qweight, qweight)      \
  FIELD(pointer, perm, perm)            \
  FIELD(pointer, out, out)              \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_REPACK_AWQ(FIELD) \
  PREPARE_TEST_SHAPE(FIELD)            \
  FIELD(int32, num_groups, num_groups) \
  FIELD(pointer, qweight, qweight)     \
  FIELD(pointer, qzeros, qzeros)       \
  FIELD(pointer, out, out)             \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_REPACK_ROWS(FIELD) \
  PREPARE_TEST_SHAPE(FIELD)             \
  FIELD(pointer, weights, weights)      \
  FIELD(pointer, out, out)              \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_SORT_ROWS_BY_GROUP(FIELD) \
  FIELD(int32, num_experts, num_experts)       \
  FIELD(int32, k, k)                           \
  FIELD(pointer, g_idx, g_idx)                 \
  FIELD(pointer, perm, perm)                   \
  FIELD(pointer, sorted_g_idx, sorted_g_idx)   \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_PERMUTE_SCALES(FIELD)           \
  FIELD(int32, num_experts, num_experts)             \
  FIELD(int32, num_groups, num_groups)               \
  FIELD(int32, n, n)                                 \
  FIELD(int32, group_size, group_size)               \
  FIELD(int32, columns_first, columns_first)         \
  FIELD(int32, source_n, source_n)                   \
  FIELD(int32, source_groups, source_groups)         \
  FIELD(int32, column_parts, column_parts)           \
  FIELD(int32, columns_per_scale, columns_per_scale) \
  FIELD(int32, float32_scales, float32_scales)       \
  FIELD(int64, a_type, a_type)                       \
  FIELD(int64, b_type, b_type)                       \
  FIELD(int64, c_type, c_type)                       \
  FIELD(int64, s_type, s_type)                       \
  FIELD(pointer, scales, scales)                     \
  FIELD(pointer, global_scales, global_scales)       \
  FIELD(pointer, out, out)                           \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_SCALE_GLOBAL_SCALES(FIELD) \
  FIELD(int32, num_experts, num_experts)        \
  FIELD(int64, c_type, c_type)                  \
  FIELD(pointer, global_scales, global_scales)  \
  FIELD(pointer, out, out)                      \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_PERMUTE_BIAS(FIELD)   \
  FIELD(int32, num_experts, num_experts)   \
  FIELD(int32, n, n)                       \
  FIELD(int32, source_n, source_n)         \
  FIELD(int32, column_parts, column_parts) \
  FIELD(pointer, bias, bias)               \
  FIELD(pointer, out, out)                 \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_PERMUTE_ZERO_POINTS(FIELD) \
  FIELD(int32, num_experts, num_experts)        \
  FIELD(int32, num_groups, num_groups)          \
  FIELD(int32, n, n)                            \
  FIELD(int64, a_type, a_type)                  \
  FIELD(int32, source_n, source_n)              \
  FIELD(int32, source_groups, source_groups)    \
  FIELD(int32, column_parts, column_parts)      \
  FIELD(pointer, qzeros, qzeros)                \
  FIELD(pointer, out, out)                      \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_MOE_ALIGN(FIELD)                            \
  FIELD(int32, num_ids, num_ids)                                 \
  FIELD(int32, num_experts, num_experts)                         \
  FIELD(int32, block_size, block_size)                           \
  FIELD(int32, drop_remote, drop_remote)                         \
  FIELD(int64, workspace_bytes, workspace_bytes)                 \
  FIELD(pointer, topk_ids, topk_ids)                             \
  FIELD(pointer, expert_map, expert_map)                         \
  FIELD(pointer, sorted_token_ids, sorted_token_ids)             \
  FIELD(pointer, expert_ids, expert_ids)                         \
  FIELD(pointer, num_tokens_past_padded, num_tokens_past_padded) \
  FIELD(pointer, workspace, workspace)                           \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_QUANTIZE_ACTIVATIONS(FIELD) \
  FIELD(int32, m, m)                             \
  FIELD(int32, k, k)                             \
  FIELD(int64, x_type, x_type)                   \
  FIELD(int64, out_type, out_type)               \
  FIELD(int64, x_stride, x_stride)               \
  FIELD(pointer, x, x)                           \
  FIELD(pointer, out, out)                       \
  FIELD(pointer, scales, scales)                 \
  FIELD(pointer, factor, factor)                 \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_ACT_AND_MUL(FIELD)  \
  FIELD(int32, m, m)                     \
  FIELD(int32, n, n)                     \
  FIELD(int64, type, type)               \
  FIELD(int32, activation, activation)   \
  FIELD(int32, interleaved, interleaved) \
  FIELD(float32, alpha, alpha)           \
  FIELD(float32, limit, limit)           \
  FIELD(pointer, x, x)                   \
  FIELD(pointer, out, out)               \
  FIELD(pointer, stream, stream)

#define PREPARE_TEST_TOPK_SUM(FIELD)     \
  FIELD(int32, m, m)                     \
  FIELD(int32, n, n)                     \
  FIELD(int32, top_k, top_k)             \
  FIELD(int32, num_experts, num_experts) \
  FIELD(int64, type, type)               \
  FIELD(pointer, x, x)                   \
  FIELD(pointer, out, out)               \
  FIELD(pointer, topk_ids, topk_ids)     \
  FIELD(pointer, expert_map, expert_map) \
  FIELD(pointer, stream, stream)

namespace {

// Conversions of the plain fields.
void assign(int32 from, int* to) { *to = from; }
void assign(int32 from, bool* to) { *to = from != 0; }
void assign(int32 from, moe::Activation* to) { *to = static_cast<moe::Activation>(from); }
void assign(float32 from, float* to) { *to = from; }
void assign(int64 from, std::size_t* to) { *to = static_cast<std::size_t>(from); }
void assign(int64 from, std::int64_t* to) { *to = from; }
void assign(int64 from, moe::ScalarType* to) { *to = moe::ScalarType::from_id(from); }
void assign(pointer from, cudaStream_t* to) { *to = static_cast<cudaStream_t>(from); }
template <class Pointee>
void assign(pointer from, Pointee** to) {
  *to = static_cast<Pointee*>(from);
}

// A function under test: its plain struct, and what calls it.
struct Function {
  const char* name;
  const char* fields;
  std::size_t size;
  moe::Status (*call)(const void* plain, cudaStream_t stream);
};

#define PREPARE_TEST_DECLARE(type, name, path) type name;
#define PREPARE_TEST_DESCRIBE(type, name, path) #type " " #name ";"
#define PREPARE_TEST_ASSIGN(type, name, path) assign(in.name, &out.path);
// Defines the plain struct of a function and its entry of the table.
#define PREPARE_TEST_FUNCTION(FIELDS, Args, function)                                  \
  struct Test##Args {                                                                  \
    FIELDS(PREPARE_TEST_DECLARE)                                                       \
  };                                                                                   \
  moe::Args convert(const Test##Args& in) {                                            \
    moe::Args out;                                                                     \
    FIELDS(PREPARE_TEST_ASSIGN)                                                        \
    return out;                                                                        \
  }                                                                                    \
  moe::Status call_##function(const void* plain, cudaStream_t stream) {                \
    moe::Args args = convert(*static_cast<const Test##Args*>(plain));                  \
    if (stream != nullptr) args.stream = stream;                                       \
    return moe::function(args);                                                        \
  }                                                                                    \
  constexpr Function kFunction_##function = {#function, FIELDS(PREPARE_TEST_DESCRIBE), \
                                             sizeof(Test##Args), call_##function};

PREPARE_TEST_FUNCTION(PREPARE_TEST_REPACK_GPTQ, RepackGptqArgs, repack_gptq)
PREPARE_TEST_FUNCTION(PREPARE_TEST_REPACK_AWQ, RepackAwqArgs, repack_awq)
PREPARE_TEST_FUNCTION(PREPARE_TEST_REPACK_ROWS, RepackRowsArgs, repack_rows)
PREPARE_TEST_FUNCTION(PREPARE_TEST_SORT_ROWS_BY_GROUP, SortRowsByGroupArgs, sort_rows_by_group)
PREPARE_TEST_FUNCTION(PREPARE_TEST_PERMUTE_SCALES, PermuteScalesArgs, permute_scales)
PREPARE_TEST_FUNCTION(PREPARE_TEST_SCALE_GLOBAL_SCALES, ScaleGlobalScalesArgs, scale_global_scales)
PREPARE_TEST_FUNCTION(PREPARE_TEST_PERMUTE_BIAS, PermuteBiasArgs, permute_bias)
PREPARE_TEST_FUNCTION(PREPARE_TEST_PERMUTE_ZERO_POINTS, PermuteZeroPointsArgs, permute_zero_points)
PREPARE_TEST_FUNCTION(PREPARE_TEST_MOE_ALIGN, MoeAlignArgs, moe_align)
PREPARE_TEST_FUNCTION(PREPARE_TEST_QUANTIZE_ACTIVATIONS, QuantizeActivationsArgs,
                      quantize_activations)
PREPARE_TEST_FUNCTION(PREPARE_TEST_ACT_AND_MUL, ActAndMulArgs, act_and_mul)
PREPARE_TEST_FUNCTION(PREPARE_TEST_TOPK_SUM, TopkSumArgs, topk_sum)

constexpr Function kFunctions[] = {
    kFunction_repack_gptq,          kFunction_repack_awq,          kFunction_repack_rows,
    kFunction_sort_rows_by_group,   kFunction_permute_scales,      kFunction_scale_global_scales,
    kFunction_permute_bias,         kFunction_permute_zero_points, kFunction_moe_align,
    kFunction_quantize_activations, kFunction_act_and_mul,         kFunction_topk_sum};

const Function* find(const char* name) {
  for (const Function& function : kFunctions) {
    if (std::strcmp(function.name, name) == 0) return &function;
  }
  return nullptr;
}

// Captures `launches` calls into the timer's graph.
moe::Status capture(const Function& function, const void* args, int launches, Timer* timer) {
  SHIM_RETURN_IF_ERROR(timer->create());
  return timer->capture([&] {
    moe::Status status;
    for (int i = 0; i < launches && status.ok(); ++i) status = function.call(args, timer->stream);
    return status;
  });
}

moe::Status replay_once(const Function& function, const void* args) {
  Timer timer;
  SHIM_RETURN_IF_ERROR(capture(function, args, 1, &timer));
  SHIM_RETURN_IF_ERROR(timer.replay());
  SHIM_CUDA(cudaStreamSynchronize(timer.stream));
  return {};
}

moe::Status time_graph(const Function& function, const void* args, int launches, int repeats,
                       float* microseconds) {
  Timer timer;
  SHIM_RETURN_IF_ERROR(capture(function, args, launches, &timer));
  return timer.measure([&] { return timer.replay(); }, launches, repeats, microseconds);
}

}  // namespace

extern "C" {

// "type name;..." of a function's struct, in order; null if there is no such function.
const char* prepare_test_fields(const char* function) {
  const Function* found = find(function);
  return found == nullptr ? nullptr : found->fields;
}

std::size_t prepare_test_size(const char* function) { return find(function)->size; }

const char* prepare_test_status_name(int code) { return status_name(code); }

int64 prepare_test_type_id(const char* name) { return type_id(name); }

// Calls a function and, if it succeeded, waits for the device.
int prepare_test_call(const char* function, const void* args, char* message,
                      std::size_t message_bytes) {
  moe::Status status = find(function)->call(args, nullptr);
  if (status.ok()) status = cuda_status(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  return report(status, message, message_bytes);
}

// Captures a call into a CUDA graph, runs the graph once and waits.
int prepare_test_replay(const char* function, const void* args, char* message,
                        std::size_t message_bytes) {
  return report(replay_once(*find(function), args), message, message_bytes);
}

// Median device microseconds of one call out of `launches` in a CUDA graph.
int prepare_test_time(const char* function, const void* args, int launches, int repeats,
                      float* microseconds, char* message, std::size_t message_bytes) {
  return report(time_graph(*find(function), args, launches, repeats, microseconds), message,
                message_bytes);
}

std::int64_t prepare_test_align_capacity(int num_ids, int num_experts, int block_size) {
  return moe::moe_align_capacity(num_ids, num_experts, block_size);
}

int prepare_test_align_workspace_size(const void* args, std::int64_t* bytes, char* message,
                                      std::size_t message_bytes) {
  std::size_t size = 0;
  const moe::Status status =
      moe::moe_align_workspace_size(convert(*static_cast<const TestMoeAlignArgs*>(args)), &size);
  *bytes = static_cast<std::int64_t>(size);
  return report(status, message, message_bytes);
}

// Device memory. Each returns a CUDA error code.
int prepare_test_allocate(std::size_t bytes, void** memory) { return cudaMalloc(memory, bytes); }
int prepare_test_free(void* memory) { return cudaFree(memory); }
int prepare_test_to_device(void* to, const void* from, std::size_t bytes) {
  return cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice);
}
int prepare_test_to_host(void* to, const void* from, std::size_t bytes) {
  return cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost);
}
const char* prepare_test_error_string(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // extern "C"
