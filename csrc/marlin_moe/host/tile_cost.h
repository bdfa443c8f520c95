// How long a MoE GEMM is likely to take with a tile that was built.
#pragma once

#include "kernel_table.h"
#include "marlin_moe/moe_gemm.h"
#include "marlin_moe/plan/family_choice.h"
#include "marlin_moe/plan/sm90_choice.h"

namespace marlin_moe {

inline Sm90Problem sm90_problem(const MoeGemmArgs& args, const DeviceInfo& device) {
  return {static_cast<double>(args.m) * args.top_k,
          args.n,
          args.k,
          args.num_experts,
          args.b_type.size_bits(),
          device.multiprocessors,
          args.a_type.size_bits()};
}

// Microseconds, roughly. Those of a tile of the template Marlin are of the best tile with its rows.
inline double tile_cost(const MoeGemmArgs& args, const BuiltTile& tile, const DeviceInfo& device) {
  const Sm90Problem problem = sm90_problem(args, device);
  if (tile.family->is_sm90()) {
    return sm90_cost(problem, {tile.rows, tile.thread_n, tile.blocks_per_sm});
  }
  return marlin_cost(problem, tile.rows, args.a_type.size_bits());
}

// Whether the rows of A are gathered before the GEMM rather than by each tile for itself.
inline bool gathers_first(const MoeGemmArgs& args, const BuiltTile& tile,
                          const DeviceInfo& device) {
  return tile.family->is_sm90() &&
         sm90_gathers_first(sm90_problem(args, device),
                            {tile.rows, tile.thread_n, tile.blocks_per_sm});
}

}  // namespace marlin_moe
