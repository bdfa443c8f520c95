// In the place of the generated selector: two kernels that are never run.
void fake_small_tile(const KernelParams);
void fake_deep_tile(const KernelParams);
if (threads == 128 && thread_n_blocks == 8 && stages == 4) {
  kernel = fake_small_tile;
} else if (threads == 256 && thread_n_blocks == 8 && stages == 4) {
  kernel = fake_deep_tile;
}
