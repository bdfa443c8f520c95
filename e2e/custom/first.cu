#include "first.h"

#define MARLIN_NAMESPACE_NAME custom::first
#include "find_kernel.h"

const void* first_kernel(int threads) { return custom::first::find_kernel(threads); }
