// Tiles fit the shared memory of the smallest device they run on, but for one that the launcher
// passes over, and their parts do not overlap.
#include "marlin_moe/plan/tile_shape.h"

#include <cstdio>
#include <initializer_list>

namespace {

int failures = 0;

void expect(bool condition, const char* what, const marlin_moe::TileShape& shape) {
  if (condition) return;
  std::fprintf(
      stderr,
      "not so: %s (threads %d, rows %d, thread_n %d, thread_k %d, stages %d, bits %d %d %d, "
      "group_blocks %d): %d bytes\n",
      what, shape.threads, shape.rows, shape.thread_n, shape.thread_k, shape.stages, shape.a_bits,
      shape.b_bits, shape.s_bits, shape.group_blocks, shape.shared_memory_bytes());
  ++failures;
}

void check(const marlin_moe::TileShape& shape) {
  // Bytes that a block may have: 64 KiB on 7.5, 99 KiB on 8.6, 8.9 and 12.x. There the launcher
  // takes another tile than the widest of 8-bit weights with scales for every 32 rows: it needs
  // 100.5 KiB.
  const int most = shape.stages == 2 ? 64 * 1024 : 99 * 1024;
  const bool widest = shape.thread_n == 256 && shape.rows == 64 && shape.stages == 4;
  const bool passed_over = widest && shape.b_bits == 8 && shape.group_blocks == 2;
  expect(passed_over == (shape.shared_memory_bytes() > most), "the tile fits, or is the widest",
         shape);
  expect(shape.k_blocks_per_warp() == 2, "a warp has two blocks of B's rows in a stage", shape);
  expect(shape.n_warps() * shape.k_warps() * 32 == shape.threads, "every warp has its share",
         shape);
  expect(shape.b_offset() >= shape.a_offset() + shape.a_stage_bytes(), "A ends before B", shape);
  expect(shape.s_offset() >= shape.b_offset() + shape.b_stage_bytes(), "B ends before the scales",
         shape);
  expect(shape.zp_offset() >= shape.s_offset() + shape.s_stage_bytes(),
         "the scales end before the zero points", shape);
  expect(shape.stage_bytes() >= shape.zp_offset() + shape.zp_stage_bytes(), "the stage holds all",
         shape);
  for (const int offset : {shape.b_offset(), shape.s_offset(), shape.zp_offset(),
                           shape.stage_bytes(), shape.ids_offset()}) {
    expect(offset % 16 == 0, "every part can be copied 16 bytes at a time", shape);
  }
  expect(shape.ids_offset() >= shape.reduction_bytes() &&
             shape.ids_offset() >= shape.stages * shape.stage_bytes(),
         "the ids lie behind everything", shape);
  const int words = shape.a_bits == 8 ? 3 : 2;  // id and top-k weight, and the scale of 8-bit A
  expect(shape.shared_memory_bytes() == shape.ids_offset() + shape.rows * words * 4,
         "every row has its id and factors", shape);
  expect(shape.tile_elements() <= shape.threads * shape.rows,
         "the workspace's bound on partial sums holds", shape);
}

struct Tile {
  int thread_k;
  int thread_n;
  int threads;
};

struct Scheme {
  int a_bits;
  int b_bits;
  int s_bits;
  int group_blocks;
  bool has_zero_points;
};

marlin_moe::TileShape shape_of(const Tile& tile, int rows, int stages, const Scheme& scheme) {
  marlin_moe::TileShape shape{};
  shape.threads = tile.threads;
  shape.rows = rows;
  shape.thread_n = tile.thread_n;
  shape.thread_k = tile.thread_k;
  shape.stages = stages;
  shape.a_bits = scheme.a_bits;
  shape.b_bits = scheme.b_bits;
  shape.s_bits = scheme.s_bits;
  shape.group_blocks = scheme.group_blocks;
  shape.has_zero_points = scheme.has_zero_points;
  return shape;
}

}  // namespace

int main() {
  const Tile tiles[] = {{128, 128, 256}, {64, 256, 256}, {64, 128, 128}, {128, 64, 128}};
  const Scheme schemes[] = {{16, 4, 16, -1, true},  {16, 4, 16, 2, true},  {16, 4, 16, 8, true},
                            {16, 4, 16, 0, false},  {16, 4, 8, 1, false},  {16, 4, 8, 2, false},
                            {16, 8, 16, -1, false}, {16, 8, 16, 2, false}, {16, 8, 16, 8, false},
                            {8, 4, 16, -1, true},   {8, 4, 16, 2, true},   {8, 4, 8, 2, false}};
  for (const Tile& tile : tiles) {
    for (const Scheme& scheme : schemes) {
      for (const int rows : {8, 16, 32, 48, 64}) {
        if (scheme.a_bits == 8 && rows == 8) continue;
        // The table's deep tile serves up to 16 rows, the wide one more.
        if (tile.threads == 256 && (tile.thread_k == 128) != (rows <= 16)) continue;
        for (const int stages : {2, 4}) {
          check(shape_of(tile, rows, stages, scheme));
        }
      }
    }
  }
  return failures == 0 ? 0 : 1;
}
