// A C interface to the MoE GEMM for the Python tests: structs of plain fields, status codes, and
// the timing loops, so that no interpreter overhead is in any figure.
//
// The structs are described by one list of fields each. moe_gemm_test_args_fields() hands the list
// to Python, which builds its own struct from it: there is no second definition to keep in step.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "marlin_moe/moe_gemm.h"
#include "tests/gpu/empty_kernel.h"
#include "tests/gpu/read_kernel.h"
#include "tests/gpu/shim_support.h"

#define MOE_GEMM_TEST_ARGS(FIELD)        \
  FIELD(int32, m)                        \
  FIELD(int32, n)                        \
  FIELD(int32, k)                        \
  FIELD(int32, num_experts)              \
  FIELD(int32, top_k)                    \
  FIELD(int32, block_size)               \
  FIELD(int32, group_size)               \
  FIELD(int32, num_groups)               \
  FIELD(int32, expert_parallel)          \
  FIELD(int32, atomic_reduce)            \
  FIELD(int64, a_type)                   \
  FIELD(int64, b_type)                   \
  FIELD(int64, c_type)                   \
  FIELD(int64, s_type)                   \
  FIELD(int64, a_stride)                 \
  FIELD(int64, workspace_bytes)          \
  FIELD(pointer, a)                      \
  FIELD(pointer, a_scales)               \
  FIELD(pointer, b)                      \
  FIELD(pointer, scales)                 \
  FIELD(pointer, zero_points)            \
  FIELD(pointer, global_scales)          \
  FIELD(pointer, bias)                   \
  FIELD(pointer, g_idx)                  \
  FIELD(pointer, perm)                   \
  FIELD(pointer, topk_weights)           \
  FIELD(pointer, sorted_token_ids)       \
  FIELD(pointer, expert_ids)             \
  FIELD(pointer, num_tokens_past_padded) \
  FIELD(pointer, c)                      \
  FIELD(pointer, workspace)              \
  FIELD(pointer, stream)

#define MOE_GEMM_TEST_CONFIG(FIELD) \
  FIELD(int32, thread_k)            \
  FIELD(int32, thread_n)            \
  FIELD(int32, threads)             \
  FIELD(int32, blocks_per_sm)       \
  FIELD(int32, stripe_slack)        \
  FIELD(int32, gather_first)

#define MOE_GEMM_TEST_DECLARE(type, name) type name;
#define MOE_GEMM_TEST_DESCRIBE(type, name) #type " " #name ";"

struct TestArgs {
  MOE_GEMM_TEST_ARGS(MOE_GEMM_TEST_DECLARE)
};

struct TestConfig {
  MOE_GEMM_TEST_CONFIG(MOE_GEMM_TEST_DECLARE)
};

namespace {

moe::MoeGemmArgs from_test(const TestArgs& in) {
  moe::MoeGemmArgs out;
  out.m = in.m;
  out.n = in.n;
  out.k = in.k;
  out.num_experts = in.num_experts;
  out.top_k = in.top_k;
  out.block_size = in.block_size;
  out.a_type = moe::ScalarType::from_id(in.a_type);
  out.b_type = moe::ScalarType::from_id(in.b_type);
  out.c_type = moe::ScalarType::from_id(in.c_type);
  out.s_type = moe::ScalarType::from_id(in.s_type);
  out.group_size = in.group_size;
  out.num_groups = in.num_groups;
  out.a = in.a;
  out.a_stride = in.a_stride;
  out.a_scales = static_cast<const float*>(in.a_scales);
  out.b = in.b;
  out.scales = in.scales;
  out.zero_points = in.zero_points;
  out.global_scales = static_cast<const float*>(in.global_scales);
  out.bias = in.bias;
  out.g_idx = static_cast<const int*>(in.g_idx);
  out.perm = static_cast<const int*>(in.perm);
  out.topk_weights = static_cast<const float*>(in.topk_weights);
  out.sorted_token_ids = static_cast<const int*>(in.sorted_token_ids);
  out.expert_ids = static_cast<const int*>(in.expert_ids);
  out.num_tokens_past_padded = static_cast<const int*>(in.num_tokens_past_padded);
  out.expert_parallel = in.expert_parallel != 0;
  out.atomic_reduce = in.atomic_reduce != 0;
  out.c = in.c;
  out.workspace = in.workspace;
  out.workspace_bytes = static_cast<std::size_t>(in.workspace_bytes);
  out.stream = static_cast<cudaStream_t>(in.stream);
  return out;
}

moe::MoeGemmConfig from_test(const TestConfig& in) {
  moe::MoeGemmConfig out;
  out.thread_k = in.thread_k;
  out.thread_n = in.thread_n;
  out.threads = in.threads;
  out.blocks_per_sm = in.blocks_per_sm;
  out.stripe_slack = in.stripe_slack;
  out.gather_first = in.gather_first;
  return out;
}

TestConfig to_test(const moe::MoeGemmConfig& in) {
  return TestConfig{in.thread_k,      in.thread_n,     in.threads,
                    in.blocks_per_sm, in.stripe_slack, in.gather_first};
}

// Argument sets that a timing loop goes round, and the configuration that all of them use.
struct Rotation {
  std::vector<moe::MoeGemmArgs> args;
  moe::MoeGemmConfig config;
  bool has_config;

  Rotation(const TestArgs* sets, int count, const TestConfig* forced, cudaStream_t stream)
      : has_config(forced != nullptr) {
    for (int i = 0; i < count; ++i) {
      args.push_back(from_test(sets[i]));
      args.back().stream = stream;
    }
    if (has_config) config = from_test(*forced);
  }

  moe::Status launch(int calls) const {
    for (int i = 0; i < calls; ++i) {
      SHIM_RETURN_IF_ERROR(moe::moe_gemm(args[i % args.size()], given()));
    }
    return {};
  }

  // Checks a problem and chooses its kernel, as a call does before its launch.
  moe::Status query(int calls) const {
    std::size_t bytes = 0;
    for (int i = 0; i < calls; ++i) {
      SHIM_RETURN_IF_ERROR(moe::moe_gemm_workspace_size(args[i % args.size()], &bytes, given()));
    }
    return {};
  }

 private:
  const moe::MoeGemmConfig* given() const { return has_config ? &config : nullptr; }
};

moe::Status time_device(const TestArgs* sets, int count, const TestConfig* config, int launches,
                        int repeats, bool use_graph, float* microseconds) {
  Timer timer;
  SHIM_RETURN_IF_ERROR(timer.create());
  const Rotation rotation(sets, count, config, timer.stream);
  // Kernels are loaded at their first launch, which shall be no part of what is timed.
  SHIM_RETURN_IF_ERROR(rotation.launch(1));
  SHIM_CUDA(cudaStreamSynchronize(timer.stream));
  const auto launch = [&] { return rotation.launch(launches); };
  if (!use_graph) return timer.measure(launch, launches, repeats, microseconds);
  SHIM_RETURN_IF_ERROR(timer.capture(launch));
  return timer.measure([&] { return timer.replay(); }, launches, repeats, microseconds);
}

// Median wall microseconds of one of `calls` calls that `launch(calls)` makes on the stream.
template <class Launch>
moe::Status time_calls(cudaStream_t stream, int calls, int repeats, float* microseconds,
                       const Launch& launch) {
  SHIM_RETURN_IF_ERROR(launch(1));
  std::vector<float> samples;
  for (int i = 0; i < repeats; ++i) {
    SHIM_CUDA(cudaStreamSynchronize(stream));
    const auto begin = std::chrono::steady_clock::now();
    SHIM_RETURN_IF_ERROR(launch(calls));
    const std::chrono::duration<float, std::micro> elapsed =
        std::chrono::steady_clock::now() - begin;
    samples.push_back(elapsed.count() / static_cast<float>(calls));
  }
  SHIM_CUDA(cudaStreamSynchronize(stream));
  *microseconds = median(std::move(samples));
  return {};
}

moe::Status time_host(const TestArgs* sets, int count, const TestConfig* config, int calls,
                      int repeats, bool launch, float* microseconds) {
  Timer timer;
  SHIM_RETURN_IF_ERROR(timer.create());
  const Rotation rotation(sets, count, config, timer.stream);
  return time_calls(timer.stream, calls, repeats, microseconds, [&](int times) {
    return launch ? rotation.launch(times) : rotation.query(times);
  });
}

moe::Status time_empty(EmptyLaunch kind, int calls, int repeats, float* microseconds) {
  Timer timer;
  SHIM_RETURN_IF_ERROR(timer.create());
  SHIM_CUDA(prepare_empty_launches());
  return time_calls(timer.stream, calls, repeats, microseconds, [&](int launches) -> moe::Status {
    for (int i = 0; i < launches; ++i) SHIM_CUDA(launch_empty(kind, timer.stream));
    return {};
  });
}

moe::Status check_loop(int count, int calls, int repeats) {
  if (count > 0 && calls > 0 && repeats > 0) return {};
  return {moe::StatusCode::kInvalidArgument, "count, calls and repeats must be positive"};
}

}  // namespace

extern "C" {

// The fields of TestArgs in order, each "type name;".
const char* moe_gemm_test_args_fields() { return MOE_GEMM_TEST_ARGS(MOE_GEMM_TEST_DESCRIBE); }

// The fields of TestConfig in order.
const char* moe_gemm_test_config_fields() { return MOE_GEMM_TEST_CONFIG(MOE_GEMM_TEST_DESCRIBE); }

std::size_t moe_gemm_test_args_size() { return sizeof(TestArgs); }

std::size_t moe_gemm_test_config_size() { return sizeof(TestConfig); }

int64 moe_gemm_test_type_id(const char* name) { return type_id(name); }

const char* moe_gemm_test_status_name(int code) { return status_name(code); }

int moe_gemm_test_gemm(const TestArgs* args, const TestConfig* config, char* message,
                       std::size_t message_bytes) {
  if (config == nullptr) return report(moe::moe_gemm(from_test(*args)), message, message_bytes);
  const moe::MoeGemmConfig forced = from_test(*config);
  return report(moe::moe_gemm(from_test(*args), &forced), message, message_bytes);
}

int moe_gemm_test_workspace_size(const TestArgs* args, const TestConfig* config, int64* bytes,
                                 char* message, std::size_t message_bytes) {
  std::size_t size = 0;
  const moe::MoeGemmConfig forced = config == nullptr ? moe::MoeGemmConfig{} : from_test(*config);
  const moe::Status status =
      moe::moe_gemm_workspace_size(from_test(*args), &size, config == nullptr ? nullptr : &forced);
  *bytes = static_cast<int64>(size);
  return report(status, message, message_bytes);
}

int moe_gemm_test_max_workspace_size(const TestArgs* args, int64* bytes, char* message,
                                     std::size_t message_bytes) {
  std::size_t size = 0;
  const moe::Status status = moe::moe_gemm_max_workspace_size(from_test(*args), &size);
  *bytes = static_cast<int64>(size);
  return report(status, message, message_bytes);
}

int moe_gemm_test_choose_config(const TestArgs* args, TestConfig* config, char* message,
                                std::size_t message_bytes) {
  moe::MoeGemmConfig chosen;
  const moe::Status status = moe::moe_gemm_choose_config(from_test(*args), &chosen);
  *config = to_test(chosen);
  return report(status, message, message_bytes);
}

int moe_gemm_test_block_size(const TestArgs* args, int* block_size, char* message,
                             std::size_t message_bytes) {
  return report(moe::moe_gemm_block_size(from_test(*args), block_size), message, message_bytes);
}

// Median microseconds on the device of one launch: `repeats` batches of `launches` that go round
// the `count` argument sets, each batch between two events; as one CUDA graph or as plain launches.
// The sets' streams are ignored.
int moe_gemm_test_time(const TestArgs* sets, int count, const TestConfig* config, int launches,
                       int repeats, int use_graph, float* microseconds, char* message,
                       std::size_t message_bytes) {
  moe::Status status = check_loop(count, launches, repeats);
  if (status.ok()) {
    status = time_device(sets, count, config, launches, repeats, use_graph != 0, microseconds);
  }
  return report(status, message, message_bytes);
}

// Median microseconds of wall time that one call takes on the host: `repeats` batches of `calls`,
// few enough that the stream's queue does not fill up. Without `launch` it is a query of the
// workspace's size, which checks and chooses as a call does.
int moe_gemm_test_host_time(const TestArgs* sets, int count, const TestConfig* config, int calls,
                            int repeats, int launch, float* microseconds, char* message,
                            std::size_t message_bytes) {
  moe::Status status = check_loop(count, calls, repeats);
  if (status.ok()) {
    status = time_host(sets, count, config, calls, repeats, launch != 0, microseconds);
  }
  return report(status, message, message_bytes);
}

// The same for launching an empty kernel; `kind` is an EmptyLaunch.
int moe_gemm_test_empty_launch_time(int kind, int calls, int repeats, float* microseconds,
                                    char* message, std::size_t message_bytes) {
  moe::Status status = check_loop(1, calls, repeats);
  if (status.ok() && (kind < 0 || kind >= kNumEmptyLaunches)) {
    status = {moe::StatusCode::kInvalidArgument, "there is no such kind of empty launch"};
  }
  if (status.ok()) {
    status = time_empty(static_cast<EmptyLaunch>(kind), calls, repeats, microseconds);
  }
  return report(status, message, message_bytes);
}

// How many ways to read there are.
int moe_gemm_test_read_ways() { return kNumReadWays; }

// Launches a kernel that reads the parts of some experts, numbers on the device, of up to three
// operands, and nothing else.
int moe_gemm_test_read(const void* const* operands, const int64* expert_bytes, int count,
                       const int* experts, int num_experts, int* sink, int way, void* stream,
                       char* message, std::size_t message_bytes) {
  if (count < 1 || count > kMostReadOperands || num_experts < 1) {
    return report({moe::StatusCode::kInvalidArgument, "nothing to read, or too many operands"},
                  message, message_bytes);
  }
  ReadArgs args{{}, experts, num_experts, sink};
  for (int i = 0; i < count; ++i) args.operands[i] = {operands[i], expert_bytes[i]};
  const auto run = [&]() -> moe::Status {
    SHIM_CUDA(launch_read(args, way, static_cast<cudaStream_t>(stream)));
    return {};
  };
  return report(run(), message, message_bytes);
}

}  // extern "C"
