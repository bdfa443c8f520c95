// Which tile of the sm90 family suits a MoE GEMM, as measured on an H100 (docs/kernel-notes.md).
//
// No table of layers: the time of each tile is estimated from how many blocks of rows the tokens
// will fill, how many waves those make on the device, and what a tile and the weights cost.
#pragma once

#include <algorithm>
#include <cmath>

#include "marlin_moe/plan/sm90_tile.h"

namespace marlin_moe {

// A MoE GEMM and the device for it, as far as the choice depends on them.
struct Sm90Problem {
  double ids;  // rows of C: tokens times experts per token
  int n;
  int k;
  int num_experts;
  int b_bits;
  int multiprocessors;
  int a_bits = 16;

  // Pipeline stages that cover k.
  int stages() const {
    const int stage_k = Sm90Tile::kStageRowBytes * 8 / a_bits;
    return (k + stage_k - 1) / stage_k;
  }
};

// A tile that a kernel was built for.
struct Sm90TileId {
  int rows;
  int thread_n;
  int blocks_per_sm;
};

// How many blocks of rows tokens fill that spread evenly over the experts.
struct ExpectedBlocks {
  double mean;
  double deviation;  // standard
};

// An expert's tokens are taken to be Poisson distributed; where there are many, normally.
inline ExpectedBlocks expect_blocks(const Sm90Problem& problem, int rows) {
  const double tokens = problem.ids / problem.num_experts;
  // Whether an expert has more than `count` tokens.
  const auto more_than = [tokens](int count) {
    if (tokens > 40) return 0.5 * std::erfc((count + 0.5 - tokens) / std::sqrt(2 * tokens));
    double probability = std::exp(-tokens);
    double at_most = probability;
    for (int i = 1; i <= count; ++i) at_most += probability *= tokens / i;
    return std::max(0.0, 1 - at_most);
  };
  double mean = 0;
  double square = 0;
  for (int j = 0; j * rows < tokens + 6 * std::sqrt(tokens) + 1; ++j) {
    const double probability = more_than(j * rows);
    mean += probability;
    square += (2 * j + 1) * probability;
  }
  const double experts = problem.num_experts;
  return {experts * mean, std::sqrt(experts * std::max(0.0, square - mean * mean))};
}

// Into how many parts the kernel may cut a tile along k: parts of four stages are worth the
// exchange of partial sums.
inline int sm90_k_splits(const Sm90Problem& problem) {
  return std::clamp(problem.stages() / 4, 1, PartCount::kMostParts);
}

// Microseconds, roughly, that the GEMM takes with a tile.
inline double sm90_cost(const Sm90Problem& problem, const Sm90TileId& tile) {
  // Of a multiprocessor, for a row of 256 columns in a stage; how many rows take as long as what is
  // not done by the row, decoding above all; and of a tile, for each 256 columns, what of its start
  // and end other work does not hide.
  constexpr double kStageRow = 0.0052;
  constexpr double kMoreRows = 24;
  constexpr double kTile = 2.5;
  // Of a part of a tile: writing and reading partial sums.
  constexpr double kPart = 3;
  constexpr double kBytesPerMicrosecond = 2.8e6;

  const double width = tile.thread_n / 256.0;
  const double stages = problem.stages();
  const double product = stages * (tile.rows + kMoreRows) * kStageRow * width * tile.blocks_per_sm;
  const double grid = static_cast<double>(problem.multiprocessors) * tile.blocks_per_sm;
  const int n_tiles = (problem.n + tile.thread_n - 1) / tile.thread_n;
  const ExpectedBlocks blocks = expect_blocks(problem, tile.rows);

  // The mean over the numbers of blocks, taken to be normally distributed: Gauss and Hermite's rule
  // of three points.
  double compute = 0;
  for (int i = -1; i <= 1; ++i) {
    const double weight = i == 0 ? 2.0 / 3 : 1.0 / 6;
    const double count = std::round(blocks.mean + i * std::sqrt(3.0) * blocks.deviation);
    const double tiles = std::max(1.0, count) * n_tiles;
    const double whole = std::floor(tiles / grid);
    const double rest = tiles - whole * grid;
    compute += weight * whole * (product + kTile * width);
    if (rest > 0) {
      const double parts =
          std::clamp(std::floor(grid / rest), 1.0, static_cast<double>(sm90_k_splits(problem)));
      compute += weight * (product / parts + (kTile + (parts > 1 ? kPart : 0)) * width);
    }
  }
  const double active = problem.num_experts * (1 - std::exp(-problem.ids / problem.num_experts));
  const double memory = active * problem.n * problem.k * problem.b_bits / 8 / kBytesPerMicrosecond;
  // Neither hides all of the other.
  return std::max(compute, memory) + 0.15 * std::min(compute, memory);
}

// Whether to gather the rows of A before the GEMM, into memory. That costs each row once, and saves
// something for each tile of the row, if the tile is one that waits for rows rather than for
// weights: with many of them, most of them tokens.
inline bool sm90_gathers_first(const Sm90Problem& problem, const Sm90TileId& tile) {
  // 8-bit rows are half as long to copy.
  const int fewest_tiles = problem.a_bits == 8 ? 16 : 24;
  const int n_tiles = (problem.n + tile.thread_n - 1) / tile.thread_n;
  return Sm90Tile::takes_staged_a(tile.rows) && n_tiles >= fewest_tiles &&
         problem.ids >= 0.5 * tile.rows * problem.num_experts;
}

}  // namespace marlin_moe
