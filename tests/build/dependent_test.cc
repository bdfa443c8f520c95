// Links the kernels statically and finds some through their selector.
#include "tests/build/fake_kernel/launcher.h"

int main() {
  const bool sm80 = has_kernel(/*threads=*/256, /*stages=*/4, /*group_blocks=*/4);
  const bool sm75 = has_kernel(/*threads=*/256, /*stages=*/2, /*group_blocks=*/4);
  const bool none = has_kernel(/*threads=*/128, /*stages=*/4, /*group_blocks=*/4);
  return sm80 && sm75 && !none ? 0 : 1;
}
