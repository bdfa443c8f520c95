#include "kernel_table.h"

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "arguments.h"

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

static Status cuda_status(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return {};
  return {StatusCode::kCudaError, what + ": " + cudaGetErrorString(error)};
}

Status device_info(DeviceInfo* info) {
  static std::mutex mutex;
  static std::map<int, DeviceInfo> known;

  int device = 0;
  Status status = cuda_status(cudaGetDevice(&device), "cudaGetDevice");
  if (!status.ok()) return status;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(device);
  if (found != known.end()) {
    *info = found->second;
    return {};
  }
  int major = 0;
  int minor = 0;
  DeviceInfo fresh{device, 0, 0, 0};
  const std::pair<cudaDeviceAttr, int*> attributes[] = {
      {cudaDevAttrMultiProcessorCount, &fresh.multiprocessors},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, &fresh.max_shared_memory},
      {cudaDevAttrComputeCapabilityMajor, &major},
      {cudaDevAttrComputeCapabilityMinor, &minor}};
  for (const auto& [attribute, value] : attributes) {
    status =
        cuda_status(cudaDeviceGetAttribute(value, attribute, device), "cudaDeviceGetAttribute");
    if (!status.ok()) return status;
  }
  fresh.capability = 10 * major + minor;
  known[device] = fresh;
  *info = fresh;
  return {};
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

// Asks the driver how many blocks of a kernel a multiprocessor holds, and lets the kernel have the
// shared memory it needs.
static Status query_kernel(const DeviceInfo& device, Kernel* kernel) {
  const void* function = reinterpret_cast<const void*>(kernel->function);
  const int shared = kernel->shape.shared_memory_bytes();
  if (shared > device.max_shared_memory) {
    return {StatusCode::kNoKernel, "needs " + std::to_string(shared) +
                                       " bytes of shared memory per block, the device has " +
                                       std::to_string(device.max_shared_memory)};
  }
  cudaFuncAttributes attributes{};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, function);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    (void)cudaGetLastError();  // not an error of the caller's: do not leave it behind
    return {StatusCode::kNoKernel, "has no code for this device"};
  }
  Status status = cuda_status(error, "cudaFuncGetAttributes");
  if (!status.ok()) return status;
  status = cuda_status(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
      "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
  if (!status.ok()) return status;
  return cuda_status(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                         &kernel->max_blocks_per_sm, function, kernel->shape.threads, shared),
                     "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
}

Status find_kernel(const MoeGemmArgs& args, const MoeGemmConfig& config, const DeviceInfo& device,
                   Kernel* kernel) {
  static std::mutex mutex;
  static std::map<std::pair<int, MARLIN_NAMESPACE_NAME::MarlinFuncPtr>, int> known_blocks_per_sm;

  *kernel = select(args, config, device);
  if (kernel->function == nullptr) {
    return {StatusCode::kNoKernel,
            "no kernel was built for " + describe_key(args, config, device) +
                "; add its scheme to quant_schemes or extra_quant_schemes of the "
                "marlin_moe_kernels target, or its family to cuda_archs"};
  }
  const std::lock_guard<std::mutex> lock(mutex);
  const auto key = std::make_pair(device.device, kernel->function);
  const auto found = known_blocks_per_sm.find(key);
  if (found != known_blocks_per_sm.end()) {
    kernel->max_blocks_per_sm = found->second;
    return {};
  }
  Status status = query_kernel(device, kernel);
  if (status.code == StatusCode::kNoKernel) {
    status.message = "the kernel for " + describe_key(args, config, device) + " " + status.message +
                     "; build it for this device: cuda_archs of the "
                     "marlin_moe_kernels target, or --cuda_archs";
  }
  if (!status.ok()) return status;
  known_blocks_per_sm[key] = kernel->max_blocks_per_sm;
  return {};
}

}  // namespace marlin_moe
