// What a call of the host API does besides its launch: which functions of the CUDA runtime it
// calls, what it allocates, and which memory it lets the kernel have. The runtime and the kernels
// are fakes, so that it runs without a GPU.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "marlin_moe/kernel/kernel.h"
#include "marlin_moe/moe_gemm.h"
#include "marlin_moe/plan/sm90_tile.h"
#include "marlin_moe/prepare/permute_columns.h"
#include "marlin_moe/prepare/stage_rows.h"

using marlin_moe::MoeGemmArgs;
using marlin_moe::MoeGemmConfig;
using marlin_moe::Status;
using marlin_moe::StatusCode;
using MARLIN_NAMESPACE_NAME::KernelParams;

namespace MARLIN_NAMESPACE_NAME {
void fake_small_tile(const KernelParams) {}
void fake_deep_tile(const KernelParams) { std::abort(); }
void fake_sm90_tile(const KernelParams) { std::abort(); }
}  // namespace MARLIN_NAMESPACE_NAME

namespace {

// The devices from this number on are of compute capability 8.6 and have no code of the deep tile.
constexpr int kFirstOldDevice = 8;
constexpr int kMultiprocessors = 132;

thread_local int current_device = 0;
std::atomic<int> allocations{0};

// Calls by name, and the last launch; of one thread. They are counted without allocating.
enum Function {
  kGetDevice,
  kGetAttribute,
  kFuncGetAttributes,
  kFuncSetAttribute,
  kOccupancy,
  kMemsetAsync,
  kLaunchKernel,
  kGetLastError,
  kPermuteColumns,
  kStageRows,
  kNumFunctions
};
constexpr const char* kNames[kNumFunctions] = {"cudaGetDevice",         "cudaDeviceGetAttribute",
                                               "cudaFuncGetAttributes", "cudaFuncSetAttribute",
                                               "cudaOccupancy...",      "cudaMemsetAsync",
                                               "cudaLaunchKernel",      "cudaGetLastError",
                                               "permute_columns",       "stage_rows"};
using Calls = std::array<int, kNumFunctions>;
thread_local Calls calls{};
thread_local marlin_moe::StageRowsArgs last_staged{};

struct LaunchRecord {
  const void* function;
  unsigned blocks;
  unsigned threads;
  std::size_t shared_bytes;
  KernelParams params;
};
thread_local LaunchRecord last_launch;

struct MemsetRecord {
  const void* memory;
  int value;
  std::size_t bytes;
};
thread_local MemsetRecord last_memset;

// Kernels that the current context has let have their shared memory; of one thread.
thread_local std::vector<const void*> told_of;
// Whether a launch fails in a context that was not told of the kernel.
thread_local bool forgets = false;

// What the runtime keeps of a thread's last failure, and the function that is to fail.
thread_local cudaError_t last_error = cudaSuccess;
thread_local Function failing = kNumFunctions;

// Counts a call and returns what it does: its error, which is kept, if it fails.
cudaError_t result_of(Function function, cudaError_t error = cudaSuccess) {
  ++calls[function];
  if (function == failing) error = cudaErrorUnknown;
  if (error != cudaSuccess) last_error = error;
  return error;
}

}  // namespace

void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return result_of(kGetDevice);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const bool old = device >= kFirstOldDevice;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = old ? 101376 : 232448;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = old ? 8 : 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = old ? 6 : 0;
      break;
    default:
      return result_of(kGetAttribute, cudaErrorInvalidValue);
  }
  return result_of(kGetAttribute);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void* function) {
  const void* deep = reinterpret_cast<const void*>(MARLIN_NAMESPACE_NAME::fake_deep_tile);
  const bool has_code = current_device < kFirstOldDevice || function != deep;
  return result_of(kFuncGetAttributes, has_code ? cudaSuccess : cudaErrorNoKernelImageForDevice);
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute, int) {
  told_of.push_back(function);
  return result_of(kFuncSetAttribute);
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  last_memset = {memory, value, bytes};
  return result_of(kMemsetAsync);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int,
                                                          std::size_t) {
  *blocks = 3;
  return result_of(kOccupancy);
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared_bytes, cudaStream_t) {
  last_launch = {function, grid.x, block.x, shared_bytes,
                 *static_cast<const KernelParams*>(arguments[0])};
  const bool forgotten =
      forgets && std::find(told_of.begin(), told_of.end(), function) == told_of.end();
  return result_of(kLaunchKernel, forgotten ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaGetLastError() {
  ++calls[kGetLastError];
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t) { return "an error"; }

}  // extern "C"

namespace marlin_moe {
Status permute_columns(const PermuteColumnsArgs&, cudaStream_t) {
  ++calls[kPermuteColumns];
  return {};
}
Status stage_rows(const StageRowsArgs& args, cudaStream_t) {
  ++calls[kStageRows];
  last_staged = args;
  return {};
}
}  // namespace marlin_moe

namespace {

std::atomic<int> failures{0};

void expect(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s\n", what.c_str());
  ++failures;
}

void expect_calls(const Calls& expected, const char* when) {
  if (calls == expected) return;
  std::string found;
  for (int i = 0; i < kNumFunctions; ++i) {
    if (calls[i] != 0) found += std::string(" ") + kNames[i] + " x" + std::to_string(calls[i]);
  }
  expect(false, std::string(when) + " calls" + found);
}

const char* const kMemory = reinterpret_cast<const char*>(0x7f0000000000);

MoeGemmArgs arguments(int m, int n, int k, int block_size) {
  MoeGemmArgs args;
  args.m = m;
  args.n = n;
  args.k = k;
  args.num_experts = 8;
  args.top_k = 2;
  args.block_size = block_size;
  args.group_size = 64;
  args.num_groups = k / 64;
  args.a = args.b = args.scales = kMemory;
  args.a_stride = k;
  args.sorted_token_ids = reinterpret_cast<const int*>(kMemory);
  args.expert_ids = args.num_tokens_past_padded = args.sorted_token_ids;
  args.c = const_cast<char*>(kMemory);
  args.workspace = args.c;
  args.workspace_bytes = std::size_t{1} << 40;
  return args;
}

MoeGemmArgs act_order_arguments() {
  MoeGemmArgs args = arguments(17, 1024, 2048, 16);
  args.group_size = marlin_moe::kGroupSizeActOrder;
  args.g_idx = args.perm = args.sorted_token_ids;
  return args;
}

// A call after the first makes the calls given, and allocates nothing.
void check_second_call(const MoeGemmArgs& args, const Calls& expected, const char* when) {
  expect(marlin_moe::moe_gemm(args).ok(), std::string(when) + " succeeds");
  calls = {};
  const int before = allocations;
  const bool ok = marlin_moe::moe_gemm(args).ok();
  const bool allocated = allocations != before;
  expect(ok && !allocated, std::string(when) + " allocates nothing the second time");
  expect_calls(expected, when);
}

void check_calls() {
  Calls launch{};
  launch[kGetDevice] = launch[kLaunchKernel] = 1;
  calls = {};
  expect(marlin_moe::moe_gemm(arguments(64, 1024, 2112, 16)).ok(), "the first call succeeds");
  expect(calls[kGetAttribute] == 4 && calls[kFuncGetAttributes] == 1 &&
             calls[kFuncSetAttribute] == 1 && calls[kLaunchKernel] == 1,
         "the first call asks the driver once");
  check_second_call(arguments(64, 1024, 2112, 16), launch, "a plain call");
  check_second_call(arguments(1, 256, 2048, 8), launch, "a call of the other kernel");
  Calls gather = launch;
  gather[kPermuteColumns] = 1;
  check_second_call(act_order_arguments(), gather, "a call with act-order");
  // The tile that is preferred has no code for the device.
  current_device = kFirstOldDevice;
  check_second_call(arguments(1, 256, 2048, 16), launch, "a call that falls back on another tile");
  expect(last_launch.function == reinterpret_cast<void*>(MARLIN_NAMESPACE_NAME::fake_small_tile),
         "the tile without code is not launched");
  current_device = 0;
}

// Threads that use several devices for the first time at once.
void check_threads() {
  std::vector<std::thread> threads;
  for (int first = 0; first < 4; ++first) {
    threads.emplace_back([first] {
      for (int turn = 0; turn < 200; ++turn) {
        current_device = (first + turn) % 16;
        expect(marlin_moe::moe_gemm(arguments(64, 1024, 2048, 16)).ok(), "a thread's call");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void check_workspace_size() {
  for (const bool atomic : {false, true}) {
    MoeGemmArgs args = arguments(1, 128 * 100, 64 * 33, 16);
    args.atomic_reduce = atomic;
    const MoeGemmConfig config{64, 128, 128, 0, 0};
    std::size_t needed = 0;
    expect(marlin_moe::moe_gemm_workspace_size(args, &needed, &config).ok(), "there is a size");
    args.workspace_bytes = needed;
    expect(marlin_moe::moe_gemm(args, &config).ok(), "a workspace of that size suffices");
    args.workspace_bytes = needed - 1;
    const Status status = marlin_moe::moe_gemm(args, &config);
    expect(status.code == StatusCode::kInsufficientWorkspace &&
               status.message.find("needed: " + std::to_string(needed)) != std::string::npos,
           "a byte less is refused with the number needed: " + status.message);
  }
}

// Every block that is launched has a place for partial sums, behind a lock of its own, within the
// workspace asked for: then no routing writes elsewhere, whatever number of row blocks it has.
void check_workspace_holds_every_block() {
  for (const int m : {1, 3, 40, 5000}) {
    for (const int n : {128, 192, 1024, 8192}) {
      for (const int blocks_per_sm : {0, 1, 2}) {
        for (const bool atomic : {false, true}) {
          MoeGemmArgs args = arguments(m, n, 64 * 33, 16);
          args.num_experts = 1000;
          args.atomic_reduce = atomic;
          const MoeGemmConfig config{64, 128, 128, blocks_per_sm, 0};
          std::size_t needed = 0;
          expect(marlin_moe::moe_gemm_workspace_size(args, &needed, &config).ok() &&
                     marlin_moe::moe_gemm(args, &config).ok(),
                 "a launch with many blocks");
          const KernelParams& params = last_launch.params;
          const auto* end = reinterpret_cast<const char*>(args.workspace) + needed;
          expect(reinterpret_cast<const char*>(params.partials +
                                               std::size_t{16} * 128 * last_launch.blocks) <= end,
                 "all places lie in the workspace");
          expect(static_cast<const void*>(params.locks + last_launch.blocks) <= params.partials,
                 "all locks lie before them");
        }
      }
    }
  }
}

void check_other_sizes() {
  const MoeGemmConfig config{64, 128, 128, 0, -1};
  for (const int m : {0, 1, 17, 300, 5000}) {
    for (const int n : {64, 192, 1024, 4096}) {
      for (const int block_size : {8, 16}) {
        for (const bool atomic : {false, true}) {
          MoeGemmArgs args = arguments(m, n, 1024, block_size);
          args.atomic_reduce = atomic;
          std::size_t needed = 0;
          std::size_t forced = 0;
          std::size_t most = 0;
          expect(marlin_moe::moe_gemm_workspace_size(args, &needed).ok() &&
                     (block_size == 8 ||
                      marlin_moe::moe_gemm_workspace_size(args, &forced, &config).ok()) &&
                     marlin_moe::moe_gemm_max_workspace_size(args, &most).ok(),
                 "all queries succeed");
          expect(std::max(needed, forced) <= most, "the query for all configurations is enough");
          expect(m > 0 || needed == 0, "no rows need no workspace");
        }
      }
    }
  }
  // A tile of one stage is never split: no workspace, which may be null.
  MoeGemmArgs whole = arguments(4, 256, 64, 16);
  whole.workspace = nullptr;
  whole.workspace_bytes = 0;
  std::size_t needed = 1;
  expect(marlin_moe::moe_gemm_workspace_size(whole, &needed).ok() && needed == 0, "none is needed");
  expect(marlin_moe::moe_gemm(whole).ok(), "a null workspace of no bytes is enough then");
}

// Atomic additions find zeros, whatever the workspace held: where all blocks may add, and no byte
// that is not theirs.
void check_atomic_additions() {
  for (MoeGemmArgs args : {arguments(40, 1024, 2048, 16), act_order_arguments()}) {
    args.atomic_reduce = true;
    std::size_t needed = 0;
    calls = {};
    expect(marlin_moe::moe_gemm_workspace_size(args, &needed).ok() &&
               marlin_moe::moe_gemm(args).ok() && calls[kMemsetAsync] == 1,
           "sums of atomic additions are cleared once");
    const char* first = static_cast<const char*>(last_memset.memory);
    const bool gathers = args.group_size == marlin_moe::kGroupSizeActOrder;
    const char* gathered = static_cast<const char*>(last_launch.params.a);
    expect(first == reinterpret_cast<const char*>(last_launch.params.partials) &&
               last_memset.value == 0 &&
               last_memset.bytes == std::size_t{16} * 128 * 4 * last_launch.blocks &&
               first + last_memset.bytes <= static_cast<const char*>(args.workspace) + needed &&
               (!gathers || gathered + 17 * 2 * 2048 * 2 <= first),
           "those of all blocks, and nothing beside them");
  }
  MoeGemmArgs whole = arguments(40, 256, 64, 16);
  whole.atomic_reduce = true;
  calls = {};
  expect(marlin_moe::moe_gemm(whole).ok() && calls[kMemsetAsync] == 0, "none where none is split");
}

// A context that has not been told how much shared memory a kernel may have refuses its launch: the
// one behind cudaDeviceReset(), or another than the one that was told.
void check_other_context() {
  const MoeGemmArgs args = arguments(64, 1024, 2048, 16);
  expect(marlin_moe::moe_gemm(args).ok(), "a call in the first context");
  told_of.clear();
  forgets = true;
  calls = {};
  Status status = marlin_moe::moe_gemm(args);
  expect(status.ok() && calls[kFuncSetAttribute] == 1 && calls[kLaunchKernel] == 2 &&
             last_error == cudaSuccess,
         "a call in another one tells it, launches again, and leaves no error: " + status.message);
  calls = {};
  expect(
      marlin_moe::moe_gemm(args).ok() && calls[kFuncSetAttribute] == 0 && calls[kLaunchKernel] == 1,
      "the next call has nothing to tell");
  told_of.clear();
  failing = kFuncSetAttribute;
  status = marlin_moe::moe_gemm(args);
  failing = kNumFunctions;
  expect(status.message.rfind("cudaFuncSetAttribute", 0) == 0 && last_error == cudaSuccess,
         "what fails then is named: " + status.message);
  forgets = false;
}

// The last error of the runtime after a call is what the caller left there: nothing of the call's.
void check_last_error() {
  MoeGemmArgs args = arguments(64, 1024, 2048, 16);
  int device = 20;  // unknown so far, so that all of it is asked
  for (const Function function : {kGetDevice, kGetAttribute, kFuncGetAttributes, kFuncSetAttribute,
                                  kOccupancy, kLaunchKernel}) {
    current_device = device++;
    failing = function;
    const Status status = marlin_moe::moe_gemm(args);
    failing = kNumFunctions;
    expect(status.code == StatusCode::kCudaError && last_error == cudaSuccess,
           std::string("an error of ") + kNames[function] + " is returned and not left behind");
  }
  last_error = cudaErrorInvalidValue;
  current_device = 0;
  expect(marlin_moe::moe_gemm(args).ok() && last_error == cudaErrorInvalidValue,
         "a call that succeeds leaves an error of the caller's");
  args.n = 1;
  expect(!marlin_moe::moe_gemm(args).ok() && last_error == cudaErrorInvalidValue,
         "so does a refusal");
  last_error = cudaSuccess;
}

void check_refusals() {
  const MoeGemmConfig wide{64, 256, 256, 0, -1};
  Status status = marlin_moe::moe_gemm(arguments(17, 1024, 2048, 16), &wide);
  expect(status.code == StatusCode::kInvalidArgument &&
             status.message ==
                 "config = (64, 256, 256) is not allowed; allowed: (thread_k, thread_n, threads) "
                 "of a tile that was built: (64, 512, 384), (64, 256, 384), (128, 128, 256), "
                 "(64, 128, 128)",
         "a tile that was not built is refused with those that were: " + status.message);
  const MoeGemmConfig small{64, 128, 128, 0, -1};
  status = marlin_moe::moe_gemm(arguments(17, 1024, 2048, 8), &small);
  expect(status.code == StatusCode::kNoKernel &&
             status.message.find("block_size 8, tile (thread_k 64, thread_n 128") !=
                 std::string::npos &&
             status.message.find(
                 "built: quant schemes fake; families sm80 for sm_80; sm90 for sm_90a") !=
                 std::string::npos &&
             status.message.find("quant_schemes") != std::string::npos,
         "a kernel that lacks is named, with those there are: " + status.message);
  for (const int group_size : {64, 128, 256, marlin_moe::kGroupSizeActOrder}) {
    MoeGemmArgs one_group = arguments(17, 1024, std::max(64, group_size), 8);
    one_group.group_size = group_size;
    one_group.num_groups = 1;
    one_group.g_idx = one_group.perm = one_group.sorted_token_ids;
    status = marlin_moe::moe_gemm(one_group, &small);
    expect(status.message.find("group_size -1,") != std::string::npos,
           "a single group takes the kernel of a scale per column: " + status.message);
  }
  MoeGemmArgs args = arguments(17, 1024, 2048, 16);
  args.b_type = marlin_moe::ScalarType(MARLIN_TYPE_NAMESPACE::kFloat16);
  status = marlin_moe::moe_gemm(args);
  expect(status.message ==
             "b_type = kFloat16 is not allowed; allowed: kU4, kU4B8, kU8B128, "
             "kFE4M3fn, kFE2M1f",
         "types are named: " + status.message);
  args = arguments(17, 1024, 1 << 21, 16);
  args.a_type = MARLIN_TYPE_NAMESPACE::kS8;
  args.group_size = marlin_moe::kGroupSizeChannel;
  args.num_groups = 1;
  status = marlin_moe::moe_gemm(args);
  expect(status.message.rfind("k = 2097152 is not allowed; allowed: at most 1048576", 0) == 0,
         "sums beyond int32 are refused: " + status.message);
}

// The largest shapes: those that a device may hold are taken, and no product of sizes overflows.
void check_large_sizes() {
  MoeGemmArgs args = arguments(32768, 4096, 7168, 16);
  args.top_k = 8;
  args.num_experts = 256;
  for (const bool parallel : {false, true}) {
    args.expert_parallel = parallel;
    const Status status = marlin_moe::moe_gemm(args);
    expect(status.ok() && last_launch.blocks % kMultiprocessors == 0,
           "262144 ids are taken: " + status.message);
  }
  args = arguments(1 << 30, 64, 64, 16);
  args.top_k = 1 << 30;
  for (const bool parallel : {false, true}) {
    args.expert_parallel = parallel;
    const Status status = marlin_moe::moe_gemm(args);
    expect(status.message.rfind("m = 1073741824 is not allowed", 0) == 0,
           "2^60 ids are refused: " + status.message);
  }
  // More stages than an int counts.
  args = arguments(3, 1 << 24, 1 << 24, 16);
  args.group_size = 128;
  args.num_groups = args.k / 128;
  std::size_t needed = 0;
  std::size_t most = 0;
  expect(marlin_moe::moe_gemm_workspace_size(args, &needed).ok() &&
             marlin_moe::moe_gemm_max_workspace_size(args, &most).ok() && needed > 0 &&
             needed <= most && marlin_moe::moe_gemm(args).ok(),
         "2^24 columns and rows are taken");
}

bool launched(void (*kernel)(const KernelParams)) {
  return last_launch.function == reinterpret_cast<const void*>(kernel);
}

// Arguments that fill many blocks of any size.
MoeGemmArgs many_rows(int block_size) { return arguments(4096, 8192, 4096, block_size); }

// Where the counters of sm90's last launch end, at most.
const char* counters_end() {
  return reinterpret_cast<const char*>(last_launch.params.locks) +
         marlin_moe::Sm90Tile::counter_bytes(static_cast<int>(last_launch.blocks));
}

// Rows of A that are copied into the workspace first: each block of rows that there may be has its
// place there, behind the counters and before the partial sums.
void check_gather_first() {
  for (const int m : {1, 300, 4096}) {
    const MoeGemmConfig config{64, 256, 384, 0, -1, 1};
    MoeGemmArgs args = arguments(m, 1600, 64 * 40, 144);
    std::size_t needed = 0;
    expect(marlin_moe::moe_gemm_workspace_size(args, &needed, &config).ok(), "there is a size");
    args.workspace_bytes = needed;
    calls = {};
    expect(marlin_moe::moe_gemm(args, &config).ok() && calls[kStageRows] == 1 &&
               calls[kLaunchKernel] == 1,
           "rows are gathered, then multiplied");
    const KernelParams& params = last_launch.params;
    const int ids = m * args.top_k;
    // A block for each expert, tokens or none, and those that more tokens fill.
    const int blocks = args.num_experts + (ids - 1) / args.block_size;
    const auto* rows = static_cast<const char*>(params.staged_a);
    const std::size_t bytes = std::size_t{128} * 144 * 40 * static_cast<std::size_t>(blocks);
    expect(rows == last_staged.out && last_staged.a == args.a &&
               last_staged.rows.block_size == 144 &&
               last_staged.max_ids >= blocks * args.block_size &&
               last_staged.row_bytes == 64 * 40 * 2 && last_staged.a_stride == args.a_stride * 2,
           "the GEMM reads what was gathered");
    expect(counters_end() <= rows && static_cast<const void*>(rows + bytes) <= params.partials,
           "the rows have a place of their own");
    args.workspace_bytes = needed - 1;
    expect(marlin_moe::moe_gemm(args, &config).code == StatusCode::kInsufficientWorkspace,
           "a byte less is refused");
  }
  MoeGemmConfig chosen;
  std::size_t most = 0;
  std::size_t needed = 0;
  const MoeGemmArgs wide = many_rows(144);
  expect(marlin_moe::moe_gemm_choose_config(wide, &chosen).ok() && chosen.gather_first == 1 &&
             marlin_moe::moe_gemm(wide).ok() && last_launch.params.staged_a != nullptr,
         "rows of wide layers are gathered first");
  expect(marlin_moe::moe_gemm_workspace_size(wide, &needed).ok() &&
             marlin_moe::moe_gemm_max_workspace_size(many_rows(8), &most).ok() && needed <= most,
         "what suffices for all holds the rows");
  for (const MoeGemmArgs& args : {many_rows(80), arguments(4096, 1600, 4096, 144)}) {
    expect(marlin_moe::moe_gemm_choose_config(args, &chosen).ok() && chosen.gather_first == 0 &&
               marlin_moe::moe_gemm(args).ok() && last_launch.params.staged_a == nullptr,
           "tiles of few rows, and those of narrow layers, gather for themselves");
  }
  const MoeGemmConfig unknown{64, 256, 384, 0, -1, 2};
  expect(
      marlin_moe::moe_gemm(wide, &unknown)
              .message.rfind("config.gather_first = 2 is not allowed; allowed: -1 (chosen), 0 or 1",
                             0) == 0,
      "other numbers are refused");
  const MoeGemmConfig few{64, 512, 384, 0, -1, 1};
  const MoeGemmConfig sm80{64, 128, 128, 0, -1, 1};
  for (const Status& status :
       {marlin_moe::moe_gemm(many_rows(80), &few), marlin_moe::moe_gemm(many_rows(48), &sm80)}) {
    expect(status.message.rfind("config.gather_first = 1 is not allowed; allowed: -1 or 0", 0) == 0,
           "tiles of few rows and other families are refused it");
  }
}

// A launch of the sm90 family: its parameters are those of its tile.
void check_sm90_launch() {
  using MARLIN_NAMESPACE_NAME::fake_sm90_tile;
  for (const int m : {1, 300, 4096}) {
    for (const int thread_n : {256, 512}) {
      const int blocks_per_sm = thread_n == 256 ? 2 : 1;
      const MoeGemmConfig config{64, thread_n, 384, 0, -1};
      MoeGemmArgs args = arguments(m, 1600, 64 * 40, 80);
      std::size_t needed = 0;
      std::size_t most = 0;
      expect(marlin_moe::moe_gemm_workspace_size(args, &needed, &config).ok() &&
                 marlin_moe::moe_gemm_max_workspace_size(args, &most).ok() &&
                 marlin_moe::moe_gemm(args, &config).ok() && launched(fake_sm90_tile),
             "a kernel of sm90 is launched");
      const marlin_moe::Sm90Tile tile{80, thread_n, blocks_per_sm, 16, 4, 16, 4, false};
      const KernelParams& params = last_launch.params;
      const int grid = static_cast<int>(last_launch.blocks);
      expect(grid <= kMultiprocessors * blocks_per_sm && (m == 1 || grid > kMultiprocessors / 2) &&
                 params.stripes == grid && last_launch.threads == 384u &&
                 last_launch.shared_bytes ==
                     static_cast<std::size_t>(tile.shared_bytes(tile.stages())),
             "grid, threads and shared memory");
      expect(params.n_tiles == (1600 + thread_n - 1) / thread_n && params.tile_stages == 40 &&
                 params.k_splits == 8,
             "tiles, stages and parts");
      const auto* end = reinterpret_cast<const char*>(args.workspace) + needed;
      expect(reinterpret_cast<const char*>(params.partials + tile.partial_floats(grid)) <= end &&
                 static_cast<const void*>(counters_end()) <= params.partials && needed <= most,
             "partial sums and counters lie in the workspace");
    }
  }
  check_gather_first();
  // A tile that is never cut needs no workspace.
  MoeGemmArgs whole = arguments(300, 1024, 128, 80);
  std::size_t needed = 1;
  expect(marlin_moe::moe_gemm_workspace_size(whole, &needed).ok() && needed == 0, "none for sm90");
}

// Which family serves a call.
void check_families() {
  using MARLIN_NAMESPACE_NAME::fake_sm90_tile;
  using MARLIN_NAMESPACE_NAME::fake_small_tile;
  expect(marlin_moe::moe_gemm(many_rows(48)).ok() && launched(fake_sm90_tile),
         "many rows go to sm90");
  expect(marlin_moe::moe_gemm(arguments(1, 8192, 4096, 48)).ok() && launched(fake_small_tile),
         "few rows go to sm80");
  const MoeGemmConfig sm80{64, 128, 128, 0, -1};
  expect(marlin_moe::moe_gemm(many_rows(48), &sm80).ok() && launched(fake_small_tile),
         "a configuration given is one of sm80");
  const MoeGemmConfig sm90{64, 512, 384, 1, 0};
  expect(marlin_moe::moe_gemm(arguments(4, 8192, 4096, 48), &sm90).ok() && launched(fake_sm90_tile),
         "a configuration given is one of sm90");
  MoeGemmConfig chosen;
  expect(marlin_moe::moe_gemm_choose_config(many_rows(80), &chosen).ok() &&
             marlin_moe::moe_gemm(many_rows(80), &chosen).ok() && launched(fake_sm90_tile),
         "the configuration chosen is accepted");
  MoeGemmArgs atomic = many_rows(48);
  atomic.atomic_reduce = true;
  expect(marlin_moe::moe_gemm(atomic).ok() && launched(fake_small_tile),
         "atomic additions go to sm80");
  atomic.block_size = 80;
  expect(marlin_moe::moe_gemm(atomic).message.find("another block_size: 8, 16, 48") !=
             std::string::npos,
         "block sizes for atomic additions are named");
  MoeGemmArgs channel = many_rows(48);
  channel.group_size = marlin_moe::kGroupSizeChannel;
  channel.num_groups = 1;
  expect(marlin_moe::moe_gemm(channel).ok() && launched(fake_small_tile),
         "what sm90 has no kernel of goes to sm80");
  current_device = kFirstOldDevice;
  expect(marlin_moe::moe_gemm(many_rows(48)).ok() && launched(fake_small_tile),
         "8.6 does not run sm90");
  const Status status = marlin_moe::moe_gemm(many_rows(80));
  expect(status.code == StatusCode::kNoKernel &&
             status.message.find("; or align tokens to another block_size: 8, 16, 48") !=
                 std::string::npos,
         "block sizes that have kernels are named: " + status.message);
  current_device = 0;

  const MoeGemmConfig two_blocks{64, 512, 384, 2, -1};
  expect(marlin_moe::moe_gemm(many_rows(80), &two_blocks)
                 .message.rfind("config.blocks_per_sm = 2 is not allowed; allowed: 0 to 1", 0) == 0,
         "more blocks than a kernel was compiled for are refused");
  const MoeGemmConfig slack{64, 512, 384, 0, 3};
  expect(marlin_moe::moe_gemm(many_rows(80), &slack)
                 .message.rfind("config.stripe_slack = 3 is not allowed; allowed: -1 or 0", 0) == 0,
         "slack is refused where there are no stripes");
}

void check_block_sizes() {
  const auto block_size = [](MoeGemmArgs args) {
    int size = 0;
    args.block_size = -1;
    const Status status = marlin_moe::moe_gemm_block_size(args, &size);
    expect(status.ok(), "a block size is chosen: " + status.message);
    return size;
  };
  expect(block_size(many_rows(0)) == 144, "many rows: blocks of sm90");
  expect(block_size(arguments(1, 8192, 4096, 0)) == 8, "few rows: blocks of sm80");
  MoeGemmArgs atomic = many_rows(0);
  atomic.atomic_reduce = true;
  expect(block_size(atomic) == 48, "the largest block that a custom scheme has");
  current_device = kFirstOldDevice;
  expect(block_size(many_rows(0)) == 48, "8.6 does not run sm90");
  current_device = 0;
  MoeGemmArgs wrong = many_rows(0);
  wrong.n = 100;
  int size = 0;
  expect(marlin_moe::moe_gemm_block_size(wrong, &size).message.rfind("n = 100", 0) == 0,
         "wrong shapes are refused");
}

}  // namespace

int main() {
  check_calls();
  check_last_error();
  check_sm90_launch();
  check_families();
  check_block_sizes();
  check_refusals();
  check_large_sizes();
  check_threads();
  check_workspace_size();
  check_workspace_holds_every_block();
  check_other_sizes();
  check_atomic_additions();
  check_other_context();
  return failures == 0 ? 0 : 1;
}
