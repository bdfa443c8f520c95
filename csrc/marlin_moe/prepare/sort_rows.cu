// Sorting rows by group: each row counts the rows that go before it.
//
// That takes k^2 comparisons of an expert, milliseconds for the largest layers, and needs no
// scratch memory, no bound on the number of groups and no second pass.
#include <cstdint>

#include "argument_checker.h"
#include "launch.h"
#include "marlin_moe/prepare.h"

namespace marlin_moe {

static constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    sort_rows_by_group_kernel(const int* g_idx, int k, int* perm, int* sorted_g_idx) {
  __shared__ int4 tile[kThreads / 4];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * k;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = static_cast<int>(blockIdx.x) * kThreads + thread;
  const int group = row < k ? g_idx[first + row] : 0;
  int before = 0;
  for (int begin = 0; begin < k; begin += kThreads) {
    const int count = min(kThreads, k - begin);  // a multiple of 64
    __syncthreads();
    if (thread < count) reinterpret_cast<int*>(tile)[thread] = g_idx[first + begin + thread];
    __syncthreads();
    // Of rows with the same group, those that come first go first.
    for (int i = 0; i < count; i += 4) {
      const int4 others = tile[i / 4];
      before += others.x < group || (others.x == group && begin + i < row);
      before += others.y < group || (others.y == group && begin + i + 1 < row);
      before += others.z < group || (others.z == group && begin + i + 2 < row);
      before += others.w < group || (others.w == group && begin + i + 3 < row);
    }
  }
  if (row >= k) return;
  perm[first + before] = row;
  sorted_g_idx[first + before] = group;
}

Status sort_rows_by_group(const SortRowsByGroupArgs& args) {
  ArgumentChecker checker;
  constexpr int kMostInGridY = 65535;
  checker.range("num_experts", args.num_experts, 1, kMostInGridY);
  checker.dimension("k", args.k, 64);
  checker.pointer("g_idx", args.g_idx, 16);
  checker.pointer("perm", args.perm, 16);
  checker.pointer("sorted_g_idx", args.sorted_g_idx, 16);
  if (!checker.ok()) return checker.status();
  const dim3 grid(static_cast<unsigned>((args.k + kThreads - 1) / kThreads),
                  static_cast<unsigned>(args.num_experts));
  return launch("sort_rows_by_group", sort_rows_by_group_kernel, grid, kThreads, 0, args.stream,
                args.g_idx, args.k, args.perm, args.sorted_g_idx);
}

}  // namespace marlin_moe
