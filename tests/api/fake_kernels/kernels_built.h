// In the place of the one that the rule writes.
#pragma once

#define MARLIN_KERNELS_BUILT "quant schemes fake; families sm80 for sm_80"

#define MARLIN_FAMILIES_BUILT(FAMILY) FAMILY(sm80, Marlin, 80, false, 4)

#define MARLIN_TILES_BUILT(Marlin, MarlinSm90)                                       \
  Marlin(sm80, kFloat16, 8, 128, 128, 256) Marlin(sm80, kFloat16, 16, 128, 128, 256) \
      Marlin(sm80, kFloat16, 16, 64, 128, 128)
