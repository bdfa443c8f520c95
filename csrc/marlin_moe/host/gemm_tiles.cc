// All kernels that a GEMM could be launched with, for programs that measure which is the fastest.

#include "device_info.h"
#include "gemm_arguments.h"
#include "kernel_table.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

Status moe_gemm_tiles(const MoeGemmArgs& given, std::vector<MoeGemmTile>* tiles) {
  MoeGemmArgs args = given;
  args.block_size = moe_gemm_block_size(args.m, args.num_experts, args.top_k, args.a_type);
  const DeviceInfo* device = nullptr;
  Status status = check_problem(args);
  if (status.ok()) status = device_info(&device);
  tiles->clear();
  if (!status.ok()) return status;
  for (const BuiltTile& tile : built_tiles()) {
    if (!serves(tile, args, *device) || !covers_k(tile, args.k)) continue;
    args.block_size = tile.rows;
    Kernel kernel;
    status = find_kernel(args, tile, *device, &kernel);
    if (!status.ok()) return status;
    if (!kernel.usable()) continue;
    tiles->push_back({tile.rows, {tile.thread_k, tile.thread_n, tile.threads, tile.blocks_per_sm}});
  }
  return {};
}

}  // namespace marlin_moe
