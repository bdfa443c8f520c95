// A CUDA runtime of no version.
int fake_runtime(void) { return 99; }
