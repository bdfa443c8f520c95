// A C function over the fake kernels, for dependents that load a shared library.
#pragma once

extern "C" int wrapped_has_kernel(int threads, int stages, int group_blocks);
