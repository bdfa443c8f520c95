// The public side of the hand-written source that goes with the fake kernels.
#pragma once

// Tells whether there is a kernel of float16 activations and 4-bit weights with these properties.
bool has_kernel(int threads, int stages, int group_blocks);
