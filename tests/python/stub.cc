// Stands in for libmarlin_moe.so and for the CUDA driver in tests of the Python package: every call
// is noted, field by field as the C compiler reads the structs of marlin_moe.h, and nothing runs.
//
// stub_calls() returns a line for each call: the function's name, the current device and the
// fields, as name=value. Device of a pointer: its bits 32 to 34.
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "csrc/marlin_moe/marlin_moe.h"

namespace {

std::mutex mutex;  // of what threads share
std::string calls;
thread_local std::string line;  // of the call that is being noted
std::string all_lines;
std::string error_message;
int next_status = MARLIN_MOE_OK;
std::string failing;  // what is in the line of the call that returns it
std::size_t gemm_bytes = 4096;
std::size_t align_bytes = 0;
int init_status = 0;
thread_local std::vector<int> devices = {0};

template <class Value>
std::string text(Value value) {
  return std::to_string(value);
}
template <class Pointee>
std::string text(Pointee* pointer) {
  return std::to_string(reinterpret_cast<std::uintptr_t>(pointer));
}

void begin(const char* name) {
  line = std::string(name) + " device=" + std::to_string(devices.back());
}

template <class Value>
void field(const char* name, Value value) {
  line += std::string(" ") + name + "=" + text(value);
}

int end() {
  const std::lock_guard<std::mutex> lock(mutex);
  calls += line + "\n";
  if (line.find(failing) == std::string::npos) return MARLIN_MOE_OK;
  const int status = next_status;
  next_status = MARLIN_MOE_OK;
  return status;
}

}  // namespace

#define FIELD(name) field(#name, args->name)

static void note_gemm(const char* name, const marlin_moe_gemm_args* args,
                      const marlin_moe_gemm_config* config) {
  begin(name);
  FIELD(struct_size), FIELD(m), FIELD(n), FIELD(k), FIELD(num_experts), FIELD(top_k);
  FIELD(block_size), FIELD(a_type), FIELD(b_type), FIELD(c_type), FIELD(s_type);
  FIELD(group_size), FIELD(num_groups), FIELD(expert_parallel), FIELD(atomic_reduce);
  FIELD(a_stride), FIELD(a), FIELD(a_scales), FIELD(b), FIELD(scales), FIELD(zero_points);
  FIELD(global_scales), FIELD(bias), FIELD(g_idx), FIELD(perm), FIELD(topk_weights);
  FIELD(sorted_token_ids), FIELD(expert_ids), FIELD(num_tokens_past_padded), FIELD(c);
  FIELD(workspace), FIELD(workspace_bytes), FIELD(stream);
  if (config == nullptr) return;
  field("config_size", config->struct_size);
  field("thread_k", config->thread_k);
  field("thread_n", config->thread_n);
  field("threads", config->threads);
  field("blocks_per_sm", config->blocks_per_sm);
  field("stripe_slack", config->stripe_slack);
}

static void note_align(const char* name, const marlin_moe_align_args* args) {
  begin(name);
  FIELD(struct_size), FIELD(num_ids), FIELD(num_experts), FIELD(block_size), FIELD(drop_remote);
  FIELD(topk_ids), FIELD(expert_map), FIELD(sorted_token_ids), FIELD(expert_ids);
  FIELD(num_tokens_past_padded), FIELD(workspace), FIELD(workspace_bytes), FIELD(stream);
}

extern "C" {

int marlin_moe_gemm(const marlin_moe_gemm_args* args, const marlin_moe_gemm_config* config) {
  note_gemm("gemm", args, config);
  return end();
}

int marlin_moe_gemm_workspace_size(const marlin_moe_gemm_args* args,
                                   const marlin_moe_gemm_config* config, size_t* bytes) {
  note_gemm("gemm_workspace_size", args, config);
  *bytes = gemm_bytes;
  return end();
}

int marlin_moe_gemm_max_workspace_size(const marlin_moe_gemm_args* args, size_t* bytes) {
  note_gemm("gemm_max_workspace_size", args, nullptr);
  *bytes = gemm_bytes;
  return end();
}

int marlin_moe_gemm_choose_config(const marlin_moe_gemm_args* args,
                                  marlin_moe_gemm_config* config) {
  note_gemm("gemm_choose_config", args, nullptr);
  *config = marlin_moe_gemm_config{config->struct_size, 64, 256, 128, 2, 3};
  return end();
}

int marlin_moe_gemm_choose_block_size(const marlin_moe_gemm_args* args, int32_t* block_size) {
  note_gemm("gemm_choose_block_size", args, nullptr);
  *block_size = 16;
  return end();
}

int32_t marlin_moe_gemm_block_size(int32_t m, int32_t num_experts, int32_t top_k, int32_t a_type) {
  begin("gemm_block_size");
  field("m", m);
  field("num_experts", num_experts);
  field("top_k", top_k);
  field("a_type", a_type);
  return end() == MARLIN_MOE_OK ? 16 : 0;
}

int marlin_moe_padded_shape(const marlin_moe_padded_shape_args* args, int32_t* n, int32_t* k,
                            int32_t* num_groups) {
  begin("padded_shape");
  FIELD(struct_size), FIELD(n), FIELD(k), FIELD(a_type), FIELD(b_type), FIELD(group_size);
  *n = *k = *num_groups = 0;
  return end();
}

int marlin_moe_repack_gptq(const marlin_moe_repack_gptq_args* args) {
  begin("repack_gptq");
  FIELD(struct_size), FIELD(num_experts), FIELD(n), FIELD(k), FIELD(a_type), FIELD(b_type);
  FIELD(qweight), FIELD(perm), FIELD(out), FIELD(stream);
  return end();
}

int marlin_moe_repack_awq(const marlin_moe_repack_awq_args* args) {
  begin("repack_awq");
  FIELD(struct_size), FIELD(num_experts), FIELD(n), FIELD(k), FIELD(a_type), FIELD(b_type);
  FIELD(num_groups), FIELD(qweight), FIELD(qzeros), FIELD(out), FIELD(stream);
  return end();
}

int marlin_moe_repack_rows(const marlin_moe_repack_rows_args* args) {
  begin("repack_rows");
  FIELD(struct_size), FIELD(num_experts), FIELD(n), FIELD(k), FIELD(a_type), FIELD(b_type);
  FIELD(weights), FIELD(out), FIELD(stream);
  return end();
}

int marlin_moe_sort_rows_by_group(const marlin_moe_sort_rows_by_group_args* args) {
  begin("sort_rows_by_group");
  FIELD(struct_size), FIELD(num_experts), FIELD(k), FIELD(g_idx), FIELD(perm);
  FIELD(sorted_g_idx), FIELD(stream);
  return end();
}

int marlin_moe_permute_scales(const marlin_moe_permute_scales_args* args) {
  begin("permute_scales");
  FIELD(struct_size), FIELD(num_experts), FIELD(num_groups), FIELD(n), FIELD(a_type);
  FIELD(b_type), FIELD(c_type), FIELD(s_type), FIELD(group_size), FIELD(columns_first);
  FIELD(scales), FIELD(out), FIELD(global_scales), FIELD(stream);
  return end();
}

int marlin_moe_scale_global_scales(const marlin_moe_scale_global_scales_args* args) {
  begin("scale_global_scales");
  FIELD(struct_size), FIELD(num_experts), FIELD(c_type), FIELD(global_scales), FIELD(out);
  FIELD(stream);
  return end();
}

int marlin_moe_permute_bias(const marlin_moe_permute_bias_args* args) {
  begin("permute_bias");
  FIELD(struct_size), FIELD(num_experts), FIELD(n), FIELD(bias), FIELD(out), FIELD(stream);
  return end();
}

int marlin_moe_permute_zero_points(const marlin_moe_permute_zero_points_args* args) {
  begin("permute_zero_points");
  FIELD(struct_size), FIELD(num_experts), FIELD(num_groups), FIELD(n), FIELD(a_type);
  FIELD(qzeros), FIELD(out), FIELD(stream);
  return end();
}

int marlin_moe_align(const marlin_moe_align_args* args) {
  note_align("align", args);
  return end();
}

int marlin_moe_align_capacity(const marlin_moe_align_args* args, int64_t* places) {
  note_align("align_capacity", args);
  const std::int64_t active = args->num_ids < args->num_experts ? args->num_ids : args->num_experts;
  const std::int64_t all = args->num_ids + active * (args->block_size - 1);
  *places = all / args->block_size * args->block_size;
  return end();
}

int marlin_moe_align_workspace_size(const marlin_moe_align_args* args, size_t* bytes) {
  note_align("align_workspace_size", args);
  *bytes = align_bytes;
  return end();
}

int marlin_moe_quantize_activations(const marlin_moe_quantize_activations_args* args) {
  begin("quantize_activations");
  FIELD(struct_size), FIELD(m), FIELD(k), FIELD(x_type), FIELD(out_type), FIELD(x_stride);
  FIELD(x), FIELD(out), FIELD(scales), FIELD(factor), FIELD(stream);
  return end();
}

int marlin_moe_silu_and_mul(const marlin_moe_silu_and_mul_args* args) {
  begin("silu_and_mul");
  FIELD(struct_size), FIELD(m), FIELD(n), FIELD(type), FIELD(x), FIELD(out), FIELD(stream);
  return end();
}

int marlin_moe_topk_sum(const marlin_moe_topk_sum_args* args) {
  begin("topk_sum");
  FIELD(struct_size), FIELD(m), FIELD(n), FIELD(top_k), FIELD(type), FIELD(num_experts);
  FIELD(x), FIELD(out), FIELD(topk_ids), FIELD(expert_map), FIELD(stream);
  return end();
}

const char* marlin_moe_last_error(void) { return error_message.c_str(); }

// The driver.

int cuInit(unsigned) { return init_status; }

int cuGetErrorString(int code, const char** message) {
  *message = code == 100 ? "no CUDA-capable device is detected" : "another error";
  return 0;
}

int cuCtxGetDevice(int* device) {
  *device = devices.back();
  return devices.back() < 0 ? 201 : 0;  // no context is current
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
  *context = reinterpret_cast<void*>(static_cast<std::uintptr_t>(device + 1));
  return 0;
}

int cuCtxPushCurrent_v2(void* context) {
  devices.push_back(static_cast<int>(reinterpret_cast<std::uintptr_t>(context)) - 1);
  return 0;
}

int cuCtxPopCurrent_v2(void**) {
  devices.pop_back();
  return 0;
}

int cuPointerGetAttribute(void* value, int attribute, std::uintptr_t pointer) {
  if (attribute != 9) return 1;
  *static_cast<int*>(value) = static_cast<int>(pointer >> 32 & 7);
  return 0;
}

int cuMemsetD8Async(std::uintptr_t pointer, unsigned char value, std::size_t bytes, void* stream) {
  begin("memset");
  field("pointer", reinterpret_cast<void*>(pointer));
  field("value", static_cast<int>(value));
  field("bytes", bytes);
  field("stream", stream);
  end();
  return 0;
}

int cuEventCreate(void** event, unsigned flags) {
  *event = reinterpret_cast<void*>(static_cast<std::uintptr_t>(0xe0 + flags));
  return 0;
}

int cuEventRecord(void* event, void* stream) {
  begin("event_record");
  field("event", event);
  field("stream", stream);
  end();
  return 0;
}

int cuStreamWaitEvent(void* stream, void* event, unsigned flags) {
  begin("stream_wait");
  field("event", event);
  field("stream", stream);
  field("flags", flags);
  end();
  return 0;
}

int cuEventDestroy_v2(void* event) {
  begin("event_destroy");
  field("event", event);
  end();
  return 0;
}

// What tests ask for.

const char* stub_calls(void) {
  const std::lock_guard<std::mutex> lock(mutex);
  all_lines.swap(calls);
  calls.clear();
  return all_lines.c_str();
}

// The next call whose line holds a text returns this status and leaves this message.
void stub_fail(int status, const char* message, const char* text) {
  next_status = status;
  failing = text;
  error_message = message;
}

void stub_set(std::size_t gemm, std::size_t align) {
  gemm_bytes = gemm;
  align_bytes = align;
}

// The current device, -1: no context is current.
void stub_set_device(int device) { devices = {device}; }

void stub_set_init_status(int status) { init_status = status; }

}  // extern "C"
