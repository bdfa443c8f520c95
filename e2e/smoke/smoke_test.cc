// Another module's test links the kernels and finds the one it asked for.
#include "find_kernel.h"

int main() { return has_smoke_kernel(256) && !has_smoke_kernel(128) ? 0 : 1; }
