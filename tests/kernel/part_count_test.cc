// Parts of a tile that count themselves: each learns how many came before it, whatever the word
// held at first, in every order of the parts' looks and exchanges.
#include "marlin_moe/plan/part_count.h"

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <vector>

namespace {

using marlin_moe::PartCount;
using Word = PartCount::Word;

void expect(bool ok, const char* what, Word word, int parts) {
  if (ok) return;
  std::cerr << what << ": word " << std::hex << word << ", " << std::dec << parts << " parts\n";
  std::exit(1);
}

// A part does what count_arrival() of the kernel does: it looks once, then it compares and
// exchanges until nobody was faster.
struct Part {
  bool looked = false;
  bool counted = false;
  Word seen = 0;
};

struct Search {
  int parts;
  Word initial;
  std::int64_t ends = 0;

  // Goes through all orders of the parts' further steps; `arrived` of them have counted.
  void run(Word word, std::vector<Part>& all, int arrived) {
    bool any = false;
    for (Part& part : all) {
      if (part.counted) continue;
      any = true;
      const Part before = part;
      if (!part.looked) {
        part.looked = true;
        part.seen = word;
        run(word, all, arrived);
      } else if (part.seen != word) {
        part.seen = word;
        run(word, all, arrived);
      } else {
        expect(PartCount::arrived(word) == arrived, "a part counted wrong", initial, parts);
        part.counted = true;
        run(PartCount::next(word, parts), all, arrived + 1);
      }
      part = before;
    }
    if (any) return;
    ++ends;
    expect(arrived == parts && PartCount::arrived(word) == 0, "arrivals are left", initial, parts);
  }
};

// What memory may hold: words of one byte, of floats, of marks and counts of other kernels.
std::vector<Word> contents() {
  std::vector<Word> words = {0, 1, 0x5eba1cd75eba1cd7, 0x6b1dc59e37a4d200, 0x6b1dc59e37a4d208};
  for (Word byte = 1; byte < 256; ++byte) words.push_back(byte * 0x0101010101010101);
  Word random = 88172645463325252;
  for (int i = 0; i < 1000; ++i) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    words.push_back(random);
  }
  return words;
}

}  // namespace

int main() {
  for (const Word word : contents()) {
    for (int parts = 2; parts <= 3; ++parts) {
      Search search{parts, word};
      std::vector<Part> all(static_cast<std::size_t>(parts));
      search.run(word, all, 0);
      expect(search.ends > 1, "no orders were tried", word, parts);
    }
    // As many parts as a tile may have, one after the other, in two launches.
    Word now = word;
    for (int arrival = 0; arrival < 16; ++arrival) {
      expect(PartCount::arrived(now) == arrival % 8, "a count is wrong", word, 8);
      now = PartCount::next(now, 8);
    }
  }
  Search four{4, ~Word{0}};
  std::vector<Part> all(4);
  four.run(~Word{0}, all, 0);
  // The counts themselves are the only words that mislead.
  expect(PartCount::arrived(0x6b1dc59e37a4d201) == 1, "a count is known", 0, 2);
  return 0;
}
