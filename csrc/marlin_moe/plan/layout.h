// Where weights, scales and zero points lie: one mapping for each of Marlin's layouts.
//
// Plain constexpr C++: the kernels that prepare checkpoints and the CPU tests share it. The numbers
// are those of the layouts that packers for Marlin write (arXiv 2408.11743 and its MoE
// descendants), so weights packed elsewhere are the same bytes.
#pragma once

#include "host_device.h"

namespace marlin_moe {

// A place in a matrix, or in a tile of one.
struct Element {
  int row;
  int column;
};

// A place in packed words: nibble or byte `position` of word `word`, counted from the low end.
struct Place {
  int word;
  int position;
};

// Nibble p of a word of zero points, AWQ weights or Marlin weights for 16-bit activations holds
// element [0, 2, 4, 6, 1, 3, 5, 7][p]: then one mask leaves two neighbours in the halves of the
// word.
MARLIN_HOST_DEVICE constexpr int eight_at(int position) {
  return position < 4 ? 2 * position : 2 * position - 7;
}
MARLIN_HOST_DEVICE constexpr int place_of_eight(int element) {
  return element / 2 + 4 * (element % 2);
}

// The same for the four bytes of a word: [0, 2, 1, 3], which is its own inverse.
MARLIN_HOST_DEVICE constexpr int four_at(int position) { return position / 2 + 2 * (position % 2); }

// Nibble p of a Marlin word for 8-bit activations holds element [0, 4, 1, 5, 2, 6, 3, 7][p]: one
// mask leaves four neighbours in the bytes of the word.
MARLIN_HOST_DEVICE constexpr int eight_of_bytes_at(int position) {
  return position / 2 + 4 * (position % 2);
}
MARLIN_HOST_DEVICE constexpr int place_of_eight_of_bytes(int element) {
  return 2 * (element % 4) + element / 4;
}

// Marlin's layout of the weights: tiles of 1,024 elements, row of tiles after row of tiles, each
// the fragments of one warp.
//
//   16-bit activations: 16 rows × 64 columns, which are four 16×16 tiles j. Of each, lane i holds
//     columns i / 4 and i / 4 + 8, and of those rows 2 (i % 4) + {0, 1, 8, 9}: at four bits one
//     word (elements 0 to 3 the first column), at eight bits two words, one for each column. The
//     words of a lane follow each other.
//   8-bit activations: 32 rows × 32 columns, which are two 32×16 tiles j. Of each, lane i holds
//     columns i / 4 and i / 4 + 8, with rows 4 (i % 4) + {0 … 3, 16 … 19}: at four bits one word
//     for each column, at eight bits two, the second with the rows from 16 on. The words of a lane
//     follow each other here, too.
struct WeightLayout {
  int bits;          // of a weight: 4 or 8
  bool eight_bit_a;  // made for 8-bit activations

  MARLIN_HOST_DEVICE constexpr int tile_rows() const { return eight_bit_a ? 32 : 16; }
  MARLIN_HOST_DEVICE constexpr int tile_columns() const { return eight_bit_a ? 32 : 64; }
  MARLIN_HOST_DEVICE constexpr int per_word() const { return 32 / bits; }
  MARLIN_HOST_DEVICE constexpr int words_per_tile() const { return 32 * bits; }
  MARLIN_HOST_DEVICE constexpr int words_per_lane() const { return bits; }

  // The element, in its tile, at a place of the tile's words.
  MARLIN_HOST_DEVICE constexpr Element element(int word, int position) const {
    const int lane = word / words_per_lane();
    const int own = word % words_per_lane();
    const bool nibbles = bits == 4;
    if (eight_bit_a) {
      const int i = nibbles ? eight_of_bytes_at(position) : own % 2 * 4 + position;
      const int column_block = nibbles ? own : own / 2;
      return {4 * (lane % 4) + i % 4 + 16 * (i / 4), column_block * 8 + lane / 4};
    }
    const int i = nibbles ? eight_at(position) : own % 2 * 4 + four_at(position);
    const int j = nibbles ? own : own / 2;
    return {2 * (lane % 4) + i % 2 + 8 * (i / 2 % 2), 16 * j + 8 * (i / 4) + lane / 4};
  }

  // The inverse of element().
  MARLIN_HOST_DEVICE constexpr Place place(int row, int column) const {
    const int half = column / 8 % 2;
    const int j = column / 16;
    if (eight_bit_a) {
      const int lane = column % 8 * 4 + row % 16 / 4;
      const int first = lane * words_per_lane();
      if (bits == 8) return {first + 2 * (column / 8) + row / 16, row % 4};
      return {first + column / 8, place_of_eight_of_bytes(row % 4 + 4 * (row / 16))};
    }
    const int lane = column % 8 * 4 + row % 8 / 2;
    const int i = half * 4 + row / 8 * 2 + row % 2;
    if (bits == 4) return {lane * words_per_lane() + j, place_of_eight(i)};
    return {lane * words_per_lane() + 2 * j + half, four_at(i % 4)};
  }
};

// Order of the columns of scales and bias.
enum class ColumnOrder {
  kGrouped,  // within 64 columns, position 8 i + j holds column i + 8 j
  kChannel,  // within 32 columns, position 8 i + t: column 2 i + [0, 1, 8, 9, 16, 17, 24, 25][t]
};

// The column that a position of a row holds.
MARLIN_HOST_DEVICE constexpr int column_at(ColumnOrder order, int position) {
  if (order == ColumnOrder::kGrouped) {
    return position / 64 * 64 + position % 64 / 8 + 8 * (position % 8);
  }
  return position / 32 * 32 + 2 * (position % 32 / 8) + position % 2 + 8 * (position % 8 / 2);
}

// The position of one-byte scales whose value `position` holds: [0, 2, 1, 3] of every four.
MARLIN_HOST_DEVICE constexpr int byte_scale_at(int position) {
  return position / 4 * 4 + four_at(position % 4);
}

// The column whose zero point a place of a row of packed zero points holds. They are in the order
// of grouped scales, also with one scale per channel, because they are taken away before any sum.
MARLIN_HOST_DEVICE constexpr int zero_point_column_at(bool eight_bit_a, Place place) {
  const int i = eight_bit_a ? place.position : eight_at(place.position);
  return column_at(ColumnOrder::kGrouped, 8 * place.word + i);
}

// A four-bit integer q that stands for q - zero, as kernels with e4m3 activations read it: what is
// not negative as it is, the others as 15 - q. The kernel adds the zero point to tell them apart.
MARLIN_HOST_DEVICE constexpr int fp8_nibble(int q, int zero) {
  return q >= zero ? q - zero : 15 - q;
}

}  // namespace marlin_moe
