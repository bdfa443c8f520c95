#pragma once

// The kernel of the second set for a number of threads, or null if it has none.
const void* second_kernel(int threads);
