// The block size to align tokens with: the rows of the kernel that is likely to be the fastest.

#include "device_info.h"
#include "gemm_arguments.h"
#include "kernel_table.h"
#include "marlin_moe/moe_gemm.h"
#include "tile_cost.h"

namespace marlin_moe {

int moe_gemm_block_size(int m, int num_experts, int top_k, const ScalarType& a_type) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  const bool activations = a_type == types::kFloat16 || a_type == types::kBFloat16 ||
                           a_type == types::kS8 || a_type == types::kFE4M3fn;
  if (m < 0 || num_experts < 1 || top_k < 1 || !activations) return 0;
  const double per_expert = static_cast<double>(m) * top_k / num_experts;
  for (const int size : {8, 16, 32, 48}) {
    if (size == 8 && a_type.size_bits() == 8) continue;
    if (per_expert < 0.9 * size) return size;
  }
  return 64;
}

// Sets *rows to those of the usable tile with the least cost, 0 if there is none. Other families
// than sm90 take part with `preferred` rows alone: what others cost them is not known.
static Status choose_rows(const MoeGemmArgs& given, int preferred, const DeviceInfo& device,
                          int* rows) {
  MoeGemmArgs args = given;
  double least = 0;
  *rows = 0;
  for (const BuiltTile& tile : built_tiles()) {
    if (!serves(tile, args, device) || (!tile.family->is_sm90() && tile.rows != preferred))
      continue;
    args.block_size = tile.rows;
    Kernel kernel;
    Status status = find_kernel(args, tile, device, &kernel);
    if (!status.ok()) return status;
    if (!kernel.usable() || !covers_k(tile, args.k)) continue;
    const double cost = tile_cost(args, tile, device);
    if (*rows == 0 || cost < least) {
      *rows = tile.rows;
      least = cost;
    }
  }
  return {};
}

static Status choose_block_size(const MoeGemmArgs& args, const DeviceInfo& device,
                                int* block_size) {
  const int preferred = moe_gemm_block_size(args.m, args.num_experts, args.top_k, args.a_type);
  int rows = 0;
  Status status = choose_rows(args, preferred, device, &rows);
  // Custom schemes may have few numbers of rows: then the next larger, or else the next smaller.
  for (int size = preferred + 8; status.ok() && rows == 0 && size <= 64; size += 8) {
    status = choose_rows(args, size, device, &rows);
  }
  for (int size = preferred - 8; status.ok() && rows == 0 && size >= 8; size -= 8) {
    status = choose_rows(args, size, device, &rows);
  }
  *block_size = rows == 0 ? preferred : rows;
  return status;
}

Status moe_gemm_block_size(const MoeGemmArgs& args, int* block_size) {
  MoeGemmArgs with_rows = args;
  with_rows.block_size = moe_gemm_block_size(args.m, args.num_experts, args.top_k, args.a_type);
  const DeviceInfo* device = nullptr;
  Status status = check_problem(with_rows);
  if (status.ok()) status = device_info(&device);
  if (status.ok()) status = choose_block_size(with_rows, *device, block_size);
  return status;
}

}  // namespace marlin_moe
