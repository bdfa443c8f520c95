// Scratch memory of GEMMs, kept from call to call. It is zeroed once, which rules out the few
// numbers in fresh memory that would mislead a GEMM (moe_gemm.h).
#pragma once

#include "call.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {
namespace binding {

// Launches a GEMM whose arguments lack nothing but workspace and stream. Calls on one stream share
// a workspace (on cudaStreamPerThread those of a thread), and so do calls that one capture of a
// CUDA graph holds. It is made by the caller's framework; it grows when a call needs more, and
// outgrown memory is kept, so that graphs which use it stay valid. `step` is as check() takes it.
void launch_gemm(Call& call, MoeGemmArgs args, const MoeGemmConfig* config = nullptr,
                 const char* step = nullptr);

// Lets go of all workspaces; work that uses them has to be finished.
void clear_workspaces();

}  // namespace binding
}  // namespace marlin_moe
