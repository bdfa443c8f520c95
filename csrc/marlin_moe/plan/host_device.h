// Functions that host and device code share.
#pragma once

#ifdef __CUDACC__
#define MARLIN_HOST_DEVICE __host__ __device__
#else
#define MARLIN_HOST_DEVICE
#endif
