// Kernels of the sm90 family: a tile of each kind, and each decoder of weights and scales.
#include "marlin_moe/kernel/fp4_weights.cuh"
#include "marlin_moe/kernel/fp8_activations.cuh"
#include "marlin_moe/kernel/fp8_weights.cuh"
#include "marlin_moe/kernel/int4_weights.cuh"
#include "marlin_moe/kernel/int8_activations.cuh"
#include "marlin_moe/kernel/int8_weights.cuh"
#include "marlin_moe/kernel/sm90/sm90_template.h"

namespace {

using marlin_moe::Sm90Tile;
using namespace MARLIN_TYPE_NAMESPACE;  // NOLINT

constexpr int stages(const ScalarType& a, const ScalarType& b, const ScalarType& s, int rows,
                     int thread_n, int blocks_per_sm, int group_blocks) {
  return Sm90Tile{rows,          thread_n,      blocks_per_sm, a.size_bits(),
                  b.size_bits(), s.size_bits(), group_blocks,  b == kU4}
      .stages();
}

}  // namespace

namespace MARLIN_NAMESPACE_NAME {

#define INSTANTIATE(a, b, c, s, rows, thread_n, blocks_per_sm, group_blocks)              \
  template __global__ void                                                                \
  MarlinSm90<a.id(), b.id(), c.id(), s.id(), rows, thread_n, blocks_per_sm,               \
             stages(a, b, s, rows, thread_n, blocks_per_sm, group_blocks), group_blocks>( \
      MARLIN_KERNEL_PARAMS)

INSTANTIATE(kBFloat16, kU4B8, kBFloat16, kBFloat16, 16, 256, 2, 8);
INSTANTIATE(kBFloat16, kU4B8, kBFloat16, kBFloat16, 8, 512, 1, 8);
INSTANTIATE(kBFloat16, kU4B8, kBFloat16, kBFloat16, 80, 512, 1, 8);
INSTANTIATE(kBFloat16, kU4B8, kBFloat16, kBFloat16, 176, 256, 1, 8);
INSTANTIATE(kBFloat16, kU4B8, kBFloat16, kBFloat16, 64, 128, 1, -1);
INSTANTIATE(kFloat16, kU4, kFloat16, kFloat16, 64, 512, 1, 8);
INSTANTIATE(kBFloat16, kU4, kBFloat16, kBFloat16, 144, 256, 1, -1);
INSTANTIATE(kFloat16, kU8B128, kFloat16, kFloat16, 144, 256, 1, 4);
INSTANTIATE(kBFloat16, kFE4M3fn, kBFloat16, kBFloat16, 160, 256, 1, -1);
INSTANTIATE(kFloat16, kFE2M1f, kFloat16, kFE4M3fn, 144, 256, 1, 1);
INSTANTIATE(kBFloat16, kFE2M1f, kBFloat16, kFE8M0fnu, 64, 512, 1, 2);
// With 8-bit activations: all of a warpgroup's products at a time.
INSTANTIATE(kFE4M3fn, kU4B8, kBFloat16, kBFloat16, 96, 256, 1, 8);
INSTANTIATE(kFE4M3fn, kU4, kFloat16, kFloat16, 64, 128, 1, -1);
INSTANTIATE(kFE4M3fn, kFE2M1f, kBFloat16, kFE8M0fnu, 80, 256, 1, 2);
INSTANTIATE(kS8, kU4B8, kFloat16, kFloat16, 32, 512, 1, 8);
// Half of them at a time: eight steps a stage instead of four.
INSTANTIATE(kFE4M3fn, kU4B8, kBFloat16, kBFloat16, 128, 256, 1, 8);
INSTANTIATE(kFE4M3fn, kFE4M3fn, kBFloat16, kBFloat16, 128, 256, 1, -1);
INSTANTIATE(kS8, kU4B8, kBFloat16, kBFloat16, 128, 256, 1, 8);

}  // namespace MARLIN_NAMESPACE_NAME
