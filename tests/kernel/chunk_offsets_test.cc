// The chunks of A and of B fill their parts of a stage without overlap, and the eight lanes that
// meet in one access of shared memory never share a group of banks.
#include "marlin_moe/plan/chunk_offsets.h"

#include <cstdio>
#include <vector>

namespace {

int failures = 0;

void expect(bool condition, const char* what, int first, int second) {
  if (condition) return;
  std::fprintf(stderr, "not so: %s (%d, %d)\n", what, first, second);
  ++failures;
}

// Notes where chunks lie, in a part of `chunks` chunks.
class Part {
 public:
  explicit Part(int chunks) : taken_(chunks, false) {}

  bool take(unsigned offset) {
    const bool free = offset % 16 == 0 && offset / 16 < taken_.size() && !taken_[offset / 16];
    if (free) taken_[offset / 16] = true;
    return free;
  }
  bool full() const {
    for (const bool taken : taken_) {
      if (!taken) return false;
    }
    return true;
  }

 private:
  std::vector<bool> taken_;
};

// Whether eight offsets are in eight groups of four banks: 32 banks of four bytes.
template <class Offset>
bool meets_eight_groups(Offset offset) {
  unsigned groups = 0;
  for (unsigned lane = 0; lane < 8; ++lane) groups |= 1u << offset(lane) / 16 % 8;
  return groups == 0xff;
}

template <int kChunksPerRow>
void check_a(int rows) {
  using marlin_moe::a_chunk_offset;
  Part part(rows * kChunksPerRow);
  for (int row = 0; row < rows; ++row) {
    for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {
      expect(part.take(a_chunk_offset<kChunksPerRow>(row, chunk)), "a chunk of A has its own place",
             row, chunk);
    }
  }
  expect(part.full(), "the chunks of A fill its part", rows, kChunksPerRow);
  // ldmatrix: one chunk of eight rows.
  for (int row = 0; row < rows; row += 8) {
    for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {
      expect(meets_eight_groups(
                 [&](unsigned lane) { return a_chunk_offset<kChunksPerRow>(row + lane, chunk); }),
             "eight lanes that read one chunk of A meet eight groups of banks", row, chunk);
    }
  }
  // Copies: eight lanes write neighbouring chunks, of one row or of two.
  for (int first = 0; first < rows * kChunksPerRow; first += 8) {
    expect(meets_eight_groups([&](unsigned lane) {
             const unsigned i = first + lane;
             return a_chunk_offset<kChunksPerRow>(i / kChunksPerRow, i % kChunksPerRow);
           }),
           "eight lanes that write chunks of A meet eight groups of banks", first, kChunksPerRow);
  }
  // What is 8 rows further down, or 16, is so by the same number of bytes in every row.
  for (int row = 0; row + 8 < rows; ++row) {
    expect(a_chunk_offset<kChunksPerRow>(row + 8, 3) ==
               a_chunk_offset<kChunksPerRow>(row, 3) + 8 * kChunksPerRow * 16,
           "the XOR does not change from pass to pass", row, kChunksPerRow);
  }
}

template <int kWarps, int kChunksPerLane>
void check_b() {
  constexpr unsigned kChunks = 32 * kChunksPerLane;  // of a piece
  Part part(2 * kWarps * kChunks);
  for (unsigned block = 0; block < 2; ++block) {
    for (unsigned warp = 0; warp < kWarps; ++warp) {
      const auto offset = [&](unsigned chunk) {
        return marlin_moe::b_chunk_offset<kWarps, kChunksPerLane>(warp, block, chunk);
      };
      for (unsigned chunk = 0; chunk < kChunks; ++chunk) {
        expect(part.take(offset(chunk)), "a chunk of B has its own place", warp, chunk);
      }
      for (unsigned first = 0; first < kChunks; first += 8) {
        expect(meets_eight_groups([&](unsigned lane) { return offset(first + lane); }),
               "eight lanes that write chunks of B meet eight groups of banks", warp, first);
      }
      for (unsigned i = 0; i < kChunksPerLane; ++i) {
        for (unsigned lane = 0; lane < 32; lane += 8) {
          expect(meets_eight_groups(
                     [&](unsigned other) { return offset(kChunksPerLane * (lane + other) + i); }),
                 "eight lanes that read their chunks of B meet eight groups of banks", warp, lane);
        }
      }
    }
  }
  expect(part.full(), "the chunks of B fill its part", kWarps, kChunksPerLane);
}

}  // namespace

int main() {
  // Stages of 64 and 128 columns, of one and of two bytes.
  for (const int rows : {8, 16, 32, 48, 64}) {
    check_a<4>(rows);
    check_a<8>(rows);
    check_a<16>(rows);
  }
  check_b<4, 1>();
  check_b<4, 2>();
  check_b<8, 1>();
  check_b<8, 2>();
  return failures == 0 ? 0 : 1;
}
