// The tile of the sm90 family that is chosen: expected blocks against a simulation, tiles of the
// benchmark's layers, and what must hold anywhere.
#include "marlin_moe/plan/sm90_choice.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <iterator>
#include <random>
#include <vector>

namespace {

using marlin_moe::Sm90Problem;
using marlin_moe::Sm90TileId;

int failures = 0;

constexpr Sm90TileId kTiles[] = {{16, 512, 1},  {24, 512, 1},  {32, 512, 1},  {48, 512, 1},
                                 {64, 512, 1},  {80, 512, 1},  {16, 256, 2},  {32, 256, 2},
                                 {96, 256, 1},  {112, 256, 1}, {128, 256, 1}, {144, 256, 1},
                                 {160, 256, 1}, {176, 256, 1}};

Sm90TileId cheapest_tile(const Sm90Problem& problem) {
  return *std::min_element(
      std::begin(kTiles), std::end(kTiles), [&](const Sm90TileId& a, const Sm90TileId& b) {
        return marlin_moe::sm90_cost(problem, a) < marlin_moe::sm90_cost(problem, b);
      });
}

// Tokens thrown into experts at random, blocks counted.
void compare_with_simulation(int ids, int experts, int rows) {
  std::mt19937 random(1);
  constexpr int kRuns = 400;
  double sum = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<int> tokens(experts);
    for (int i = 0; i < ids; ++i) ++tokens[random() % experts];
    for (const int count : tokens) sum += (count + rows - 1) / rows;
  }
  const double expected =
      marlin_moe::expect_blocks({static_cast<double>(ids), 256, 256, experts, 4, 132}, rows).mean;
  if (std::abs(expected - sum / kRuns) <= 0.03 * expected) return;
  std::fprintf(stderr, "%d ids, %d experts, %d rows: %.1f blocks expected, %.1f seen\n", ids,
               experts, rows, expected, sum / kRuns);
  ++failures;
}

void expect_rows(const Sm90Problem& problem, int least, int most) {
  const Sm90TileId tile = cheapest_tile(problem);
  if (tile.rows >= least && tile.rows <= most) return;
  std::fprintf(stderr, "%.0f ids of %d experts, n %d, k %d: %d rows instead of %d to %d\n",
               problem.ids, problem.num_experts, problem.n, problem.k, tile.rows, least, most);
  ++failures;
}

}  // namespace

int main() {
  for (const int ids : {16, 500, 8192, 30000}) {
    for (const int experts : {8, 128}) {
      for (const int rows : {16, 80, 176}) compare_with_simulation(ids, experts, rows);
    }
  }

  // Layers and tokens where the best tile was measured.
  const auto mixtral_gate_up = [](int tokens) {
    return Sm90Problem{2.0 * tokens, 28672, 4096, 8, 4, 132};
  };
  const auto mixtral_down = [](int tokens) {
    return Sm90Problem{2.0 * tokens, 4096, 14336, 8, 4, 132};
  };
  const auto qwen3_gate_up = [](int tokens) {
    return Sm90Problem{8.0 * tokens, 1536, 2048, 128, 4, 132};
  };
  const auto qwen3_down = [](int tokens) {
    return Sm90Problem{8.0 * tokens, 2048, 768, 128, 4, 132};
  };
  expect_rows(mixtral_gate_up(256), 80, 80);
  expect_rows(mixtral_gate_up(1024), 144, 160);
  expect_rows(mixtral_gate_up(4096), 176, 176);
  expect_rows(mixtral_down(256), 80, 96);
  expect_rows(mixtral_down(1024), 144, 160);
  expect_rows(mixtral_down(4096), 176, 176);
  expect_rows(qwen3_gate_up(256), 24, 32);
  expect_rows(qwen3_gate_up(1024), 80, 80);
  expect_rows(qwen3_gate_up(4096), 144, 144);
  expect_rows(qwen3_down(256), 24, 32);
  expect_rows(qwen3_down(1024), 80, 80);
  expect_rows(qwen3_down(4096), 144, 144);

  // One token, one expert, one column: still a tile and a number.
  for (const Sm90Problem& problem :
       {Sm90Problem{1, 64, 64, 1, 8, 132}, Sm90Problem{1e6, 64, 64, 1, 4, 1}}) {
    const Sm90TileId tile = cheapest_tile(problem);
    if (std::isfinite(marlin_moe::sm90_cost(problem, tile))) continue;
    std::fprintf(stderr, "no finite cost\n");
    ++failures;
  }
  return failures == 0 ? 0 : 1;
}
