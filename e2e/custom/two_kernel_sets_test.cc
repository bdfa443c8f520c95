// Links both sets of kernels into one program: each finds its own kernel.
#include <cstdio>

#include "first.h"
#include "second.h"

int main() {
  const void* first = first_kernel(128);
  const void* second = second_kernel(128);
  std::printf("first %p, second %p\n", first, second);
  const bool found = first != nullptr && second != nullptr && first != second;
  const bool nothing_else = first_kernel(256) == nullptr && second_kernel(256) == nullptr;
  return found && nothing_else ? 0 : 1;
}
