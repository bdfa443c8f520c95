// Whole tiles and stripes cover the work exactly once, whatever the numbers, and say who holds
// what.
#include "marlin_moe/plan/schedule.h"

#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

namespace {

using marlin_moe::Divider;
using marlin_moe::StripePlan;

int failures = 0;

void expect(bool condition, const char* what, int tiles, int stages, int stripes, int slack) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s (tiles %d, stages %d, stripes %d, slack %d)\n", what, tiles,
               stages, stripes, slack);
  ++failures;
}

void check_plan(int tiles, int stages, int stripes, int slack) {
  const StripePlan plan = marlin_moe::plan_stripes(tiles, stages, stripes, slack);
  const auto require = [&](bool condition, const char* what) {
    expect(condition, what, tiles, stages, stripes, slack);
  };
  const int cut = plan.cut_tiles;
  require(cut >= 0 && cut <= tiles && (tiles - cut) % stripes == 0, "whole tiles fill waves");
  require(cut < 2 * stripes, "a wave more would leave stripes without a tile");
  require(tiles == cut || cut == 0 || cut > stripes, "what is cut is worth a tile for each stripe");
  require(plan.total == cut * stages, "stages are those of the tiles that are cut");

  const int even = (plan.total + stripes - 1) / stripes;
  std::vector<int> holder(plan.total, -1);
  for (int stripe = 0; stripe < stripes; ++stripe) {
    require(plan.end(stripe) - plan.begin(stripe) <= even + slack,
            "stripes grow by the slack at most");
    for (int stage = plan.begin(stripe); stage < plan.end(stripe); ++stage) {
      require(stage < plan.total && holder[stage] == -1, "a stage is in one stripe");
      if (stage < plan.total) holder[stage] = stripe;
    }
  }
  // What the count of a tile's contributors at its owner relies on.
  for (int stripe = 0; stripe < stripes; ++stripe) {
    int owned = 0;
    int contributed = 0;
    for (int tile = plan.begin(stripe) / stages; tile * stages < plan.end(stripe); ++tile) {
      const bool begins = plan.begin(stripe) <= tile * stages;
      const bool ends = plan.end(stripe) >= (tile + 1) * stages;
      if (begins && !ends) ++owned;
      if (!begins) ++contributed;
    }
    require(owned <= 1, "a stripe owns one tile that others contribute to, at most");
    require(contributed <= 1, "a stripe contributes to one tile, at most");
  }
  for (int stage = 0; stage < plan.total; ++stage) {
    require(holder[stage] != -1, "every stage is in a stripe");
    require(plan.stripe_of(stage / stages, stage % stages) == holder[stage],
            "stripe_of() names the holder");
    if (stage % stages > 0) {
      require(holder[stage] - holder[stage - 1] <= 1, "a tile's contributors follow its owner");
    }
  }
}

// What all thread blocks walk along is every stage of every tile once, and the parts of a tile
// agree on who owns it.
void check_walk(int tiles, int stages, int stripes, int slack) {
  const auto require = [&](bool condition, const char* what) {
    expect(condition, what, tiles, stages, stripes, slack);
  };
  struct Part {
    int stripe;
    marlin_moe::TilePart part;
    marlin_moe::TileShare share;
  };
  const Divider tile_stages(stages);
  const Divider all_stripes(stripes);
  const StripePlan plan = marlin_moe::plan_stripes(tiles, tile_stages, all_stripes, slack);
  std::vector<std::vector<Part>> parts_of(tiles);
  for (int stripe = 0; stripe < stripes; ++stripe) {
    marlin_moe::StripeSchedule schedule({plan, plan.begin(stripe), plan.end(stripe)}, tiles,
                                        tile_stages, all_stripes, stripe);
    bool in_stripe = true;
    for (marlin_moe::TilePart part{}; schedule.next(&part);) {
      const bool inside = part.tile >= 0 && part.tile < tiles && part.k_begin >= 0 &&
                          part.k_begin < part.k_end && part.k_end <= stages;
      require(inside, "a part lies in its tile");
      if (!inside) return;
      require(in_stripe || part.tile >= plan.cut_tiles, "a block begins with its stripe");
      in_stripe = part.tile < plan.cut_tiles;
      parts_of[part.tile].push_back({stripe, part, schedule.share(part)});
    }
  }
  for (const std::vector<Part>& parts : parts_of) {
    int k = 0;
    for (const Part& part : parts) {  // in the order of their stripes
      require(part.part.k_begin == k, "a tile's parts follow each other");
      k = part.part.k_end;
      require(part.share.owns == (&part == &parts.front()), "the first part owns the tile");
      require(part.share.owner == parts.front().stripe, "all parts name the tile's owner");
      const int others = static_cast<int>(parts.size()) - 1;
      require(part.stripe == parts.front().stripe + (&part - parts.data()),
              "contributors are the stripes behind the owner");
      require(!part.share.owns || part.share.num_contributors == others,
              "an owner counts its contributors");
    }
    require(k == stages, "a tile's parts are all of it");
  }
}

// Every tile of C is some tile, and full groups of row blocks have a column after the other.
void check_tile_index(int row_blocks, int n_tiles) {
  std::vector<int> seen(row_blocks * n_tiles, 0);
  for (int tile = 0; tile < row_blocks * n_tiles; ++tile) {
    const marlin_moe::TileIndex index = marlin_moe::tile_index(tile, row_blocks, n_tiles);
    const bool inside = index.row_block >= 0 && index.row_block < row_blocks && index.n_tile >= 0 &&
                        index.n_tile < n_tiles;
    expect(inside, "a tile lies in C", tile, row_blocks, n_tiles, 0);
    if (inside) ++seen[index.row_block * n_tiles + index.n_tile];
    const int group = 4 * n_tiles;
    if (tile / group < row_blocks / 4) {
      expect(index.row_block / 4 == tile / group && index.n_tile == tile % group / 4,
             "a group's tiles follow its columns", tile, row_blocks, n_tiles, 0);
    }
  }
  for (const int count : seen) {
    expect(count == 1, "every tile of C has one number", 0, row_blocks, n_tiles, 0);
  }
}

void check_divider(int divisor) {
  constexpr int kMost = std::numeric_limits<int>::max();
  const Divider divider(divisor);
  const auto check = [&](std::int64_t dividend) {
    if (dividend < 0 || dividend > kMost) return;
    const int number = static_cast<int>(dividend);
    expect(number / divider == number / divisor, "a quotient is exact", number, divisor, 0, 0);
    expect(number % divider == number % divisor, "a rest is exact", number, divisor, 0, 0);
  };
  for (int small = 0; small < 300; ++small) check(small);
  for (const std::int64_t quotient : {1, 2, 3, 1000, 65537, kMost / divisor}) {
    for (const int step : {-1, 0, 1}) check(quotient * divisor + step);
  }
  check(kMost);
}

}  // namespace

int main() {
  for (const int tiles : {0, 1, 2, 7, 96, 128, 131, 132, 133, 263, 264, 265, 400}) {
    for (const int stages : {1, 2, 6, 12, 32, 33}) {
      for (const int stripes : {1, 2, 5, 132, 528}) {
        for (const int slack : {0, 1, 4, 8, 1000}) {
          check_plan(tiles, stages, stripes, slack);
          check_walk(tiles, stages, stripes, slack);
        }
      }
    }
  }
  // The case that the slack is for: 132 blocks, 128 tiles, none of them split.
  const StripePlan whole = marlin_moe::plan_stripes(128, 12, 132, 8);
  expect(whole.length == 12 && whole.begin(127) == 127 * 12 && whole.end(127) == 128 * 12,
         "a stripe is a tile", 128, 12, 132, 8);
  for (const int row_blocks : {1, 2, 3, 4, 5, 7, 8, 9, 31}) {
    for (const int n_tiles : {1, 2, 3, 16, 29}) check_tile_index(row_blocks, n_tiles);
  }
  for (const int divisor : {1, 2, 3, 5, 7, 8, 10, 112, 641, 6700417, 0x40000000, 0x7fffffff}) {
    check_divider(divisor);
  }
  return failures == 0 ? 0 : 1;
}
