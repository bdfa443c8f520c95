// Where the 16-byte chunks of A and B lie within their parts of a pipeline stage.
//
// Threads copy, load and store shared memory 16 bytes at a time, eight lanes at once, which is fast
// if the eight chunks lie in different groups of banks: all at different offsets modulo 128.
//
// Plain constexpr C++, without signs, because the kernel computes it: loader, multipliers and tests
// share it.
#pragma once

#include "host_device.h"

namespace marlin_moe {

// Byte offset of chunk `chunk` of row `row` of A. Rows lie one after another; a row's chunks are
// exchanged by XOR with its number among the rows that share 128 bytes of banks, so that eight
// lanes that read one chunk of eight rows, and eight lanes that write the chunks of one row, meet
// eight different groups of banks.
template <int kChunksPerRow>
MARLIN_HOST_DEVICE constexpr unsigned a_chunk_offset(unsigned row, unsigned chunk) {
  static_assert(kChunksPerRow == 4 || kChunksPerRow % 8 == 0,
                "rows of 64 bytes, or of 128 times n");
  const unsigned turn = kChunksPerRow == 4 ? row / 2 % 4 : row % 8;
  return (row * kChunksPerRow + (chunk ^ turn)) * 16;
}

// Byte offset of a chunk of B, which is packed in pieces. A warp has two of them in a stage, one
// for each of the blocks of rows that it multiplies, with kChunksPerLane chunks for each lane.
//   warp    0 … kWarps - 1
//   block   0 or 1
//   chunk   of the piece: those of a lane follow each other
// Of two chunks per lane, those of lanes 4 to 7 (mod 8) change places, so that eight lanes that
// read one chunk each meet eight different groups of banks.
template <int kWarps, int kChunksPerLane>
MARLIN_HOST_DEVICE constexpr unsigned b_chunk_offset(unsigned warp, unsigned block,
                                                     unsigned chunk) {
  static_assert(kChunksPerLane == 1 || kChunksPerLane == 2, "four or eight bits for a weight");
  if (kChunksPerLane == 2) chunk ^= chunk / 8 % 2;
  return ((block * kWarps + warp) * (32 * kChunksPerLane) + chunk) * 16;
}

}  // namespace marlin_moe
