// Finds kernels that lie in a shared library.
#include "tests/build/wrapper.h"

int main() {
  return wrapped_has_kernel(256, 4, 4) == 1 && wrapped_has_kernel(128, 4, 4) == 0 ? 0 : 1;
}
