// In the place of the generated selector: a kernel that is never run, for any tile.
void fake_sm90_tile(const KernelParams);
if (group_blocks > 0) kernel = fake_sm90_tile;
