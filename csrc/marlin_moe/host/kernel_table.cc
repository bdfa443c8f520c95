#include "kernel_table.h"

#include <cstddef>
#include <cstdint>
#include <iterator>

#include "cuda_status.h"
#include "insert_only_map.h"
#include "kernels_built.h"
#include "marlin_moe/plan/sm90_tile.h"
#include "marlin_moe/plan/tile_shape.h"

namespace MARLIN_NAMESPACE_NAME {

using MARLIN_TYPE_NAMESPACE::ScalarType;

// The generated selector reads the names of this function's parameters.
static MarlinFuncPtr select_kernel(ScalarType a_type, ScalarType b_type, ScalarType c_type,
                                   ScalarType s_type, int threads, int thread_m_blocks,
                                   int thread_n_blocks, int thread_k_blocks, bool m_block_size_8,
                                   int stages, int group_blocks, bool is_zp_float) {
  MarlinFuncPtr kernel = nullptr;
#include "kernel_selector.h"
  return kernel;
}

#ifdef MARLIN_SM90_SELECTOR
static MarlinFuncPtr select_sm90_kernel(ScalarType a_type, ScalarType b_type, ScalarType c_type,
                                        ScalarType s_type, int block_rows, int thread_n,
                                        int blocks_per_sm, int group_blocks) {
  MarlinFuncPtr kernel = nullptr;
#include MARLIN_SM90_SELECTOR
  return kernel;
}
#endif

}  // namespace MARLIN_NAMESPACE_NAME

namespace marlin_moe {

namespace families {
#define MARLIN_FAMILY(name, kernel, ...) \
  static constexpr KernelFamily name{#name, KernelFamily::Template::kernel, __VA_ARGS__};
MARLIN_FAMILIES_BUILT(MARLIN_FAMILY)
#undef MARLIN_FAMILY
}  // namespace families

static constexpr BuiltTile sm90_built_tile(const KernelFamily* family, ScalarType a_type, int rows,
                                           int thread_n, int blocks_per_sm) {
  // A stage has 128 bytes of each row of A.
  const int thread_k = 128 * 8 / a_type.size_bits();
  return {family, a_type, rows, thread_k, thread_n, Sm90Tile{}.threads(), blocks_per_sm};
}

static constexpr BuiltTile kTiles[] = {
#define MARLIN_TILE(family, a_type, rows, thread_k, thread_n, threads) \
  {&families::family, MARLIN_TYPE_NAMESPACE::a_type, rows, thread_k, thread_n, threads, 0},
#define MARLIN_SM90_TILE(family, a_type, rows, thread_n, blocks_per_sm) \
  sm90_built_tile(&families::family, MARLIN_TYPE_NAMESPACE::a_type, rows, thread_n, blocks_per_sm),
    MARLIN_TILES_BUILT(MARLIN_TILE, MARLIN_SM90_TILE)
#undef MARLIN_TILE
#undef MARLIN_SM90_TILE
};

BuiltTiles built_tiles() { return {std::begin(kTiles), std::end(kTiles)}; }

const char* kernels_built() { return MARLIN_KERNELS_BUILT; }

// 16-row blocks of B that share a scale; -1: one scale per column; 0: act-order.
static int group_blocks(const MoeGemmArgs& args) {
  const int size = scale_group_size(args.group_size, args.num_groups);
  return size > 0 ? size / 16 : size;
}

static bool has_zero_points(const MoeGemmArgs& args) {
  return args.b_type == MARLIN_TYPE_NAMESPACE::kU4;
}

static TileShape tile_shape(const MoeGemmArgs& args, const BuiltTile& tile) {
  TileShape shape{};
  shape.threads = tile.threads;
  shape.rows = tile.rows;
  shape.thread_n = tile.thread_n;
  shape.thread_k = tile.thread_k;
  shape.stages = tile.family->stages;
  shape.a_bits = args.a_type.size_bits();
  shape.b_bits = args.b_type.size_bits();
  shape.s_bits = args.s_type.size_bits();
  shape.group_blocks = group_blocks(args);
  shape.has_zero_points = has_zero_points(args);
  return shape;
}

#ifdef MARLIN_SM90_SELECTOR
static Kernel select_sm90(const MoeGemmArgs& args, const BuiltTile& built) {
  Sm90Tile tile{};
  tile.rows = built.rows;
  tile.thread_n = built.thread_n;
  tile.blocks_per_sm = built.blocks_per_sm;
  tile.a_bits = args.a_type.size_bits();
  tile.b_bits = args.b_type.size_bits();
  tile.s_bits = args.s_type.size_bits();
  tile.group_blocks = group_blocks(args);
  tile.has_zero_points = has_zero_points(args);
  Kernel kernel;
  kernel.tile = &built;
  kernel.shared_bytes = tile.shared_bytes(tile.stages());
  kernel.function = MARLIN_NAMESPACE_NAME::select_sm90_kernel(
      args.a_type, args.b_type, args.c_type, args.s_type, built.rows, built.thread_n,
      built.blocks_per_sm, tile.group_blocks);
  return kernel;
}
#endif

// The kernel that was built for a tile, if there is one, before the device is asked.
static Kernel select(const MoeGemmArgs& args, const BuiltTile& tile) {
#ifdef MARLIN_SM90_SELECTOR
  if (tile.family->is_sm90()) return select_sm90(args, tile);
#endif
  const TileShape shape = tile_shape(args, tile);
  Kernel kernel;
  kernel.tile = &tile;
  kernel.shared_bytes = shape.shared_memory_bytes();
  kernel.function = MARLIN_NAMESPACE_NAME::select_kernel(
      args.a_type, args.b_type, args.c_type, args.s_type, tile.threads, shape.m_blocks(),
      tile.thread_n / 16, tile.thread_k / 16, tile.rows == 8, tile.family->stages,
      shape.group_blocks, /*is_zp_float=*/false);
  return kernel;
}

// A kernel on a device, and what the driver says of it there.
struct LaunchKey {
  int device;
  MARLIN_NAMESPACE_NAME::MarlinFuncPtr function;
  bool operator==(const LaunchKey& other) const {
    return device == other.device && function == other.function;
  }
  // Kernels' stubs on the host are some tens of bytes apart.
  std::size_t hash() const {
    const auto address = reinterpret_cast<std::uintptr_t>(function);
    return (address >> 4) + (address >> 14) + static_cast<std::size_t>(device) * 31;
  }
};
struct LaunchLimits {
  KernelState state;
  int max_blocks_per_sm;
};

Status allow_shared_memory(const Kernel& kernel) {
  return cuda_status(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel.function),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, kernel.shared_bytes),
      "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
}

// Asks the driver how many blocks of a kernel a multiprocessor holds, and lets the kernel have the
// shared memory it needs.
static Status query_kernel(const DeviceInfo& device, const Kernel& kernel, LaunchLimits* limits) {
  const void* function = reinterpret_cast<const void*>(kernel.function);
  *limits = {KernelState::kTooMuchSharedMemory, 0};
  if (kernel.shared_bytes > device.max_shared_memory) return {};
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, function);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    (void)cudaGetLastError();  // not an error of the caller's: do not leave it behind
    limits->state = KernelState::kNoDeviceCode;
    return {};
  }
  Status status = cuda_status(error, "cudaFuncGetAttributes");
  if (!status.ok()) return status;
  status = allow_shared_memory(kernel);
  if (!status.ok()) return status;
  status = cuda_status(
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&limits->max_blocks_per_sm, function,
                                                    kernel.tile->threads, kernel.shared_bytes),
      "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  if (limits->max_blocks_per_sm > 0) limits->state = KernelState::kUsable;
  return status;
}

Status find_kernel(const MoeGemmArgs& args, const BuiltTile& tile, const DeviceInfo& device,
                   Kernel* kernel) {
  static InsertOnlyMap<LaunchKey, LaunchLimits> known;

  *kernel = select(args, tile);
  if (kernel->function == nullptr) return {};
  const LaunchKey key{device.device, kernel->function};
  const LaunchLimits* limits = known.find(key);
  if (limits == nullptr) {
    LaunchLimits fresh{};
    Status status = query_kernel(device, *kernel, &fresh);
    if (!status.ok()) return status;
    limits = known.add(key, fresh);
  }
  kernel->state = limits->state;
  kernel->max_blocks_per_sm = limits->max_blocks_per_sm;
  return {};
}

}  // namespace marlin_moe
