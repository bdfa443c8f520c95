// Asynchronous copies from global to shared memory.
#pragma once

#include <cstdint>

#include "marlin_moe/kernel/ptx.cuh"

namespace marlin_moe::sm90 {

// Copies `bytes`, a multiple of 16, between addresses that are such multiples, with the copy
// engine. The barrier hears of the bytes when they are there.
__device__ __forceinline__ void copy_bulk(SharedAddress to, const void* from, unsigned bytes,
                                          SharedAddress barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// The same of bytes that are not read again soon: they are the first to leave L2.
__device__ __forceinline__ void copy_bulk_once(SharedAddress to, const void* from, unsigned bytes,
                                               SharedAddress barrier) {
  asm volatile(
      "{\n.reg .b64 policy;\n"
      "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], policy;\n}\n" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}

// Copies four bytes.
__device__ __forceinline__ void copy_async_4(SharedAddress to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(to), "l"(from) : "memory");
}

// Lets the asynchronous proxy, through which wgmma reads shared memory, see what this thread wrote
// or has been told of through a barrier: copy_async_16() writes through the generic proxy.
__device__ __forceinline__ void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

}  // namespace marlin_moe::sm90
