// All that a launch takes besides the caller's arguments, worked out in one place.
#pragma once

#include <cstddef>

#include "gemm_config.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

inline constexpr std::size_t kWorkspaceAlignment = 256;

// Offsets in bytes. The locks come first, in the same place for every call, so that a workspace
// that one call has used serves another of any shape.
struct WorkspaceLayout {
  std::size_t partials;    // [blocks, rows, thread_n], float32
  std::size_t gathered_a;  // rows of A: act-order's, or the stages of sm90
  std::size_t bytes;       // in all; 0 if nothing of it is used
};

// A launch of arguments that were checked and have rows.
struct LaunchPlan {
  const DeviceInfo* device = nullptr;
  Kernel kernel;
  MoeGemmConfig config;     // complete
  const char* reason = "";  // for the configuration
  int blocks = 0;           // of threads, of the grid
  int n_tiles = 0;          // tiles that cover n
  int tile_stages = 0;      // pipeline stages that cover k
  int k_splits = 0;         // parts that a tile may be cut into along k, at most
  WorkspaceLayout workspace{};
};

// Bytes of partial sums that the thread blocks of a launch may have.
std::size_t partial_bytes(const LaunchPlan& plan);

// Plans a launch on the current device: with the configuration that the caller gives, or with one
// that is chosen if `given` is null.
Status plan_launch(const MoeGemmArgs& args, const MoeGemmConfig* given, LaunchPlan* plan);

// Bytes of workspace that suffice for every configuration and block size, and for every m up to the
// given one.
std::size_t max_workspace_bytes(const MoeGemmArgs& args, const DeviceInfo& device);

// Prints a plan to stderr if the environment has MARLIN_MOE_LOG=1, which is read once.
void log_plan(const MoeGemmArgs& args, const LaunchPlan& plan);

}  // namespace marlin_moe
