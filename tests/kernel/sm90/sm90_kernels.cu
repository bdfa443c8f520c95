// Kernels of the sm90 family: a tile of each kind, and each decoder of weights and scales.
#include "marlin_moe/kernel/fp4_weights.cuh"
#include "marlin_moe/kernel/fp8_weights.cuh"
#include "marlin_moe/kernel/int4_weights.cuh"
#include "marlin_moe/kernel/int8_weights.cuh"
#include "marlin_moe/kernel/sm90/sm90_template.h"

namespace {

using marlin_moe::Sm90Tile;
using namespace MARLIN_TYPE_NAMESPACE;  // NOLINT

constexpr int stages(const ScalarType& b, const ScalarType& s, int rows, int thread_n,
                     int blocks_per_sm, int group_blocks) {
  return Sm90Tile{rows,          thread_n,      blocks_per_sm, 16,
                  b.size_bits(), s.size_bits(), group_blocks,  b == kU4}
      .stages();
}

}  // namespace

namespace MARLIN_NAMESPACE_NAME {

#define INSTANTIATE(a, b, s, rows, thread_n, blocks_per_sm, group_blocks)              \
  template __global__ void                                                             \
  MarlinSm90<a.id(), b.id(), a.id(), s.id(), rows, thread_n, blocks_per_sm,            \
             stages(b, s, rows, thread_n, blocks_per_sm, group_blocks), group_blocks>( \
      MARLIN_KERNEL_PARAMS)

INSTANTIATE(kBFloat16, kU4B8, kBFloat16, 16, 256, 2, 8);
INSTANTIATE(kBFloat16, kU4B8, kBFloat16, 8, 512, 1, 8);
INSTANTIATE(kBFloat16, kU4B8, kBFloat16, 80, 512, 1, 8);
INSTANTIATE(kBFloat16, kU4B8, kBFloat16, 176, 256, 1, 8);
INSTANTIATE(kBFloat16, kU4B8, kBFloat16, 64, 128, 1, -1);
INSTANTIATE(kFloat16, kU4, kFloat16, 64, 512, 1, 8);
INSTANTIATE(kBFloat16, kU4, kBFloat16, 144, 256, 1, -1);
INSTANTIATE(kFloat16, kU8B128, kFloat16, 144, 256, 1, 4);
INSTANTIATE(kBFloat16, kFE4M3fn, kBFloat16, 160, 256, 1, -1);
INSTANTIATE(kFloat16, kFE2M1f, kFE4M3fn, 144, 256, 1, 1);
INSTANTIATE(kBFloat16, kFE2M1f, kFE8M0fnu, 64, 512, 1, 2);

}  // namespace MARLIN_NAMESPACE_NAME
