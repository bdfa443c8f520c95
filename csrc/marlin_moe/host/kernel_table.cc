#include "kernel_table.h"

#include <cstdint>
#include <string>
#include <utility>

#include "arguments.h"
#include "cuda_status.h"
#include "insert_only_map.h"
#include "kernels_built.h"

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

}  // namespace MARLIN_NAMESPACE_NAME

namespace marlin_moe {

// Numbers devices for the map of what is known of them.
struct DeviceKey {
  int device;
  bool operator==(const DeviceKey& other) const { return device == other.device; }
  std::size_t hash() const { return static_cast<std::size_t>(device); }
};

static Status query_device(int device, DeviceInfo* info) {
  int major = 0;
  int minor = 0;
  *info = DeviceInfo{device, 0, 0, 0};
  const std::pair<cudaDeviceAttr, int*> attributes[] = {
      {cudaDevAttrMultiProcessorCount, &info->multiprocessors},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, &info->max_shared_memory},
      {cudaDevAttrComputeCapabilityMajor, &major},
      {cudaDevAttrComputeCapabilityMinor, &minor}};
  for (const auto& [attribute, value] : attributes) {
    Status status =
        cuda_status(cudaDeviceGetAttribute(value, attribute, device), "cudaDeviceGetAttribute");
    if (!status.ok()) return status;
  }
  info->capability = 10 * major + minor;
  return {};
}

Status device_info(const DeviceInfo** info) {
  static InsertOnlyMap<DeviceKey, DeviceInfo> known;

  DeviceKey key{};
  Status status = cuda_status(cudaGetDevice(&key.device), "cudaGetDevice");
  if (!status.ok()) return status;
  *info = known.find(key);
  if (*info != nullptr) return {};
  DeviceInfo fresh{};
  status = query_device(key.device, &fresh);
  if (status.ok()) *info = known.add(key, fresh);
  return status;
}

std::string describe_key(const MoeGemmArgs& args, const MoeGemmConfig& config,
                         const DeviceInfo& device) {
  return "a_type " + type_name(args.a_type) + ", b_type " + type_name(args.b_type) + ", c_type " +
         type_name(args.c_type) + ", s_type " + type_name(args.s_type) + ", group_size " +
         std::to_string(args.group_size) + ", block_size " + std::to_string(args.block_size) +
         ", tile (thread_k " + std::to_string(config.thread_k) + ", thread_n " +
         std::to_string(config.thread_n) + ", threads " + std::to_string(config.threads) +
         "), compute capability " + std::to_string(device.capability / 10) + "." +
         std::to_string(device.capability % 10);
}

static TileShape tile_shape(const MoeGemmArgs& args, const MoeGemmConfig& config, int stages) {
  const int group_blocks = args.group_size > 0 ? args.group_size / 16 : args.group_size;
  return TileShape{config.threads,
                   args.block_size,
                   config.thread_n,
                   config.thread_k,
                   stages,
                   args.a_type.size_bits(),
                   args.b_type.size_bits(),
                   args.s_type.size_bits(),
                   group_blocks,
                   args.b_type == MARLIN_TYPE_NAMESPACE::kU4};
}

// The kernel that was built for a key, or none. Of two families that hold it, the one made for the
// device is the one with the deeper pipeline.
static Kernel select(const MoeGemmArgs& args, const MoeGemmConfig& config,
                     const DeviceInfo& device) {
  Kernel kernel;
  for (const int stages : {4, 2}) {
    if (stages == 4 && device.capability < 80) continue;
    kernel.shape = tile_shape(args, config, stages);
    kernel.function = MARLIN_NAMESPACE_NAME::select_kernel(
        args.a_type, args.b_type, args.c_type, args.s_type, config.threads, kernel.shape.m_blocks(),
        config.thread_n / 16, config.thread_k / 16, args.block_size == 8, stages,
        kernel.shape.group_blocks, /*is_zp_float=*/false);
    if (kernel.function != nullptr) break;
  }
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

// Asks the driver how many blocks of a kernel a multiprocessor holds, and lets the kernel have the
// shared memory it needs.
static Status query_kernel(const DeviceInfo& device, const Kernel& kernel, LaunchLimits* limits) {
  const void* function = reinterpret_cast<const void*>(kernel.function);
  const int shared = kernel.shape.shared_memory_bytes();
  *limits = {KernelState::kTooMuchSharedMemory, 0};
  if (shared > device.max_shared_memory) return {};
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, function);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    (void)cudaGetLastError();  // not an error of the caller's: do not leave it behind
    limits->state = KernelState::kNoDeviceCode;
    return {};
  }
  Status status = cuda_status(error, "cudaFuncGetAttributes");
  if (!status.ok()) return status;
  status = cuda_status(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
      "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
  if (!status.ok()) return status;
  status = cuda_status(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                           &limits->max_blocks_per_sm, function, kernel.shape.threads, shared),
                       "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  if (limits->max_blocks_per_sm > 0) limits->state = KernelState::kUsable;
  return status;
}

Status find_kernel(const MoeGemmArgs& args, const MoeGemmConfig& config, const DeviceInfo& device,
                   Kernel* kernel) {
  static InsertOnlyMap<LaunchKey, LaunchLimits> known;

  *kernel = select(args, config, device);
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

static Status not_built(const std::string& key) {
  return {StatusCode::kNoKernel,
          "no kernel was built for " + key + "; built: " + MARLIN_KERNELS_BUILT +
              "; add its scheme to quant_schemes or extra_quant_schemes of the "
              "marlin_moe_kernels target, or its family to cuda_archs"};
}

Status no_kernel(const MoeGemmArgs& args, const MoeGemmConfig& config, const DeviceInfo& device,
                 const Kernel& kernel) {
  const std::string key = describe_key(args, config, device);
  if (kernel.state == KernelState::kNotBuilt) return not_built(key);
  std::string why = std::string("has no code for this device; built: ") + MARLIN_KERNELS_BUILT +
                    "; build it for this device: cuda_archs of the marlin_moe_kernels target, or "
                    "--cuda_archs";
  if (kernel.state == KernelState::kTooMuchSharedMemory) {
    why = "needs " + std::to_string(kernel.shape.shared_memory_bytes()) +
          " bytes of shared memory per block, the device has " +
          std::to_string(device.max_shared_memory) + "; use another tile, or smaller blocks";
  }
  return {StatusCode::kNoKernel, "the kernel for " + key + " " + why};
}

}  // namespace marlin_moe
