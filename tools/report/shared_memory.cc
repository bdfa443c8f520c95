// Prints how much dynamic shared memory kernels need.
//
// Reads a line for each kernel and writes a line with the bytes. A line holds the fields of the
// kernel's TileShape, or a 0 and those of its Sm90Tile.
#include <cstdio>

#include "marlin_moe/plan/sm90_tile.h"
#include "marlin_moe/plan/tile_shape.h"

namespace {

// Bytes of the kernel whose number of threads was read; -1 if its line is not whole, -2 if its
// threads cannot cover its columns.
int read_marlin(int threads) {
  marlin_moe::TileShape shape{};
  shape.threads = threads;
  int zero_points = 0;
  if (std::scanf("%d %d %d %d %d %d %d %d %d", &shape.rows, &shape.thread_n, &shape.thread_k,
                 &shape.stages, &shape.a_bits, &shape.b_bits, &shape.s_bits, &shape.group_blocks,
                 &zero_points) != 9) {
    return -1;
  }
  shape.has_zero_points = zero_points != 0;
  if (shape.n_warps() == 0 || shape.k_warps() == 0) {
    std::fprintf(stderr, "%d threads cannot cover %d columns\n", shape.threads, shape.thread_n);
    return -2;
  }
  return shape.shared_memory_bytes();
}

int read_sm90() {
  marlin_moe::Sm90Tile tile{};
  int zero_points = 0;
  if (std::scanf("%d %d %d %d %d %d %d %d", &tile.rows, &tile.thread_n, &tile.blocks_per_sm,
                 &tile.a_bits, &tile.b_bits, &tile.s_bits, &tile.group_blocks, &zero_points) != 8) {
    return -1;
  }
  tile.has_zero_points = zero_points != 0;
  return tile.shared_bytes(tile.stages());
}

}  // namespace

int main() {
  int threads = 0;
  int fields;
  while ((fields = std::scanf("%d", &threads)) == 1) {
    const int bytes = threads == 0 ? read_sm90() : read_marlin(threads);
    if (bytes == -2) return 1;
    if (bytes < 0) break;
    std::printf("%d\n", bytes);
  }
  if (fields != EOF) {
    std::fprintf(stderr, "a line does not hold the integers of a tile\n");
    return 1;
  }
  return 0;
}
