#pragma once

// Tells whether the kernel of the scheme smoke_int4 is there, for a number of threads.
bool has_smoke_kernel(int threads);
