// One program with two scalar types of the name vllm::ScalarType: each file uses its own.
#include <cstdio>

#include "answers.h"

int main() {
  const Answers ours{4, true, 8 << 24 | 4 << 8, 4, 12};
  const Answers others{1004, true, -8, 1000, 16};
  const bool ours_right = ask_ours() == ours;
  const bool others_right = ask_the_other() == others;
  if (!ours_right) std::fprintf(stderr, "ours answers with the other's functions or constant\n");
  if (!others_right) std::fprintf(stderr, "the other answers with our functions or constant\n");
  return ours_right && others_right ? 0 : 1;
}
