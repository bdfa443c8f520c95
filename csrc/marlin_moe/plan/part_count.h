// How the parts of a tile that is cut along k count themselves, in a word of memory that may hold
// anything at first.
//
// A few words of all stand for parts that arrived, every other one for none. So memory that was
// never written misleads nobody, but for those few words of 2^64. Who counts replaces the word that
// it saw; if another part was faster, it looks again.
#pragma once

#include <cstdint>

#include "marlin_moe/plan/host_device.h"

namespace marlin_moe {

struct PartCount {
  using Word = std::uint64_t;
  static constexpr int kMostParts = 8;

  // Parts that the word counts.
  static MARLIN_HOST_DEVICE constexpr int arrived(Word word) {
    return word - kNone < Word{kMostParts} ? static_cast<int>(word - kNone) : 0;
  }
  // The word behind one more arrival; behind the last of `parts` one that counts none.
  static MARLIN_HOST_DEVICE constexpr Word next(Word word, int parts) {
    const int count = arrived(word) + 1;
    return count < parts ? kNone + count : 0;
  }

 private:
  static constexpr Word kNone = 0x6b1dc59e37a4d200;
};

}  // namespace marlin_moe
