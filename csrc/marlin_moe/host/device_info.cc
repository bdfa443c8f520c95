#include "device_info.h"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

#include "cuda_status.h"
#include "insert_only_map.h"

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

}  // namespace marlin_moe
