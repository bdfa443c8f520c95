// wgmma: the product of a warpgroup, asynchronous, with its left operand in registers.
//
//   D[64, N] += W[64, 16] · T[16, N]      of 8-bit numbers W[64, 32] · T[32, N]
//
// W are weights (64 columns of B), T the tokens of the tile, N = 8 to 256 in steps of 8. Warp w of
// the warpgroup has rows 16 w … 16 w + 15 of W and D. With g = lane / 4 and q = lane % 4:
//
//   W, four registers of two values       D, four floats for each 8 tokens i
//          k 2q, 2q+1   k 2q+8, 2q+9             token 8i+2q   8i+2q+1
//   row g      a[0]         a[2]          row g      d[4i]       d[4i+1]
//   row g+8    a[1]         a[3]          row g+8    d[4i+2]     d[4i+3]
//
// Of 8-bit numbers a register has four: k 4q … 4q+3, and k 4q+16 … 4q+19.
//
// (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions".) T lies in shared memory, token
// after token, 128 bytes each, its 16-byte chunks exchanged by XOR with the token's number
// modulo 8.
#pragma once

#include <cstdint>

#include "marlin_moe/kernel/ptx.cuh"

namespace marlin_moe::sm90 {

// Orders the warpgroup's register accesses before the products that follow.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
// Closes the group of products issued since the last call.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
// Waits until at most `kPending` groups are under way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}

// Describes tokens in shared memory to wgmma: 128-byte swizzle (bits 62 and 63: 1), 1,024 bytes
// from one eight tokens to the next (bits 32 to 45, in units of 16 bytes), the address in bits 0
// to 13. The distance along k is not used with this swizzle; 1 by convention.
__device__ __forceinline__ std::uint64_t token_matrix(SharedAddress tokens) {
  constexpr std::uint64_t kLayout =
      std::uint64_t{1} << 62 | std::uint64_t{1024 / 16} << 32 | std::uint64_t{1} << 16;
  return kLayout | (tokens & 0x3ffff) / 16;
}
// What 32 bytes further along k, one instruction's depth, add to a descriptor.
constexpr std::uint64_t kTokenMatrixStep = 32 / 16;

// A specialisation for each N.
//   multiply<kBFloat16>(d, w, tokens)     D += W · T, of bf16 or f16
//   multiply8<kInt8>(d, w, tokens, add)   the same of int8 or e4m3, or D = W · T if not `add`; D is
//                                         int32, or float kept as bits
template <int N>
struct Wgmma;

// The names of the first operands of an assembly statement, four more a line, and the operands.
#define MARLIN_NAMES_1 "%0, %1, %2, %3"
#define MARLIN_NAMES_2 MARLIN_NAMES_1 ", %4, %5, %6, %7"
#define MARLIN_NAMES_3 MARLIN_NAMES_2 ", %8, %9, %10, %11"
#define MARLIN_NAMES_4 MARLIN_NAMES_3 ", %12, %13, %14, %15"
#define MARLIN_NAMES_5 MARLIN_NAMES_4 ", %16, %17, %18, %19"
#define MARLIN_NAMES_6 MARLIN_NAMES_5 ", %20, %21, %22, %23"
#define MARLIN_NAMES_7 MARLIN_NAMES_6 ", %24, %25, %26, %27"
#define MARLIN_NAMES_8 MARLIN_NAMES_7 ", %28, %29, %30, %31"
#define MARLIN_NAMES_9 MARLIN_NAMES_8 ", %32, %33, %34, %35"
#define MARLIN_NAMES_10 MARLIN_NAMES_9 ", %36, %37, %38, %39"
#define MARLIN_NAMES_11 MARLIN_NAMES_10 ", %40, %41, %42, %43"
#define MARLIN_NAMES_12 MARLIN_NAMES_11 ", %44, %45, %46, %47"
#define MARLIN_NAMES_13 MARLIN_NAMES_12 ", %48, %49, %50, %51"
#define MARLIN_NAMES_14 MARLIN_NAMES_13 ", %52, %53, %54, %55"
#define MARLIN_NAMES_15 MARLIN_NAMES_14 ", %56, %57, %58, %59"
#define MARLIN_NAMES_16 MARLIN_NAMES_15 ", %60, %61, %62, %63"
#define MARLIN_NAMES_17 MARLIN_NAMES_16 ", %64, %65, %66, %67"
#define MARLIN_NAMES_18 MARLIN_NAMES_17 ", %68, %69, %70, %71"
#define MARLIN_NAMES_19 MARLIN_NAMES_18 ", %72, %73, %74, %75"
#define MARLIN_NAMES_20 MARLIN_NAMES_19 ", %76, %77, %78, %79"
#define MARLIN_NAMES_21 MARLIN_NAMES_20 ", %80, %81, %82, %83"
#define MARLIN_NAMES_22 MARLIN_NAMES_21 ", %84, %85, %86, %87"
#define MARLIN_NAMES_23 MARLIN_NAMES_22 ", %88, %89, %90, %91"
#define MARLIN_NAMES_24 MARLIN_NAMES_23 ", %92, %93, %94, %95"
#define MARLIN_NAMES_25 MARLIN_NAMES_24 ", %96, %97, %98, %99"
#define MARLIN_NAMES_26 MARLIN_NAMES_25 ", %100, %101, %102, %103"
#define MARLIN_NAMES_27 MARLIN_NAMES_26 ", %104, %105, %106, %107"
#define MARLIN_NAMES_28 MARLIN_NAMES_27 ", %108, %109, %110, %111"
#define MARLIN_NAMES_29 MARLIN_NAMES_28 ", %112, %113, %114, %115"
#define MARLIN_NAMES_30 MARLIN_NAMES_29 ", %116, %117, %118, %119"
#define MARLIN_NAMES_31 MARLIN_NAMES_30 ", %120, %121, %122, %123"
#define MARLIN_NAMES_32 MARLIN_NAMES_31 ", %124, %125, %126, %127"
#define MARLIN_FOUR(c, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define MARLIN_SUMS_1(c) MARLIN_FOUR(c, 0)
#define MARLIN_SUMS_2(c) MARLIN_SUMS_1(c), MARLIN_FOUR(c, 4)
#define MARLIN_SUMS_3(c) MARLIN_SUMS_2(c), MARLIN_FOUR(c, 8)
#define MARLIN_SUMS_4(c) MARLIN_SUMS_3(c), MARLIN_FOUR(c, 12)
#define MARLIN_SUMS_5(c) MARLIN_SUMS_4(c), MARLIN_FOUR(c, 16)
#define MARLIN_SUMS_6(c) MARLIN_SUMS_5(c), MARLIN_FOUR(c, 20)
#define MARLIN_SUMS_7(c) MARLIN_SUMS_6(c), MARLIN_FOUR(c, 24)
#define MARLIN_SUMS_8(c) MARLIN_SUMS_7(c), MARLIN_FOUR(c, 28)
#define MARLIN_SUMS_9(c) MARLIN_SUMS_8(c), MARLIN_FOUR(c, 32)
#define MARLIN_SUMS_10(c) MARLIN_SUMS_9(c), MARLIN_FOUR(c, 36)
#define MARLIN_SUMS_11(c) MARLIN_SUMS_10(c), MARLIN_FOUR(c, 40)
#define MARLIN_SUMS_12(c) MARLIN_SUMS_11(c), MARLIN_FOUR(c, 44)
#define MARLIN_SUMS_13(c) MARLIN_SUMS_12(c), MARLIN_FOUR(c, 48)
#define MARLIN_SUMS_14(c) MARLIN_SUMS_13(c), MARLIN_FOUR(c, 52)
#define MARLIN_SUMS_15(c) MARLIN_SUMS_14(c), MARLIN_FOUR(c, 56)
#define MARLIN_SUMS_16(c) MARLIN_SUMS_15(c), MARLIN_FOUR(c, 60)
#define MARLIN_SUMS_17(c) MARLIN_SUMS_16(c), MARLIN_FOUR(c, 64)
#define MARLIN_SUMS_18(c) MARLIN_SUMS_17(c), MARLIN_FOUR(c, 68)
#define MARLIN_SUMS_19(c) MARLIN_SUMS_18(c), MARLIN_FOUR(c, 72)
#define MARLIN_SUMS_20(c) MARLIN_SUMS_19(c), MARLIN_FOUR(c, 76)
#define MARLIN_SUMS_21(c) MARLIN_SUMS_20(c), MARLIN_FOUR(c, 80)
#define MARLIN_SUMS_22(c) MARLIN_SUMS_21(c), MARLIN_FOUR(c, 84)
#define MARLIN_SUMS_23(c) MARLIN_SUMS_22(c), MARLIN_FOUR(c, 88)
#define MARLIN_SUMS_24(c) MARLIN_SUMS_23(c), MARLIN_FOUR(c, 92)
#define MARLIN_SUMS_25(c) MARLIN_SUMS_24(c), MARLIN_FOUR(c, 96)
#define MARLIN_SUMS_26(c) MARLIN_SUMS_25(c), MARLIN_FOUR(c, 100)
#define MARLIN_SUMS_27(c) MARLIN_SUMS_26(c), MARLIN_FOUR(c, 104)
#define MARLIN_SUMS_28(c) MARLIN_SUMS_27(c), MARLIN_FOUR(c, 108)
#define MARLIN_SUMS_29(c) MARLIN_SUMS_28(c), MARLIN_FOUR(c, 112)
#define MARLIN_SUMS_30(c) MARLIN_SUMS_29(c), MARLIN_FOUR(c, 116)
#define MARLIN_SUMS_31(c) MARLIN_SUMS_30(c), MARLIN_FOUR(c, 120)
#define MARLIN_SUMS_32(c) MARLIN_SUMS_31(c), MARLIN_FOUR(c, 124)

// The product of N = 8 n tokens. i0 … i5: numbers of the operands behind the sums; c: what the
// compiler calls sums; types: depth and types of the instruction; end: its last operands.
#define MARLIN_WGMMA_ASM(N, n, i0, i1, i2, i3, i4, i5, c, types, end)                 \
  asm volatile("{\n.reg .pred add;\nsetp.ne.u32 add, %" #i5                           \
               ", 0;\n"                                                               \
               "wgmma.mma_async.sync.aligned.m64n" #N types " {" MARLIN_NAMES_##n     \
               "}, "                                                                  \
               "{%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i4 ", add" end ";\n}\n" \
               : MARLIN_SUMS_##n(c)                                                   \
               : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "l"(tokens),             \
                 "r"(static_cast<int>(add)))

#define MARLIN_WGMMA(N, n, i0, i1, i2, i3, i4, i5)                                              \
  template <>                                                                                   \
  struct Wgmma<N> {                                                                             \
    template <bool kBFloat16>                                                                   \
    static __device__ __forceinline__ void multiply(float (&d)[N / 2],                          \
                                                    const std::uint32_t (&w)[4],                \
                                                    std::uint64_t tokens) {                     \
      constexpr bool add = true;                                                                \
      if constexpr (kBFloat16) {                                                                \
        MARLIN_WGMMA_ASM(N, n, i0, i1, i2, i3, i4, i5, "+f", "k16.f32.bf16.bf16", ", 1, 1, 0"); \
      } else {                                                                                  \
        MARLIN_WGMMA_ASM(N, n, i0, i1, i2, i3, i4, i5, "+f", "k16.f32.f16.f16", ", 1, 1, 0");   \
      }                                                                                         \
    }                                                                                           \
    template <bool kInt8>                                                                       \
    static __device__ __forceinline__ void multiply8(std::uint32_t (&d)[N / 2],                 \
                                                     const std::uint32_t (&w)[4],               \
                                                     std::uint64_t tokens, bool add) {          \
      if constexpr (kInt8) {                                                                    \
        MARLIN_WGMMA_ASM(N, n, i0, i1, i2, i3, i4, i5, "+r", "k32.s32.s8.s8", "");              \
      } else {                                                                                  \
        MARLIN_WGMMA_ASM(N, n, i0, i1, i2, i3, i4, i5, "+r", "k32.f32.e4m3.e4m3", ", 1, 1");    \
      }                                                                                         \
    }                                                                                           \
  }
MARLIN_WGMMA(8, 1, 4, 5, 6, 7, 8, 9);
MARLIN_WGMMA(16, 2, 8, 9, 10, 11, 12, 13);
MARLIN_WGMMA(24, 3, 12, 13, 14, 15, 16, 17);
MARLIN_WGMMA(32, 4, 16, 17, 18, 19, 20, 21);
MARLIN_WGMMA(40, 5, 20, 21, 22, 23, 24, 25);
MARLIN_WGMMA(48, 6, 24, 25, 26, 27, 28, 29);
MARLIN_WGMMA(56, 7, 28, 29, 30, 31, 32, 33);
MARLIN_WGMMA(64, 8, 32, 33, 34, 35, 36, 37);
MARLIN_WGMMA(72, 9, 36, 37, 38, 39, 40, 41);
MARLIN_WGMMA(80, 10, 40, 41, 42, 43, 44, 45);
MARLIN_WGMMA(88, 11, 44, 45, 46, 47, 48, 49);
MARLIN_WGMMA(96, 12, 48, 49, 50, 51, 52, 53);
MARLIN_WGMMA(104, 13, 52, 53, 54, 55, 56, 57);
MARLIN_WGMMA(112, 14, 56, 57, 58, 59, 60, 61);
MARLIN_WGMMA(120, 15, 60, 61, 62, 63, 64, 65);
MARLIN_WGMMA(128, 16, 64, 65, 66, 67, 68, 69);
MARLIN_WGMMA(136, 17, 68, 69, 70, 71, 72, 73);
MARLIN_WGMMA(144, 18, 72, 73, 74, 75, 76, 77);
MARLIN_WGMMA(152, 19, 76, 77, 78, 79, 80, 81);
MARLIN_WGMMA(160, 20, 80, 81, 82, 83, 84, 85);
MARLIN_WGMMA(168, 21, 84, 85, 86, 87, 88, 89);
MARLIN_WGMMA(176, 22, 88, 89, 90, 91, 92, 93);
MARLIN_WGMMA(184, 23, 92, 93, 94, 95, 96, 97);
MARLIN_WGMMA(192, 24, 96, 97, 98, 99, 100, 101);
MARLIN_WGMMA(200, 25, 100, 101, 102, 103, 104, 105);
MARLIN_WGMMA(208, 26, 104, 105, 106, 107, 108, 109);
MARLIN_WGMMA(216, 27, 108, 109, 110, 111, 112, 113);
MARLIN_WGMMA(224, 28, 112, 113, 114, 115, 116, 117);
MARLIN_WGMMA(232, 29, 116, 117, 118, 119, 120, 121);
MARLIN_WGMMA(240, 30, 120, 121, 122, 123, 124, 125);
MARLIN_WGMMA(248, 31, 124, 125, 126, 127, 128, 129);
MARLIN_WGMMA(256, 32, 128, 129, 130, 131, 132, 133);

#undef MARLIN_WGMMA
#undef MARLIN_WGMMA_ASM

}  // namespace marlin_moe::sm90
