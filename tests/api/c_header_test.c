/* The C interface is usable from C: the header compiles as C99, the functions link and run. */
#include <stdio.h>
#include <string.h>

#include "marlin_moe/marlin_moe.h"

static int failures = 0;

static void expect(int condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "not so: %s; last error: %s\n", what, marlin_moe_last_error());
  ++failures;
}

int main(void) {
  marlin_moe_gemm_args args;
  size_t bytes = 0;
  memset(&args, 0, sizeof(args));
  expect(marlin_moe_gemm_workspace_size(&args, &bytes) == MARLIN_MOE_INVALID_ARGUMENT,
         "an args struct without its size is refused");
  expect(strstr(marlin_moe_last_error(), "struct_size = 0") != NULL, "the message says why");
  args.struct_size = sizeof(args);
  expect(marlin_moe_gemm(&args, NULL) == MARLIN_MOE_INVALID_ARGUMENT, "no type is refused");
  expect(strstr(marlin_moe_last_error(), "a_type = 0") != NULL, "the message names a_type");
  expect(marlin_moe_gemm(NULL, NULL) == MARLIN_MOE_INVALID_ARGUMENT, "null is refused");
  expect(marlin_moe_gemm_block_size(1, 8, 2, MARLIN_MOE_FLOAT16) == 8,
         "few tokens get small blocks");
  expect(marlin_moe_gemm_block_size(1, 8, 2, MARLIN_MOE_S8) == 16, "with 8-bit A from 16 on");
  expect(marlin_moe_gemm_block_size(1, 8, 2, 0) == 0, "no type gets no blocks");
  expect(marlin_moe_gemm_block_size(4096, 8, 2, MARLIN_MOE_BFLOAT16) == 64,
         "many tokens get large blocks");
  return failures == 0 ? 0 : 1;
}
