// What the launcher needs to know of the current device.
#pragma once

#include "marlin_moe/status.h"

namespace marlin_moe {

struct DeviceInfo {
  int device;
  int multiprocessors;
  int max_shared_memory;  // bytes a block may have
  int capability;         // 10 * major + minor
};

// Sets *info to the current device's, which stays valid. Asks the driver once per device.
Status device_info(const DeviceInfo** info);

}  // namespace marlin_moe
