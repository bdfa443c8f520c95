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

static void check_preparation(void) {
  marlin_moe_repack_gptq_args repack;
  marlin_moe_align_args align;
  int64_t places = -1;
  memset(&repack, 0, sizeof(repack));
  expect(marlin_moe_repack_gptq(&repack) == MARLIN_MOE_INVALID_ARGUMENT, "no size is refused");
  repack.struct_size = sizeof(repack);
  expect(marlin_moe_repack_gptq(&repack) == MARLIN_MOE_INVALID_ARGUMENT, "no type is refused");
  expect(strstr(marlin_moe_last_error(), "a_type = 0") != NULL, "the message names the type");
  memset(&align, 0, sizeof(align));
  align.struct_size = sizeof(align);
  align.num_ids = 10;
  align.num_experts = 2;
  align.block_size = 8;
  expect(marlin_moe_align_capacity(&align, &places) == MARLIN_MOE_OK, "a capacity is told");
  expect(places == 24, "two experts have ten ids in three blocks at most");
}

int main(void) {
  marlin_moe_gemm_args args;
  size_t bytes = 0;
  memset(&args, 0, sizeof(args));
  expect(marlin_moe_gemm_workspace_size(&args, NULL, &bytes) == MARLIN_MOE_INVALID_ARGUMENT,
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
  check_preparation();
  return failures == 0 ? 0 : 1;
}
