// Calls the host API where there may be no GPU: it checks its arguments before it looks for one.
#include <cstdio>

#include "moe.h"

int main() {
  const std::string refusal = smoke_check(100);
  std::printf("100 columns: %s\n", refusal.c_str());
  return refusal.find("n = 100 is not allowed") != std::string::npos ? 0 : 1;
}
