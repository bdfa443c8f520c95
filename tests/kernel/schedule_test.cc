// Stripes cover the work exactly once, whatever the numbers, and say who holds what.
#include "marlin_moe/schedule.h"

#include <cstdio>
#include <vector>

namespace {

int failures = 0;

void expect(bool condition, const char* what, int tiles, int stages, int stripes, int slack) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s (tiles %d, stages %d, stripes %d, slack %d)\n", what, tiles,
               stages, stripes, slack);
  ++failures;
}

void check_plan(int tiles, int stages, int stripes, int slack) {
  const marlin_moe::StripePlan plan = marlin_moe::plan_stripes(tiles, stages, stripes, slack);
  const int total = tiles * stages;
  const int even = (total + stripes - 1) / stripes;
  std::vector<int> holder(total, -1);
  for (int stripe = 0; stripe < stripes; ++stripe) {
    expect(plan.end(stripe) - plan.begin(stripe) <= even + slack,
           "stripes grow by the slack at most", tiles, stages, stripes, slack);
    for (int stage = plan.begin(stripe); stage < plan.end(stripe); ++stage) {
      expect(stage < total && holder[stage] == -1, "a stage is in one stripe", tiles, stages,
             stripes, slack);
      if (stage < total) holder[stage] = stripe;
    }
  }
  for (int stage = 0; stage < total; ++stage) {
    expect(holder[stage] != -1, "every stage is in a stripe", tiles, stages, stripes, slack);
    expect(plan.stripe_of(stage) == holder[stage], "stripe_of() names the holder", tiles, stages,
           stripes, slack);
    if (stage % stages > 0) {
      expect(holder[stage] - holder[stage - 1] <= 1, "a tile's contributors follow its owner",
             tiles, stages, stripes, slack);
    }
  }
}

}  // namespace

int main() {
  for (const int tiles : {0, 1, 2, 7, 96, 128}) {
    for (const int stages : {1, 2, 6, 12, 32, 33}) {
      for (const int stripes : {1, 2, 5, 132, 528}) {
        for (const int slack : {0, 1, 4, 8, 1000}) check_plan(tiles, stages, stripes, slack);
      }
    }
  }
  // The case that the slack is for: 132 blocks, 128 tiles, none of them split.
  const marlin_moe::StripePlan whole = marlin_moe::plan_stripes(128, 12, 132, 8);
  expect(whole.length == 12 && whole.period == 12, "a stripe is a tile", 128, 12, 132, 8);
  return failures == 0 ? 0 : 1;
}
