// The tile that is tried first, on the layers of the benchmark and at the edges of the rules.
#include "marlin_moe/plan/tile_choice.h"

#include <cstddef>
#include <cstdio>
#include <vector>

namespace {

using marlin_moe::TileChoice;
using marlin_moe::TileProblem;
using marlin_moe::TileSize;

int failures = 0;

// Those of the table for a block size whose depth divides k (private/quant_schemes.bzl).
std::vector<TileSize> table_tiles(const TileProblem& problem) {
  std::vector<TileSize> tiles;
  if (problem.block_size <= 16 && problem.k % 128 == 0) tiles.push_back({128, 128, 256});
  if (problem.block_size > 16) tiles.push_back({64, 256, 256});
  tiles.push_back({64, 128, 128});
  return tiles;
}

void expect_of(const std::vector<TileSize>& tiles, const TileProblem& problem, int thread_k,
               int thread_n, int threads, int blocks_per_sm) {
  const TileChoice choice =
      marlin_moe::choose_tile(problem, tiles.data(), static_cast<int>(tiles.size()));
  const TileSize& tile = tiles.at(static_cast<std::size_t>(choice.index));
  if (tile.thread_k == thread_k && tile.thread_n == thread_n && tile.threads == threads &&
      choice.blocks_per_sm == blocks_per_sm && choice.reason[0] != '\0') {
    return;
  }
  std::fprintf(stderr,
               "m %d, n %d, k %d, %d experts, top_k %d, block %d, %d multiprocessors: (%d, %d, %d) "
               "with %d blocks instead of (%d, %d, %d) with %d\n",
               problem.m, problem.n, problem.k, problem.num_experts, problem.top_k,
               problem.block_size, problem.multiprocessors, tile.thread_k, tile.thread_n,
               tile.threads, choice.blocks_per_sm, thread_k, thread_n, threads, blocks_per_sm);
  ++failures;
}

void expect(const TileProblem& problem, int thread_k, int thread_n, int threads,
            int blocks_per_sm) {
  expect_of(table_tiles(problem), problem, thread_k, thread_n, threads, blocks_per_sm);
}

// m, n, k, experts, top_k, block size, multiprocessors
constexpr TileProblem qwen3_gate_up(int tokens, int block_size = 8) {
  return {tokens, 1536, 2048, 128, 8, block_size, 132};
}
constexpr TileProblem qwen3_down(int tokens, int block_size = 8) {
  return {8 * tokens, 2048, 768, 128, 1, block_size, 132};
}
// One expert: every row of A is an id, and the tiles are those of C.
constexpr TileProblem dense(int m, int n, int k, int block_size) {
  return {m, n, k, 1, 1, block_size, 132};
}

}  // namespace

int main() {
  // Some 8, 15, 29 and 51 experts are active; a tile has 128 columns.
  expect(qwen3_gate_up(1), 128, 128, 256, 1);
  expect(qwen3_gate_up(2), 64, 128, 128, 2);
  expect(qwen3_gate_up(4), 64, 128, 128, 3);
  expect(qwen3_gate_up(8), 64, 128, 128, 0);
  expect(qwen3_down(1), 128, 128, 256, 1);
  expect(qwen3_down(2), 64, 128, 128, 2);
  expect(qwen3_down(8), 64, 128, 128, 0);
  expect(qwen3_down(1, 16), 128, 128, 256, 1);

  // Mixtral and DeepSeek-V3: many tiles, or long columns.
  expect({1, 28672, 4096, 8, 2, 8, 132}, 64, 128, 128, 0);
  expect({2, 4096, 14336, 8, 1, 8, 132}, 128, 128, 256, 1);
  expect({8, 4096, 14336, 8, 1, 8, 132}, 128, 128, 256, 2);
  expect({4, 4096, 7168, 256, 8, 8, 132}, 128, 128, 256, 2);
  expect({4, 4096, 7168 - 128, 256, 8, 8, 132}, 64, 128, 128, 0);
  expect({1, 512, 7168, 256, 8, 8, 132}, 128, 128, 256, 1);
  expect({8, 7168, 2048, 256, 1, 8, 132}, 64, 128, 128, 0);
  expect({4096, 28672, 4096, 8, 2, 64, 132}, 64, 256, 256, 0);

  // 128 must divide the depth for the deep tile. Of a depth of 2048, not of 2112, few tiles have as
  // many blocks.
  expect(dense(64, 2048, 2048, 16), 128, 128, 256, 1);
  expect(dense(64, 2048, 4096, 16), 128, 128, 256, 1);
  expect(dense(64, 8192, 2048, 16), 64, 128, 128, 3);
  expect(dense(64, 8192, 2112, 16), 64, 128, 128, 0);
  expect(dense(64, 2048, 1984, 16), 64, 128, 128, 0);
  // More rows than 16 in a block, and no rows at all.
  expect(dense(64, 2048, 2048, 32), 64, 128, 128, 0);
  expect(dense(0, 2048, 2048, 16), 128, 128, 256, 1);

  // The wide tile: 64 rows, or 48 where C is wider than A, whole tiles, and one for each
  // multiprocessor.
  expect(dense(4096, 4096, 4096, 64), 64, 256, 256, 0);
  expect(dense(4096, 4096, 4096, 48), 64, 128, 128, 0);
  expect(dense(4096, 8192, 4096, 48), 64, 256, 256, 0);
  expect(dense(4096, 4096 + 128, 4096, 64), 64, 128, 128, 0);
  expect(dense(64, 4096, 4096, 64), 64, 128, 128, 0);

  // The narrow tile, where it was built: up to three for each multiprocessor.
  const std::vector<TileSize> narrow = {{128, 128, 256}, {64, 128, 128}, {128, 64, 128}};
  expect_of(narrow, qwen3_gate_up(1), 128, 64, 128, 2);
  expect_of(narrow, qwen3_gate_up(2), 128, 64, 128, 3);
  expect_of(narrow, qwen3_gate_up(4), 64, 128, 128, 3);
  expect_of(narrow, {16, 192, 2048, 128, 8, 8, 132}, 128, 64, 128, 2);
  expect_of(narrow, {1, 512, 7168, 256, 8, 8, 132}, 128, 128, 256, 1);
  expect_of(narrow, {16, 192, 2048, 128, 8, 32, 132}, 64, 128, 128, 0);

  // Other tiles than the table's: the rules go by what is deep, wide and small among them.
  expect_of({{128, 64, 128}}, qwen3_gate_up(8), 128, 64, 128, 0);
  expect_of({{64, 256, 256}}, qwen3_gate_up(8), 64, 256, 256, 3);
  expect_of({{128, 64, 128}, {128, 128, 256}}, qwen3_gate_up(8), 128, 64, 128, 0);
  expect_of({{128, 64, 128}, {64, 128, 128}}, dense(4096, 4096, 4096, 64), 64, 128, 128, 0);
  expect_of({{128, 64, 128}, {128, 128, 256}}, dense(4096, 4096, 4096, 64), 128, 128, 256, 0);
  return failures == 0 ? 0 : 1;
}
