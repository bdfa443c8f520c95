// Arithmetic of the 16-bit floating-point types, on pairs held in one register, and their
// tensor-core product.
#pragma once

#include <cstdint>

#include "marlin_moe/scalar_type.hpp"
#include "ptx.cuh"

namespace marlin_moe {

// Maps a type's id to its arithmetic. Each specialisation has
//   fma(a, b, c)       a * b + c, element by element, rounded once
//   mul(a, b)          a * b
//   pack(lo, hi)       two floats, rounded to nearest even
//   unpack(pair, lo, hi)
//   mma(acc, a, b)     acc += A(16×16, row-major) · B(16×8, column-major), float accumulators
template <MARLIN_TYPE_NAMESPACE::ScalarTypeId kId>
struct ElementType;

template <>
struct ElementType<MARLIN_TYPE_NAMESPACE::kFloat16.id()> {
  static __device__ __forceinline__ std::uint32_t fma(std::uint32_t a, std::uint32_t b,
                                                      std::uint32_t c) {
    std::uint32_t out;
    asm volatile("fma.rn.f16x2 %0, %1, %2, %3;\n" : "=r"(out) : "r"(a), "r"(b), "r"(c));
    return out;
  }
  static __device__ __forceinline__ std::uint32_t add(std::uint32_t a, std::uint32_t b) {
    std::uint32_t out;
    asm volatile("add.rn.f16x2 %0, %1, %2;\n" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
  static __device__ __forceinline__ std::uint32_t mul(std::uint32_t a, std::uint32_t b) {
    std::uint32_t out;
    asm volatile("mul.rn.f16x2 %0, %1, %2;\n" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
  static __device__ __forceinline__ std::uint32_t pack(float lo, float hi) {
    std::uint32_t out;
    asm volatile(
        "{\n.reg .b16 l, h;\n"
        "cvt.rn.f16.f32 l, %1;\ncvt.rn.f16.f32 h, %2;\nmov.b32 %0, {l, h};\n}\n"
        : "=r"(out)
        : "f"(lo), "f"(hi));
    return out;
  }
  static __device__ __forceinline__ void unpack(std::uint32_t pair, float& lo, float& hi) {
    asm volatile(
        "{\n.reg .b16 l, h;\nmov.b32 {l, h}, %2;\ncvt.f32.f16 %0, l;\ncvt.f32.f16 %1, h;\n}\n"
        : "=f"(lo), "=f"(hi)
        : "r"(pair));
  }
  static __device__ __forceinline__ void mma(float (&acc)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
#if MARLIN_SM75_PATH
    mma_k8(acc, a[0], a[1], b[0]);
    mma_k8(acc, a[2], a[3], b[1]);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
  }

 private:
  // Half of the product above, the deepest that sm_75 has.
  static __device__ __forceinline__ void mma_k8(float (&acc)[4], std::uint32_t a0, std::uint32_t a1,
                                                std::uint32_t b) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\n"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a0), "r"(a1), "r"(b));
  }
};

template <>
struct ElementType<MARLIN_TYPE_NAMESPACE::kBFloat16.id()> {
  static __device__ __forceinline__ std::uint32_t fma(std::uint32_t a, std::uint32_t b,
                                                      std::uint32_t c) {
    std::uint32_t out;
    asm volatile("fma.rn.bf16x2 %0, %1, %2, %3;\n" : "=r"(out) : "r"(a), "r"(b), "r"(c));
    return out;
  }
  // sm_80 has no add or mul of bf16 pairs: both are an fma with a neutral operand.
  static __device__ __forceinline__ std::uint32_t add(std::uint32_t a, std::uint32_t b) {
    return fma(a, 0x3f803f80u, b);
  }
  static __device__ __forceinline__ std::uint32_t mul(std::uint32_t a, std::uint32_t b) {
    return fma(a, b, 0x80008000u);
  }
  static __device__ __forceinline__ std::uint32_t pack(float lo, float hi) {
    std::uint32_t out;
    asm volatile("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(out) : "f"(hi), "f"(lo));
    return out;
  }
  static __device__ __forceinline__ void unpack(std::uint32_t pair, float& lo, float& hi) {
    lo = __uint_as_float(pair << 16);
    hi = __uint_as_float(pair & 0xffff0000u);
  }
  static __device__ __forceinline__ void mma(float (&acc)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};

}  // namespace marlin_moe
