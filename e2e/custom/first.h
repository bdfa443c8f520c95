#pragma once

// The kernel of the first set for a number of threads, or null if it has none.
const void* first_kernel(int threads);
