// Which tile suits a shape, and how many thread blocks of it a multiprocessor shall hold, as
// measured on an H100 (docs/kernel-notes.md). Which kernels were built is not looked at.
#pragma once

#include <algorithm>
#include <cmath>

namespace marlin_moe {

// A MoE GEMM and the device for it, as far as the choice depends on them.
struct TileProblem {
  int m;  // rows of A
  int n;
  int k;
  int num_experts;
  int top_k;
  int block_size;
  int multiprocessors;
};

struct TileChoice {
  int thread_k;
  int thread_n;
  int threads;
  int blocks_per_sm;  // 0: as many as fit
  const char* reason;
};

// Blocks of sorted_token_ids that tokens spread evenly over the experts fill on average, at most:
// ids whose experts are elsewhere are not known here.
inline double expected_blocks(const TileProblem& problem) {
  const double ids = static_cast<double>(problem.m) * problem.top_k;
  const double experts = problem.num_experts;
  const double active = experts * (1.0 - std::exp(-ids / experts));
  return std::max(active, ids / problem.block_size + 0.5 * active);
}

// The tile to try first.
inline TileChoice choose_tile(const TileProblem& problem) {
  constexpr int kShortDepth = 2048;
  const double blocks = expected_blocks(problem);
  if (problem.block_size <= 16 && problem.k <= kShortDepth) {
    const double tiles = blocks * ((problem.n + 127) / 128);
    const double tiles_per_sm = std::ceil(tiles / problem.multiprocessors);
    if (tiles_per_sm <= 1 && problem.k % 128 == 0) {
      return {128, 128, 256, 1, "little work: one block per multiprocessor seldom splits a tile"};
    }
    if (tiles_per_sm > 1 && tiles_per_sm <= 3) {
      return {64, 128, 128, static_cast<int>(tiles_per_sm),
              "little work: about as many blocks as tiles, so that few are split"};
    }
  }
  const bool many_rows =
      problem.block_size == 64 || (problem.block_size == 48 && problem.n > problem.k);
  if (many_rows && problem.n % 256 == 0 && blocks * (problem.n / 256) >= problem.multiprocessors) {
    return {64, 256, 256, 0, "many rows: a wide tile reads A less often"};
  }
  return {64, 128, 128, 0, "few rows: small tiles keep more loads of weights under way"};
}

}  // namespace marlin_moe
