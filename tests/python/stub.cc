// The C++ API and the CUDA runtime in the place of the real ones, behind the real binding: it notes
// what it is called with, and answers what a test tells it to.
#include <tvm/ffi/tvm_ffi.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <sstream>
#include <string>

#include "marlin_moe/activations.h"
#include "marlin_moe/host/arguments.h"
#include "marlin_moe/moe_align.h"
#include "marlin_moe/moe_gemm.h"
#include "marlin_moe/prepare.h"

namespace {

using marlin_moe::Status;
using marlin_moe::StatusCode;

struct State {
  std::mutex mutex;
  std::string calls;
  int device = 0;
  std::size_t gemm_bytes = 4096;
  std::size_t align_bytes = 0;
  unsigned long long capture = 0;
  std::string failing;  // name of a function
  int failing_calls = 0;
  Status failure;
};

State& state() {
  static State all;
  return all;
}

// One call's line: its name and its fields.
class Line {
 public:
  explicit Line(const char* name) : name_(name) { text_ << name << " device=" << state().device; }
  Line& operator()(const char* field, std::int64_t value) {
    text_ << " " << field << "=" << value;
    return *this;
  }
  Line& operator()(const char* field, const void* value) {
    return (*this)(field, reinterpret_cast<std::intptr_t>(value));
  }
  Line& operator()(const char* field, const marlin_moe::ScalarType& value) {
    text_ << " " << field << "=" << marlin_moe::type_name(value);
    return *this;
  }
  // Notes the call, and answers with the failure that is asked of it.
  Status done() {
    const std::lock_guard<std::mutex> lock(state().mutex);
    state().calls += text_.str() + "\n";
    if (state().failing != name_ || state().failing_calls-- != 0) return {};
    state().failing.clear();
    return state().failure;
  }

 private:
  std::string name_;
  std::ostringstream text_;
};

cudaError_t note(Line& line) { return line.done().ok() ? cudaSuccess : cudaErrorUnknown; }

void add_shape(Line& line, const marlin_moe::WeightShape& shape) {
  line("num_experts", shape.num_experts)("n", shape.n)("k", shape.k)("a_type", shape.a_type)(
      "b_type", shape.b_type)("source_n", shape.source_n)("source_k", shape.source_k)(
      "column_parts", shape.column_parts);
}

void add_problem(Line& line, const marlin_moe::MoeGemmArgs& args) {
  line("m", args.m)("n", args.n)("k", args.k)("num_experts", args.num_experts)("top_k", args.top_k)(
      "block_size", args.block_size)("a_type", args.a_type)("b_type", args.b_type)(
      "c_type", args.c_type)("s_type", args.s_type)("group_size", args.group_size)("num_groups",
                                                                                   args.num_groups);
}

void add_config(Line& line, const marlin_moe::MoeGemmConfig* config) {
  if (config == nullptr) return;
  line("thread_k", config->thread_k)("thread_n", config->thread_n)("threads", config->threads)(
      "blocks_per_sm", config->blocks_per_sm)("stripe_slack", config->stripe_slack)(
      "gather_first", config->gather_first);
}

}  // namespace

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = state().device;
  return *device < 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  state().device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  std::snprintf(properties->name, sizeof properties->name, "Stub %d", device);
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorNoDevice ? "no CUDA-capable device is detected" : "unknown error";
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t*, const cudaGraphNode_t**,
                                     const cudaGraphEdgeData**, std::size_t*) {
  *status = state().capture == 0 ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  *id = state().capture;
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  Line line("memset");
  line("data", data)("value", value)("bytes", static_cast<std::int64_t>(bytes))("stream", stream);
  return note(line);
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  *pool = reinterpret_cast<cudaMemPool_t>(std::intptr_t{properties->location.id} + 1);
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMallocFromPoolAsync(void** data, std::size_t bytes, cudaMemPool_t pool,
                                    cudaStream_t stream) {
  static std::intptr_t next = 0x6000'0000'0010;
  *data = reinterpret_cast<void*>(next);
  next += std::intptr_t{1} << 24;
  Line line("malloc");
  line("data", *data)("bytes", static_cast<std::int64_t>(bytes))("pool", pool)("stream", stream);
  return note(line);
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  Line line("free");
  line("data", data)("stream", stream);
  return note(line);
}

}  // extern "C"

namespace marlin_moe {

Status moe_gemm_workspace_size(const MoeGemmArgs& args, std::size_t* bytes,
                               const MoeGemmConfig* config) {
  Line line("moe_gemm_workspace_size");
  add_problem(line, args);
  add_config(line, config);
  *bytes = state().gemm_bytes;
  return line.done();
}

int moe_gemm_block_size(int m, int num_experts, int top_k, const ScalarType& a_type) {
  Line line("moe_gemm_block_size");
  line("m", m)("num_experts", num_experts)("top_k", top_k)("a_type", a_type).done();
  return a_type.size_bits() == 8 ? 16 : 8;
}

Status moe_gemm_block_size(const MoeGemmArgs& args, int* block_size) {
  Line line("device_block_size");
  add_problem(line, args);
  *block_size = args.top_k > 1 ? 16 : 32;
  return line.done();
}

Status moe_gemm_tiles(const MoeGemmArgs& args, std::vector<MoeGemmTile>* tiles) {
  Line line("moe_gemm_tiles");
  add_problem(line, args);
  *tiles = {{8, {128, 64, 128, 0}}, {64, {64, 256, 384, 2}}};
  return line.done();
}

Status moe_gemm_choose_config(const MoeGemmArgs& args, MoeGemmConfig* config) {
  Line line("moe_gemm_choose_config");
  add_problem(line, args);
  *config = {128, 64, 256, 2, 3, 1};
  return line.done();
}

Status moe_gemm(const MoeGemmArgs& args, const MoeGemmConfig* config) {
  if (args.workspace_bytes < state().gemm_bytes) {
    return {StatusCode::kInsufficientWorkspace, "workspace_bytes = too few"};
  }
  Line line("moe_gemm");
  add_problem(line, args);
  line("a", args.a)("a_stride", args.a_stride)("a_scales", args.a_scales)("b", args.b)(
      "scales", args.scales)("zero_points", args.zero_points)("global_scales", args.global_scales)(
      "bias", args.bias)("g_idx", args.g_idx)("perm", args.perm)("topk_weights", args.topk_weights)(
      "sorted_token_ids", args.sorted_token_ids)("expert_ids", args.expert_ids)(
      "num_tokens_past_padded", args.num_tokens_past_padded)(
      "expert_parallel", args.expert_parallel)("atomic_reduce", args.atomic_reduce)("c", args.c)(
      "workspace", args.workspace)(
      "workspace_bytes", static_cast<std::int64_t>(args.workspace_bytes))("stream", args.stream);
  add_config(line, config);
  return line.done();
}

std::int64_t moe_align_capacity(int num_ids, int num_experts, int block_size) {
  const std::int64_t active = std::min(num_ids, num_experts);
  return (num_ids + active * (block_size - 1)) / block_size * block_size;
}

Status moe_align_workspace_size(const MoeAlignArgs& args, std::size_t* bytes) {
  if (args.block_size < 8) return invalid("block_size", args.block_size, "8, 16, 32, 48, 64");
  *bytes = state().align_bytes;
  return {};
}

Status moe_align(const MoeAlignArgs& args) {
  Line line("moe_align");
  line("num_ids", args.num_ids)("num_experts", args.num_experts)("block_size", args.block_size)(
      "topk_ids", args.topk_ids)("expert_map", args.expert_map)("drop_remote", args.drop_remote)(
      "sorted_token_ids", args.sorted_token_ids)("expert_ids", args.expert_ids)(
      "num_tokens_past_padded", args.num_tokens_past_padded)("workspace", args.workspace)(
      "workspace_bytes", static_cast<std::int64_t>(args.workspace_bytes))("stream", args.stream);
  return line.done();
}

Status quantize_activations(const QuantizeActivationsArgs& args) {
  Line line("quantize_activations");
  line("m", args.m)("k", args.k)("x_type", args.x_type)("out_type", args.out_type)("x", args.x)(
      "x_stride", args.x_stride)("out", args.out)("scales", args.scales)("factor", args.factor)(
      "stream", args.stream);
  return line.done();
}

Status act_and_mul(const ActAndMulArgs& args) {
  Line line("act_and_mul");
  line("m", args.m)("n", args.n)("type", args.type)(
      "activation", static_cast<int>(args.activation))("interleaved", args.interleaved)(
      "thousand_alpha", std::lround(1000 * args.alpha))(
      "thousand_limit", std::lround(1000 * args.limit))("x", args.x)("out", args.out)("stream",
                                                                                      args.stream);
  return line.done();
}

Status topk_sum(const TopkSumArgs& args) {
  Line line("topk_sum");
  line("m", args.m)("n", args.n)("top_k", args.top_k)("type", args.type)("x", args.x)(
      "out", args.out)("topk_ids", args.topk_ids)("num_experts", args.num_experts)(
      "expert_map", args.expert_map)("stream", args.stream);
  return line.done();
}

Status padded_shape(const WeightShape& shape, int group_size, PaddedShape* padded) {
  Line line("padded_shape");
  add_shape(line, shape);
  line("group_size", group_size);
  *padded = {256, 128, 4};
  return line.done();
}

Status repack_gptq(const RepackGptqArgs& args) {
  Line line("repack_gptq");
  add_shape(line, args.shape);
  line("qweight", args.qweight)("perm", args.perm)("out", args.out)("stream", args.stream);
  return line.done();
}

Status repack_awq(const RepackAwqArgs& args) {
  Line line("repack_awq");
  add_shape(line, args.shape);
  line("qweight", args.qweight)("qzeros", args.qzeros)("num_groups", args.num_groups)(
      "out", args.out)("stream", args.stream);
  return line.done();
}

Status repack_rows(const RepackRowsArgs& args) {
  Line line("repack_rows");
  add_shape(line, args.shape);
  line("weights", args.weights)("out", args.out)("stream", args.stream);
  return line.done();
}

Status sort_rows_by_group(const SortRowsByGroupArgs& args) {
  Line line("sort_rows_by_group");
  line("num_experts", args.num_experts)("k", args.k)("g_idx", args.g_idx)("perm", args.perm)(
      "sorted_g_idx", args.sorted_g_idx)("stream", args.stream);
  return line.done();
}

Status permute_scales(const PermuteScalesArgs& args) {
  Line line("permute_scales");
  line("num_experts", args.num_experts)("num_groups", args.num_groups)("n", args.n)(
      "a_type", args.a_type)("b_type", args.b_type)("c_type", args.c_type)("s_type", args.s_type)(
      "group_size", args.group_size)("source_n", args.source_n)(
      "source_groups", args.source_groups)("column_parts", args.column_parts)(
      "columns_per_scale", args.columns_per_scale)("columns_first", args.columns_first)(
      "float32_scales", args.float32_scales)("scales", args.scales)("out", args.out)(
      "global_scales", args.global_scales)("stream", args.stream);
  return line.done();
}

Status scale_global_scales(const ScaleGlobalScalesArgs& args) {
  Line line("scale_global_scales");
  line("num_experts", args.num_experts)("c_type", args.c_type)("global_scales", args.global_scales)(
      "out", args.out)("stream", args.stream);
  return line.done();
}

Status permute_bias(const PermuteBiasArgs& args) {
  Line line("permute_bias");
  line("num_experts", args.num_experts)("n", args.n)("source_n", args.source_n)(
      "column_parts", args.column_parts)("bias", args.bias)("out", args.out)("stream", args.stream);
  return line.done();
}

Status permute_zero_points(const PermuteZeroPointsArgs& args) {
  Line line("permute_zero_points");
  line("num_experts", args.num_experts)("num_groups", args.num_groups)("n", args.n)(
      "a_type", args.a_type)("source_n", args.source_n)("source_groups", args.source_groups)(
      "column_parts", args.column_parts)("qzeros", args.qzeros)("out", args.out)("stream",
                                                                                 args.stream);
  return line.done();
}

}  // namespace marlin_moe

namespace {

namespace ffi = tvm::ffi;

// Returns the lines since the last time.
ffi::String stub_calls() {
  const std::lock_guard<std::mutex> lock(state().mutex);
  ffi::String lines(state().calls);
  state().calls.clear();
  return lines;
}

// Sets the current device (-1: there is none), the bytes that workspace queries answer, and the
// capture that the stream is in (0: none).
void stub_set(int device, std::int64_t gemm_bytes, std::int64_t align_bytes, std::int64_t capture) {
  state().device = device;
  state().gemm_bytes = static_cast<std::size_t>(gemm_bytes);
  state().align_bytes = static_cast<std::size_t>(align_bytes);
  state().capture = static_cast<unsigned long long>(capture);
}

int stub_device() { return state().device; }

// Makes a function fail after so many calls that do not.
void stub_fail(ffi::String name, int after, int code, ffi::String message) {
  state().failing = name;
  state().failing_calls = after;
  state().failure = {static_cast<StatusCode>(code), message};
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(stub_calls, stub_calls)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(stub_set, stub_set)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(stub_device, stub_device)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(stub_fail, stub_fail)
