// Which of some tiles suits a shape, and how many thread blocks of it a multiprocessor shall hold,
// as measured on an H100 and an H200 (docs/kernel-notes.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <tuple>

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

struct TileSize {
  int thread_k;
  int thread_n;
  int threads;
};

struct TileChoice {
  int index;          // among the tiles to choose from
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

// The best of the `count` tiles from `first` on, one at least, whose thread_k divides k.
inline TileChoice choose_tile(const TileProblem& problem, const TileSize* first, int count) {
  constexpr int kShortDepth = 2048;
  constexpr int kLongDepth = 7168;
  const auto best = [&](auto worth) {
    return std::max_element(first, first + count, [&](const TileSize& a, const TileSize& b) {
      return worth(a) < worth(b);
    });
  };
  const TileSize* deep = best([](const TileSize& t) { return std::tuple(t.thread_k, t.thread_n); });
  const TileSize* wide = best([](const TileSize& t) { return std::tuple(t.thread_n, t.threads); });
  const TileSize* small =
      best([](const TileSize& t) { return std::tuple(-t.threads, t.thread_n); });
  const TileSize* narrow = best([](const TileSize& t) { return -t.thread_n; });
  const auto choice = [&](const TileSize* tile, int blocks_per_sm, const char* reason) {
    return TileChoice{static_cast<int>(tile - first), blocks_per_sm, reason};
  };

  const double blocks = expected_blocks(problem);
  const auto tiles_per_sm = [&](const TileSize* tile) {
    const int n_tiles = (problem.n + tile->thread_n - 1) / tile->thread_n;
    return std::ceil(blocks * n_tiles / problem.multiprocessors);
  };
  if (problem.block_size <= 16) {
    const bool deeper = deep->thread_k > small->thread_k;
    const auto as_many_blocks = [&](const TileSize* tile) {
      return choice(tile, static_cast<int>(tiles_per_sm(tile)),
                    "little work: about as many blocks as tiles, so that few are split");
    };
    if (narrow->thread_n < small->thread_n && problem.k < kLongDepth && tiles_per_sm(narrow) >= 1 &&
        tiles_per_sm(narrow) <= 3) {
      return as_many_blocks(narrow);
    }
    if (deeper && tiles_per_sm(deep) <= 1) {
      return choice(deep, 1, "little work: one block per multiprocessor seldom splits a tile");
    }
    if (problem.k <= kShortDepth && tiles_per_sm(small) > 1 && tiles_per_sm(small) <= 3) {
      return as_many_blocks(small);
    }
    if (deeper && problem.k >= kLongDepth) {
      return choice(deep, 2, "few rows, long columns: a deep tile waits less often");
    }
  }
  const bool many_rows =
      problem.block_size == 64 || (problem.block_size == 48 && problem.n > problem.k);
  if (many_rows && wide->thread_n > small->thread_n && problem.n % wide->thread_n == 0 &&
      blocks * (problem.n / wide->thread_n) >= problem.multiprocessors) {
    return choice(wide, 0, "many rows: a wide tile reads A less often");
  }
  return choice(small, 0, "few rows: small tiles keep more loads of weights under way");
}

}  // namespace marlin_moe
