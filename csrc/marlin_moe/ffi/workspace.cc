#include "workspace.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

#include "marlin_moe/host/cuda_status.h"

namespace marlin_moe {
namespace binding {

static constexpr std::uintptr_t kAlignment = 256;

// Device, stream, thread (on cudaStreamPerThread), and capture (0: none).
using Key = std::tuple<int, cudaStream_t, std::thread::id, unsigned long long>;

struct Workspace {
  std::mutex mutex;  // held from a call's first launch to its last: threads may share a stream
  void* data = nullptr;
  std::size_t bytes = 0;
  std::vector<ffi::Tensor> owners;  // the last one is in use
};

struct Workspaces {
  std::mutex mutex;
  std::map<Key, std::shared_ptr<Workspace>> by_key;
};

static Workspaces& workspaces() {
  // Never destroyed: frameworks are gone before static objects are.
  static auto* all = new Workspaces;
  return *all;
}

static Key key_of(const Call& call, cudaStream_t stream) {
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  unsigned long long capture = 0;
  check(cuda_status(cudaStreamGetCaptureInfo(stream, &capturing, &capture),
                    "cudaStreamGetCaptureInfo"));
  if (capturing != cudaStreamCaptureStatusActive) capture = 0;
  const bool per_thread = stream == cudaStreamPerThread;
  return {call.device(), stream, per_thread ? std::this_thread::get_id() : std::thread::id(),
          capture};
}

static std::shared_ptr<Workspace> find(const Key& key) {
  Workspaces& all = workspaces();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::shared_ptr<Workspace>& found = all.by_key[key];
  if (!found) found = std::make_shared<Workspace>();
  return found;
}

static void grow(Call& call, std::size_t bytes, Workspace* workspace) {
  bytes = std::max(bytes, 2 * workspace->bytes);
  const std::int64_t size = static_cast<std::int64_t>(bytes + kAlignment);
  ffi::Tensor owner = call.scratch(size);
  const auto address = reinterpret_cast<std::uintptr_t>(Operand{owner.GetDLTensorPtr()}.data());
  void* data = reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
  check(cuda_status(cudaMemsetAsync(data, 0, bytes, call.stream()), "cudaMemsetAsync"));
  workspace->owners.push_back(std::move(owner));
  workspace->data = data;
  workspace->bytes = bytes;
}

void launch_gemm(Call& call, MoeGemmArgs args, const MoeGemmConfig* config, const char* step) {
  args.stream = call.stream();
  const std::shared_ptr<Workspace> workspace = find(key_of(call, args.stream));
  const std::lock_guard<std::mutex> lock(workspace->mutex);
  for (int attempt = 0;; ++attempt) {
    args.workspace = workspace->data;
    args.workspace_bytes = workspace->bytes;
    const Status status = moe_gemm(args, config);
    if (status.code != StatusCode::kInsufficientWorkspace || attempt > 0)
      return check(status, step);
    std::size_t bytes = 0;
    check(moe_gemm_workspace_size(args, &bytes, config), step);
    grow(call, bytes, workspace.get());
  }
}

void clear_workspaces() {
  Workspaces& all = workspaces();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.by_key.clear();
}

}  // namespace binding
}  // namespace marlin_moe
