// Tiles of the sm90 family: what lies where in shared memory, and the limits of a multiprocessor.
#include "marlin_moe/plan/sm90_tile.h"

#include <cstdio>
#include <initializer_list>

namespace {

using marlin_moe::Sm90Tile;

int failures = 0;

void expect(bool condition, const Sm90Tile& tile, const char* what) {
  if (condition) return;
  std::fprintf(stderr,
               "%d rows × %d columns, %d blocks, %d bits, scales of %d bits, group %d: %s\n",
               tile.rows, tile.thread_n, tile.blocks_per_sm, tile.b_bits, tile.s_bits,
               tile.group_blocks, what);
  ++failures;
}

void check(const Sm90Tile& tile) {
  // What parts of a stage hold, by the formats: 128 bytes of A a row, and the rows of weights that
  // belong to them.
  const int k = tile.a_bits == 8 ? 128 : 64;
  const int group_k = 16 * tile.group_blocks;
  const int groups = group_k <= 0 ? 0 : group_k >= k ? 1 : k / group_k;
  const int weights = k * tile.thread_n * tile.b_bits / 8;
  expect(tile.stage_k() == k, tile, "rows of a stage");
  expect(tile.pieces() * tile.piece_bytes() * Sm90Tile::kStageBlocks == weights, tile,
         "pieces make up the weights");
  const int scales = groups * tile.thread_n * tile.s_bits / 8;
  const int zero_points = tile.has_zero_points ? (groups > 0 ? groups : 1) * tile.thread_n / 2 : 0;
  expect(tile.b_offset() == 128 * tile.rows, tile, "rows of A come first");
  expect(tile.scales_offset() - tile.b_offset() == weights, tile, "bytes of weights");
  expect(tile.zero_points_offset() - tile.scales_offset() == scales, tile, "bytes of scales");
  expect(tile.stage_bytes() >= tile.zero_points_offset() + zero_points, tile, "bytes of a stage");
  expect(tile.stage_bytes() % 1024 == 0, tile, "stages begin where swizzled rows may");
  // Bulk copies go to multiples of 16.
  expect(tile.scale_row_bytes() % 16 == 0 && tile.zero_point_row_bytes() % 16 == 0 &&
             tile.slot_bytes() % 16 == 0 && tile.bias_offset() % 16 == 0 &&
             tile.column_scales_offset() % 16 == 0,
         tile, "rows of scales are aligned");
  // Ids, top-k weights and the scales of 8-bit rows, four bytes each.
  expect(tile.column_scales_offset() == (tile.a_bits == 8 ? 12 : 8) * tile.rows, tile,
         "what a slot has of each row");

  const int stages = tile.stages();
  if (stages > 0) {
    expect(tile.blocks_per_sm * (tile.shared_bytes(stages) + 1024) <= 228 * 1024, tile, "fits");
    expect(stages == Sm90Tile::kMaxStages ||
               tile.blocks_per_sm * (tile.shared_bytes(stages + 1) + 1024) > 228 * 1024,
           tile, "no further stage fits");
  }
  const int registers = 128 * tile.loader_registers() + 256 * tile.multiplier_registers();
  const int at_start = 65536 / tile.blocks_per_sm / 384 / 8 * 8 * 384;
  expect(registers <= at_start, tile, "no more registers than the block has at its start");
  expect(tile.loader_registers() % 8 == 0 && tile.multiplier_registers() % 8 == 0, tile,
         "setmaxnreg counts in eights");
  if (tile.a_bits == 8 && tile.registers_suffice()) {
    const int sums = tile.rows / 2 * (tile.products() + tile.batch_products());
    expect(sums < tile.multiplier_registers() || tile.blocks_per_sm > 1, tile,
           "registers hold the sums");
    expect(tile.products() % tile.batch_products() == 0, tile, "batches are equal");
  }
  expect(tile.warp_columns() * Sm90Tile::kWarps == tile.thread_n, tile, "warps share the columns");
}

}  // namespace

int main() {
  for (int rows = 8; rows <= 256; rows += 8) {
    for (const int thread_n : {128, 256, 512}) {
      for (const int blocks : {1, 2}) {
        for (const int group : {-1, 1, 2, 4, 8}) {
          check({rows, thread_n, blocks, 16, 4, 16, group, false});
          check({rows, thread_n, blocks, 16, 4, 16, group, true});
          check({rows, thread_n, blocks, 16, 8, 16, group, false});
          check({rows, thread_n, blocks, 16, 4, 8, group, false});
          check({rows, thread_n, blocks, 8, 4, 16, group, false});
          check({rows, thread_n, blocks, 8, 4, 16, group, true});
          check({rows, thread_n, blocks, 8, 4, 8, group, false});
          check({rows, thread_n, blocks, 8, 8, 16, group, false});
        }
      }
    }
  }
  // The tiles that the notes name.
  expect(Sm90Tile{176, 256, 1, 16, 4, 16, 8, false}.stages() == 6, {}, "176 rows have six stages");
  expect(Sm90Tile{80, 512, 1, 16, 4, 16, 8, false}.stages() == 7, {}, "80 rows have seven");
  const Sm90Tile a8{128, 256, 1, 8, 4, 16, 8, false};
  expect(a8.stages() == 6 && a8.batch_products() == 1, a8, "128 rows have sums of one product");
  expect(Sm90Tile{96, 256, 1, 8, 4, 16, 8, false}.batch_products() == 2, a8, "96 rows of two");
  expect(!Sm90Tile{136, 256, 1, 8, 4, 16, 8, false}.registers_suffice(), a8, "136 are too many");
  expect(Sm90Tile{256, 512, 2, 16, 8, 16, 8, false}.stages() == 0, {}, "too much for two blocks");
  return failures == 0 ? 0 : 1;
}
