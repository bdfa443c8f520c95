#include "second.h"

#define MARLIN_NAMESPACE_NAME custom::second
#include "find_kernel.h"

const void* second_kernel(int threads) { return custom::second::find_kernel(threads); }
