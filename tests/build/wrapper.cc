#include "tests/build/wrapper.h"

#include "tests/build/fake_kernel/launcher.h"

int wrapped_has_kernel(int threads, int stages, int group_blocks) {
  return has_kernel(threads, stages, group_blocks) ? 1 : 0;
}
