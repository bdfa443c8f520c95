// Where the parts of a MoE GEMM's workspace lie, and how many bytes a launch touches.
#pragma once

#include <cstddef>

#include "kernel_table.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

inline constexpr std::size_t kWorkspaceAlignment = 256;

// Threads of this library's kernels that a multiprocessor is given at most; more blocks than that
// need more partial sums and gain nothing (docs/kernel-notes.md).
inline constexpr int kMaxThreadsPerSm = 512;

// A launch whose arguments were checked: there are rows, `config` is complete.
struct Launch {
  const MoeGemmArgs& args;
  const MoeGemmConfig& config;
  const DeviceInfo& device;

  // Thread blocks: as many as the device holds, unless there is less work.
  int blocks() const;
};

// Offsets in bytes. The locks come first, in the same place for every call, so that a workspace
// that one call has used serves another of any shape.
struct WorkspaceLayout {
  std::size_t partials;
  std::size_t permuted_a;  // act-order: the gathered rows of A
};
WorkspaceLayout workspace_layout(const MoeGemmArgs& args, const DeviceInfo& device);

// Bytes from the workspace's start to the last one that a launch touches in the worst case, which
// moe_gemm_workspace_size() describes.
std::size_t workspace_bytes(const Launch& launch);

// kInsufficientWorkspace if the workspace given is smaller than that.
Status check_workspace(const Launch& launch);

// Bytes that suffice for every configuration and block size, and for every m up to the given one.
std::size_t max_workspace_bytes(const MoeGemmArgs& args, const DeviceInfo& device);

}  // namespace marlin_moe
