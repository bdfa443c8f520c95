// In the place of the one that the rule writes.
#pragma once

// clang-format off

#define MARLIN_KERNELS_BUILT "quant schemes fake; families sm80 for sm_80; sm90 for sm_90a"

#define MARLIN_FAMILIES_BUILT(FAMILY) \
  FAMILY(sm90, MarlinSm90, 90, true, 0) \
  FAMILY(sm80, Marlin, 80, false, 4)

#define MARLIN_TILES_BUILT(Marlin, MarlinSm90) \
  MarlinSm90(sm90, kFloat16, 48, 512, 1) \
  MarlinSm90(sm90, kFloat16, 80, 512, 1) \
  MarlinSm90(sm90, kFloat16, 80, 256, 2) \
  MarlinSm90(sm90, kFloat16, 144, 256, 1) \
  Marlin(sm80, kFloat16, 8, 128, 128, 256) \
  Marlin(sm80, kFloat16, 16, 128, 128, 256) \
  Marlin(sm80, kFloat16, 16, 64, 128, 128) \
  Marlin(sm80, kFloat16, 48, 64, 128, 128)

#define MARLIN_SM90_SELECTOR "sm90_kernel_selector.h"

// clang-format on
