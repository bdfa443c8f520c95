// The size of the partial sums is what a walk over every stripe of every launch writes at most.
#include "marlin_moe/plan/partial_sums.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>

namespace {

using marlin_moe::LastPartial;
using marlin_moe::PartialSumsShape;
using marlin_moe::StripePlan;

// The last place that the stripes write, tile by tile, as the kernel goes through them.
LastPartial walk(const PartialSumsShape& shape, int row_blocks) {
  const int n_tiles = (shape.n + shape.thread_n - 1) / shape.thread_n;
  const StripePlan plan = marlin_moe::plan_stripes(row_blocks * n_tiles, shape.tile_stages,
                                                   shape.stripes, shape.stripe_slack);
  LastPartial last;
  for (int stripe = 0; stripe < shape.stripes; ++stripe) {
    const int end = plan.end(stripe);
    for (int stage = plan.begin(stripe); stage < end;) {
      const int tile = stage / shape.tile_stages;
      const int k_begin = stage - tile * shape.tile_stages;
      stage += std::min(shape.tile_stages - k_begin, end - stage);
      if (k_begin == 0) continue;  // the stripe owns the tile
      const int owner = plan.stripe_of(tile, 0);
      const int columns = std::min(
          shape.n - marlin_moe::tile_index(tile, row_blocks, n_tiles).n_tile * shape.thread_n,
          shape.thread_n);
      const LastPartial written{shape.atomic_reduce ? owner : stripe - 1, columns};
      if (last.before(written)) last = written;
    }
  }
  return last;
}

std::int64_t walk_all(const PartialSumsShape& shape) {
  LastPartial last;
  for (int row_blocks = 0; row_blocks <= shape.max_row_blocks; ++row_blocks) {
    const LastPartial written = walk(shape, row_blocks);
    if (last.before(written)) last = written;
  }
  if (last.index < 0) return 0;
  const std::int64_t rows_before = static_cast<std::int64_t>(last.index + 1) * shape.rows - 1;
  return rows_before * shape.thread_n + last.columns;
}

class Draws {
 public:
  int from(std::initializer_list<int> choices) {
    return *(choices.begin() + below(static_cast<int>(choices.size())));
  }
  int below(int end) { return static_cast<int>(engine_() % static_cast<unsigned>(end)); }

 private:
  std::mt19937 engine_{1};
};

PartialSumsShape draw(Draws* draws) {
  PartialSumsShape shape{};
  const bool large = draws->below(8) == 0;
  shape.max_row_blocks = 1 + draws->below(large ? 600 : 40);
  shape.rows = draws->from({8, 16, 64});
  shape.thread_n = draws->from({64, 128, 256});
  shape.n = 64 * (1 + draws->below(draws->from({3, 8, 40})));
  shape.tile_stages = 1 + draws->below(draws->from({4, 12, 120}));
  shape.stripe_slack = draws->from({0, 1, 8, 8, 8, 1000});
  shape.atomic_reduce = draws->below(2) != 0;
  const int n_tiles = (shape.n + shape.thread_n - 1) / shape.thread_n;
  const int resident = large ? draws->from({2, 5, 20}) : draws->from({2, 5, 20, 132, 264, 528});
  shape.stripes = std::min(shape.max_row_blocks * n_tiles * shape.tile_stages, resident);
  return shape;
}

bool check(const PartialSumsShape& shape) {
  const std::int64_t expected = walk_all(shape);
  const std::int64_t found = marlin_moe::partial_sums(shape);
  const std::int64_t limit = marlin_moe::partial_sums_limit(shape);
  if (found == expected && found <= limit) return true;
  std::fprintf(stderr,
               "row blocks %d of %d, n %d in tiles of %d, stages %d, stripes %d, slack %d, atomic "
               "%d: %lld floats instead of %lld, limit %lld\n",
               shape.max_row_blocks, shape.rows, shape.n, shape.thread_n, shape.tile_stages,
               shape.stripes, shape.stripe_slack, shape.atomic_reduce,
               static_cast<long long>(found), static_cast<long long>(expected),
               static_cast<long long>(limit));
  return false;
}

}  // namespace

int main() {
  Draws draws;
  int failures = 0;
  int at_limit = 0;
  int without = 0;
  constexpr int kShapes = 3000;
  for (int i = 0; i < kShapes; ++i) {
    const PartialSumsShape shape = draw(&draws);
    if (!check(shape)) ++failures;
    const std::int64_t found = marlin_moe::partial_sums(shape);
    at_limit += found > 0 && found == marlin_moe::partial_sums_limit(shape);
    without += found == 0;
  }
  // More stages in a row of tiles than an int counts.
  for (const int rows : {8, 64}) {
    if (!check({5, rows, 1 << 24, 128, 1 << 18, 528, 8, rows == 8})) ++failures;
  }
  std::printf("%d shapes: %d at the limit, %d without partial sums, %d failures\n", kShapes,
              at_limit, without, failures);
  const bool all_kinds = at_limit > 0 && without > 0 && at_limit + without < kShapes;
  return failures == 0 && all_kinds ? 0 : 1;
}
