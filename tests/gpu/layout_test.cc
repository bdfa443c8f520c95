// Tests of the layouts' mappings, which the kernels that prepare checkpoints are made of.
#include "marlin_moe/plan/layout.h"

#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>
#include <vector>

namespace {

using marlin_moe::column_at;
using marlin_moe::ColumnOrder;
using marlin_moe::Element;
using marlin_moe::Place;
using marlin_moe::WeightLayout;

#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                        \
    }                                                                      \
  } while (false)

constexpr WeightLayout kLayouts[] = {{4, false}, {8, false}, {4, true}, {8, true}};

void a_tile_holds_each_element_once() {
  for (const WeightLayout& layout : kLayouts) {
    CHECK(layout.tile_rows() * layout.tile_columns() == 1024);
    CHECK(layout.words_per_tile() * layout.per_word() == 1024);
    CHECK(layout.words_per_lane() * 32 == layout.words_per_tile());
    std::set<std::pair<int, int>> seen;
    for (int word = 0; word < layout.words_per_tile(); ++word) {
      for (int position = 0; position < layout.per_word(); ++position) {
        const Element element = layout.element(word, position);
        CHECK(element.row >= 0 && element.row < layout.tile_rows());
        CHECK(element.column >= 0 && element.column < layout.tile_columns());
        CHECK(seen.insert({element.row, element.column}).second);
        const Place place = layout.place(element.row, element.column);
        CHECK(place.word == word && place.position == position);
      }
    }
  }
}

// The elements of a word, in the order of its nibbles or bytes, against what packers write down.
void expect_word(const WeightLayout& layout, int word, int column, const std::vector<int>& rows,
                 const std::vector<int>& order, int second_column) {
  for (int position = 0; position < layout.per_word(); ++position) {
    const int i = order[static_cast<std::size_t>(position)];
    const int count = static_cast<int>(rows.size());
    const Element element = layout.element(word, position);
    CHECK(element.row == rows[static_cast<std::size_t>(i % count)]);
    CHECK(element.column == (i < count ? column : second_column));
  }
}

void words_of_lanes_are_those_of_marlin() {
  for (int lane = 0; lane < 32; ++lane) {
    const int column = lane / 4;
    std::vector<int> rows;
    for (int row : {0, 1, 8, 9}) rows.push_back(2 * (lane % 4) + row);
    std::vector<int> deep_rows;
    for (int row : {0, 1, 2, 3, 16, 17, 18, 19}) deep_rows.push_back(4 * (lane % 4) + row);
    for (int j = 0; j < 4; ++j) {
      const int first = 16 * j + column;
      expect_word({4, false}, 4 * lane + j, first, rows, {0, 2, 4, 6, 1, 3, 5, 7}, first + 8);
      for (int half = 0; half < 2; ++half) {
        expect_word({8, false}, 8 * lane + 2 * j + half, first + 8 * half, rows, {0, 2, 1, 3}, -1);
        if (j < 2) {
          expect_word({4, true}, 4 * lane + 2 * j + half, first + 8 * half, deep_rows,
                      {0, 4, 1, 5, 2, 6, 3, 7}, -1);
          const std::vector<int> low(deep_rows.begin(), deep_rows.begin() + 4);
          const std::vector<int> high(deep_rows.begin() + 4, deep_rows.end());
          const int word = 8 * lane + 2 * (2 * j + half);
          expect_word({8, true}, word, first + 8 * half, low, {0, 1, 2, 3}, -1);
          expect_word({8, true}, word + 1, first + 8 * half, high, {0, 1, 2, 3}, -1);
        }
      }
    }
  }
}

void columns_are_permuted_within_their_blocks() {
  const int offsets[] = {0, 1, 8, 9, 16, 17, 24, 25};
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j) {
      CHECK(column_at(ColumnOrder::kGrouped, 128 + 8 * i + j) == 128 + i + 8 * j);
      if (i < 4) CHECK(column_at(ColumnOrder::kChannel, 96 + 8 * i + j) == 96 + 2 * i + offsets[j]);
    }
  }
  const int bytes[] = {0, 2, 1, 3};
  for (int position = 0; position < 64; ++position) {
    CHECK(marlin_moe::byte_scale_at(position) == position / 4 * 4 + bytes[position % 4]);
  }
}

void zero_points_lie_where_their_columns_are_multiplied() {
  const int order[] = {0, 2, 4, 6, 1, 3, 5, 7};
  for (int word = 0; word < 24; ++word) {
    for (int position = 0; position < 8; ++position) {
      const int first = word / 8 * 64 + word % 8;
      CHECK(marlin_moe::zero_point_column_at(true, {word, position}) == first + 8 * position);
      CHECK(marlin_moe::zero_point_column_at(false, {word, position}) ==
            first + 8 * order[position]);
    }
  }
  for (int element = 0; element < 8; ++element) {
    CHECK(marlin_moe::eight_at(marlin_moe::place_of_eight(element)) == element);
    CHECK(marlin_moe::eight_of_bytes_at(marlin_moe::place_of_eight_of_bytes(element)) == element);
  }
}

}  // namespace

int main() {
  a_tile_holds_each_element_once();
  words_of_lanes_are_those_of_marlin();
  columns_are_permuted_within_their_blocks();
  zero_points_lie_where_their_columns_are_multiplied();
  return 0;
}
