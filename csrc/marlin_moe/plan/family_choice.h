// Whether the kernels for mma.sync or those of the sm90 family suit a MoE GEMM on 9.0, as measured
// on an H100 (docs/benchmarks/gemm.md).
#pragma once

#include <algorithm>
#include <cmath>

#include "sm90_choice.h"

namespace marlin_moe {

// Microseconds, roughly, that the GEMM takes with the template Marlin and blocks of `rows` rows.
inline double marlin_cost(const Sm90Problem& problem, int rows, int a_bits) {
  // Of a multiprocessor, for a row of 256 columns and 64 of k; how many rows take as long as what
  // is not done by the row. 8-bit products take 0.7 of the time. Least squares over 1 to 4,096
  // tokens of six layers with bf16 and int4; stripes fill all multiprocessors, so there are no
  // waves.
  const double row = a_bits == 8 ? 0.0084 : 0.012;
  constexpr double kMoreRows = 8;
  constexpr double kBytesPerMicrosecond = 2.9e6;

  const double blocks = expect_blocks(problem, rows).mean;
  const double compute = blocks * problem.n / 256.0 * problem.k / 64.0 * (rows + kMoreRows) * row /
                         problem.multiprocessors;
  const double active = problem.num_experts * (1 - std::exp(-problem.ids / problem.num_experts));
  const double memory = active * problem.n * problem.k * problem.b_bits / 8 / kBytesPerMicrosecond;
  // Neither hides all of the other.
  return std::max(compute, memory) + 0.1 * std::min(compute, memory);
}

}  // namespace marlin_moe
