// Barriers in shared memory that threads and asynchronous copies arrive at, and others wait for.
//
// A barrier's phase completes when `count` arrivals and all announced bytes are there; the next
// phase begins at once. Who waits names the parity of the phase it waits for: 0 for the first.
#pragma once

#include <cstdint>

#include "marlin_moe/kernel/ptx.cuh"

namespace marlin_moe::sm90 {

constexpr int kBarrierBytes = 8;

__device__ __forceinline__ void init_barrier(SharedAddress barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(count) : "memory");
}
// Makes initialised barriers known to the copy engine. To be followed by a barrier of the block.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}

// Arrives; what this thread wrote before is seen by those that waited.
__device__ __forceinline__ void arrive(SharedAddress barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
// Arrives once for the whole warp, whose lanes are together: for what each of them did before.
__device__ __forceinline__ void arrive_as_warp(SharedAddress barrier) {
  __syncwarp();
  asm volatile(
      "{\n.reg .pred one;\nelect.sync _|one, 0xffffffff;\n"
      "@one mbarrier.arrive.shared::cta.b64 _, [%0];\n}\n" ::"r"(barrier)
      : "memory");
}
// Arrives, and announces bytes that bulk copies will bring.
__device__ __forceinline__ void arrive_and_expect(SharedAddress barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Arrives when the copies that this thread issued with copy_async_*() so far are there. It counts
// as one of the barrier's arrivals.
__device__ __forceinline__ void arrive_after_copies(SharedAddress barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];\n" ::"r"(barrier) : "memory");
}

// Waits for the phase of a parity to complete.
__device__ __forceinline__ void wait_barrier(SharedAddress barrier, unsigned parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\nbra again;\nover:\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

}  // namespace marlin_moe::sm90
