// Prints how much dynamic shared memory kernels need.
//
// Reads a line for each kernel, the fields of its TileShape, and writes a line with the bytes.
#include <cstdio>

#include "marlin_moe/plan/tile_shape.h"

int main() {
  marlin_moe::TileShape shape{};
  int zero_points = 0;
  int fields;
  while ((fields = std::scanf("%d %d %d %d %d %d %d %d %d %d", &shape.threads, &shape.rows,
                              &shape.thread_n, &shape.thread_k, &shape.stages, &shape.a_bits,
                              &shape.b_bits, &shape.s_bits, &shape.group_blocks, &zero_points)) ==
         10) {
    shape.has_zero_points = zero_points != 0;
    if (shape.n_warps() == 0 || shape.k_warps() == 0) {
      std::fprintf(stderr, "%d threads cannot cover %d columns\n", shape.threads, shape.thread_n);
      return 1;
    }
    std::printf("%d\n", shape.shared_memory_bytes());
  }
  if (fields != EOF) {
    std::fprintf(stderr, "a line does not hold the ten integers of a tile\n");
    return 1;
  }
  return 0;
}
