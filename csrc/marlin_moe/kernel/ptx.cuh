// The PTX instructions that CUDA C++ has no function for, and loads and stores of shared memory.
//
// The f16 and bf16 headers of CUDA are not used: they cost every kernel file more to parse than the
// few instructions needed here. Pairs of 16-bit numbers are kept as the 32 bits of a register.
// Arithmetic is volatile too, here and in the headers of the types: the compiler then neither moves
// nor merges it, which gains nothing and costs it time (docs/kernel-notes.md).
#pragma once

#include <cstdint>

// The sm75 path: no asynchronous copies, m16n8k8 products. Tests build it for newer devices.
#if (defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800) || defined(MARLIN_MOE_TEST_SM75_PATH)
#define MARLIN_SM75_PATH 1
#else
#define MARLIN_SM75_PATH 0
#endif

namespace marlin_moe {

// An address in shared memory. Plain numbers compile faster than generic pointers, whose memory the
// compiler has to find out. A load through them is never dropped and never merged with another.
using SharedAddress = std::uint32_t;

__device__ __forceinline__ SharedAddress shared_address(const void* pointer) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ std::uint32_t load_shared_4(SharedAddress from) {
  std::uint32_t out;
  asm volatile("ld.shared.u32 %0, [%1];\n" : "=r"(out) : "r"(from) : "memory");
  return out;
}
__device__ __forceinline__ int2 load_shared_8(SharedAddress from) {
  int2 out;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];\n"
               : "=r"(out.x), "=r"(out.y)
               : "r"(from)
               : "memory");
  return out;
}
__device__ __forceinline__ int4 load_shared_16(SharedAddress from) {
  int4 out;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out.x), "=r"(out.y), "=r"(out.z), "=r"(out.w)
               : "r"(from)
               : "memory");
  return out;
}
__device__ __forceinline__ void store_words(std::uint32_t* to, const int4& from) {
  to[0] = from.x;
  to[1] = from.y;
  to[2] = from.z;
  to[3] = from.w;
}
__device__ __forceinline__ float4 load_shared_floats(SharedAddress from) {
  float4 out;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];\n"
               : "=f"(out.x), "=f"(out.y), "=f"(out.z), "=f"(out.w)
               : "r"(from)
               : "memory");
  return out;
}
__device__ __forceinline__ void store_shared(SharedAddress to, std::uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;\n" ::"r"(to), "r"(value) : "memory");
}
__device__ __forceinline__ void store_shared(SharedAddress to, float value) {
  asm volatile("st.shared.f32 [%0], %1;\n" ::"r"(to), "f"(value) : "memory");
}
__device__ __forceinline__ void store_shared(SharedAddress to, float a, float b) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};\n" ::"r"(to), "f"(a), "f"(b) : "memory");
}

// Copies 16 bytes from global to shared memory, or writes 16 zero bytes where `valid` is false.
__device__ __forceinline__ void copy_async_16(SharedAddress to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

// The same copy, for devices without asynchronous ones too. There issue() loads, and nothing waits
// for what it loads before land(), which stores it.
class Copy16 {
 public:
  __device__ __forceinline__ void issue([[maybe_unused]] SharedAddress to, const void* from,
                                        bool valid) {
#if MARLIN_SM75_PATH
    value_ = make_int4(0, 0, 0, 0);
    if (valid) value_ = *static_cast<const int4*>(from);
#else
    copy_async_16(to, from, valid);
#endif
  }
#if MARLIN_SM75_PATH
  __device__ __forceinline__ void land(SharedAddress to) const {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};\n" ::"r"(to), "r"(value_.x),
                 "r"(value_.y), "r"(value_.z), "r"(value_.w)
                 : "memory");
  }

 private:
  int4 value_;
#endif
};

// Closes the group of copies issued since the last call.
__device__ __forceinline__ void copy_async_commit() {
#if !MARLIN_SM75_PATH
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most `kPending` groups of this thread are under way.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
#if !MARLIN_SM75_PATH
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
#endif
}

// Four 8×8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrix_x4(std::uint32_t (&out)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row)
               : "memory");
}

// Two 8×8 matrices; lanes 0 to 15 give the addresses.
__device__ __forceinline__ void load_matrix_x2(std::uint32_t (&out)[2], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(row)
               : "memory");
}

// Any function of three bits, by its truth table (the PTX manual's lop3 table).
template <int kTable>
__device__ __forceinline__ std::uint32_t lop3(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t out;
  asm volatile("lop3.b32 %0, %1, %2, %3, %4;\n" : "=r"(out) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return out;
}

// (value & mask) | base
__device__ __forceinline__ std::uint32_t mask_or(std::uint32_t value, std::uint32_t mask,
                                                 std::uint32_t base) {
  return lop3<(0xf0 & 0xcc) | 0xaa>(value, mask, base);
}

// The lower or upper 16 bits of a register in both its halves.
__device__ __forceinline__ std::uint32_t broadcast_low(std::uint32_t pair) {
  return __byte_perm(pair, pair, 0x1010);
}
__device__ __forceinline__ std::uint32_t broadcast_high(std::uint32_t pair) {
  return __byte_perm(pair, pair, 0x3232);
}

// 0xff for each byte whose top bit is set, 0 for the others. (__byte_perm() cannot: it drops the
// bit of the selector that asks for the sign.)
__device__ __forceinline__ std::uint32_t spread_byte_signs(std::uint32_t bytes) {
  std::uint32_t out;
  asm volatile("prmt.b32 %0, %1, 0, 0xba98;\n" : "=r"(out) : "r"(bytes));
  return out;
}

// Adds to four floats in global memory, one by one.
__device__ __forceinline__ void reduce_add(float* to, float a, float b, float c, float d) {
  asm volatile(
      "red.global.add.f32 [%0], %1;\nred.global.add.f32 [%0+4], %2;\n"
      "red.global.add.f32 [%0+8], %3;\nred.global.add.f32 [%0+12], %4;\n" ::"l"(to),
      "f"(a), "f"(b), "f"(c), "f"(d)
      : "memory");
}

// Signals through a lock in global memory: what was written before release is seen after acquire.
__device__ __forceinline__ void lock_release(int* lock, int value) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;\n" ::"l"(lock), "r"(value) : "memory");
}
__device__ __forceinline__ int lock_acquire(const int* lock) {
  int value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];\n" : "=r"(value) : "l"(lock) : "memory");
  return value;
}

// Ends the launch with an error, which its stream's next synchronisation returns.
__device__ __forceinline__ void trap() { asm volatile("trap;\n"); }

}  // namespace marlin_moe
