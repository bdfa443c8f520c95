// A counting sort that keeps the order of equal keys.
//
// A block takes a chunk of consecutive ids. Its warps take consecutive parts of the chunk and count
// the experts in them: a table in shared memory, one row per warp. Prefix sums down the columns,
// and then over the experts' padded counts, give each warp the place of its next id for every
// expert.
//
//   few ids:  one block does it all
//   many ids: count_ids_kernel (a block per chunk), place_experts_kernel (one block, which sums
//   over
//             chunks and experts), place_ids_kernel (a block per chunk)
#include <algorithm>
#include <cstdint>
#include <limits>

#include "argument_checker.h"
#include "launch.h"
#include "marlin_moe/moe_align.h"

namespace marlin_moe {

static constexpr int kMostExperts = 1024;
static constexpr int kBlockSizeUnit = 8;
static constexpr int kMostBlockSize = 256;
static constexpr int kMostIdsOfOneBlock = 4096;
static constexpr int kMostTableEntries = 16384;  // 32 KiB of 16-bit counts
static constexpr int kNoExpert = -1;

// How the work is divided.
struct AlignPlan {
  int threads;  // of a block; at least one for each expert
  int rows;     // warps that count, each with a row of the table
  int row_ids;  // consecutive ids of a warp, a multiple of 32
  int chunks;   // blocks
  int table_stride;

  int chunk_ids() const { return rows * row_ids; }
  std::size_t table_bytes() const { return static_cast<std::size_t>(rows) * table_stride * 2; }
};

static AlignPlan plan_align(int num_ids, int num_experts) {
  AlignPlan plan{};
  plan.table_stride = (num_experts + 1) / 2 * 2;
  const int most_rows = std::min(32, kMostTableEntries / plan.table_stride);
  const int id_warps = std::max(1, (num_ids + 31) / 32);
  if (num_ids <= kMostIdsOfOneBlock) {
    plan.rows = std::min(most_rows, id_warps);
    plan.row_ids = (id_warps + plan.rows - 1) / plan.rows * 32;
    plan.chunks = 1;
  } else {
    // At most 256 chunks, until counts of 16 bits ask for more.
    constexpr int kChunks = 256;
    constexpr int kFewestSteps = 2;
    plan.rows = most_rows;
    const int most_steps = 65535 / (32 * plan.rows);
    const int steps = (id_warps + plan.rows * kChunks - 1) / (plan.rows * kChunks);
    plan.row_ids = 32 * std::min(std::max(steps, kFewestSteps), most_steps);
    plan.chunks = (num_ids + plan.chunk_ids() - 1) / plan.chunk_ids();
  }
  plan.threads = 32 * std::max(plan.rows, (num_experts + 31) / 32);
  return plan;
}

// What the kernels are given.
struct AlignParams {
  int num_ids;
  int num_experts;
  int block_size;
  const int* topk_ids;
  const int* expert_map;
  bool drop_remote;
  int* sorted_token_ids;
  int* expert_ids;
  int* num_tokens_past_padded;
  // Many ids only:
  int* chunk_sums;  // [chunks, num_experts] a chunk's ids of an expert, then those of chunks before
  int* starts;      // [num_experts] first place of an expert, -1: its ids have none
  int* counts;      // [num_experts] ids of an expert that have a place

  int rows;
  int row_ids;
  int chunks;
  int table_stride;
};

// What a block knows of each expert: the first place, -1 if its ids have none, and how many they
// are.
struct ExpertTable {
  int starts[kMostExperts];
  int counts[kMostExperts];
  int warp_sums[32];
};

// Replaces each of `count` entries by the sum of those before it, and returns the sum of all.
// Entries are loaded in batches, so that it takes the latency of a batch and not of an entry.
template <class Entry>
__device__ __forceinline__ int sum_before_each(Entry* first, int stride, int count) {
  constexpr int kBatch = 16;
  int sum = 0;
  for (int done = 0; done < count; done += kBatch) {
    Entry* entries = first + static_cast<std::int64_t>(done) * stride;
    int values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      values[i] = done + i < count ? entries[static_cast<std::int64_t>(i) * stride] : 0;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (done + i < count)
        entries[static_cast<std::int64_t>(i) * stride] = static_cast<Entry>(sum);
      sum += values[i];
    }
  }
  return sum;
}

__device__ __forceinline__ int local_expert(const AlignParams& params, int expert) {
  return params.expert_map == nullptr ? expert : params.expert_map[expert];
}

// The lanes of the warp that hold the same expert as this one.
__device__ __forceinline__ unsigned lanes_with(int expert) {
  return __match_any_sync(0xffffffffu, expert);
}

// The id's expert, or kNoExpert for lanes past the end and for entries that are no expert.
__device__ __forceinline__ int expert_of(const AlignParams& params, int id, int end) {
  if (id >= end) return kNoExpert;
  const int expert = params.topk_ids[id];
  const bool valid = static_cast<unsigned>(expert) < static_cast<unsigned>(params.num_experts);
  return valid ? expert : kNoExpert;
}

// Calls visit(id, expert, rank, same) for the ids of the calling warp's row, 32 at a time, all
// lanes together: rank of the lane among the `same` lanes that hold its expert.
template <class Visit>
__device__ __forceinline__ void for_own_ids(const AlignParams& params, int chunk, int row,
                                            const Visit& visit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t begin =
      (static_cast<std::int64_t>(chunk) * params.rows + row) * params.row_ids;
  const int end =
      static_cast<int>(min(begin + params.row_ids, static_cast<std::int64_t>(params.num_ids)));
  for (std::int64_t first = begin; first < end; first += 32) {
    const int id = static_cast<int>(first) + lane;
    const int expert = expert_of(params, id, end);
    const unsigned same = lanes_with(expert);
    const int rank = __popc(same & ((1u << lane) - 1));
    visit(id, expert, rank, __popc(same));
    __syncwarp();
  }
}

// Fills the table with the number of ids of each expert in each row.
__device__ __forceinline__ void count_rows(const AlignParams& params, int chunk,
                                           std::uint16_t* table) {
  std::uint32_t* pairs = reinterpret_cast<std::uint32_t*>(table);
  for (int i = static_cast<int>(threadIdx.x); i < params.rows * params.table_stride / 2;
       i += static_cast<int>(blockDim.x)) {
    pairs[i] = 0;
  }
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x) / 32;
  if (row < params.rows) {
    std::uint16_t* counts = table + row * params.table_stride;
    for_own_ids(params, chunk, row, [&](int, int expert, int rank, int same) {
      if (expert != kNoExpert && rank == 0) counts[expert] += static_cast<std::uint16_t>(same);
    });
  }
  __syncthreads();
}

// Turns the counts of an expert's column into those of the rows before; returns the sum of all.
__device__ __forceinline__ int sum_rows(const AlignParams& params, int expert,
                                        std::uint16_t* table) {
  return sum_before_each(table + expert, params.table_stride, params.rows);
}

// Sum of `value` over the threads before this one; *total: over all of the block. Called by all.
__device__ __forceinline__ int sum_before(int value, int* warp_sums, int* total) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  int inclusive = value;
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, inclusive, distance);
    if (lane >= distance) inclusive += other;
  }
  if (lane == 31) warp_sums[warp] = inclusive;
  __syncthreads();
  int before = 0;
  *total = 0;
  for (int i = 0; i < static_cast<int>(blockDim.x) / 32; ++i) {
    before += i < warp ? warp_sums[i] : 0;
    *total += warp_sums[i];
  }
  return before + inclusive - value;
}

// Gives each expert its places, from the count of its ids that the expert's thread holds, and
// writes num_tokens_past_padded.
__device__ __forceinline__ void place_experts(const AlignParams& params, int count,
                                              ExpertTable* experts) {
  const int expert = static_cast<int>(threadIdx.x);
  const bool placed =
      expert < params.num_experts && !(params.drop_remote && local_expert(params, expert) < 0);
  const int blocks = placed ? (count + params.block_size - 1) / params.block_size : 0;
  int total = 0;
  const int start = sum_before(blocks, experts->warp_sums, &total) * params.block_size;
  if (expert < params.num_experts) {
    experts->starts[expert] = placed ? start : -1;
    experts->counts[expert] = placed ? count : 0;
  }
  if (threadIdx.x == 0) *params.num_tokens_past_padded = total * params.block_size;
}

// Writes the ids of the warp's row to their places; firsts[expert] is where the chunk's first id of
// an expert goes, -1: nowhere.
__device__ __forceinline__ void write_ids(const AlignParams& params, int chunk,
                                          std::uint16_t* table, const int* firsts) {
  const int row = static_cast<int>(threadIdx.x) / 32;
  if (row >= params.rows) return;
  std::uint16_t* before = table + row * params.table_stride;
  for_own_ids(params, chunk, row, [&](int id, int expert, int rank, int same) {
    const int first = expert == kNoExpert ? -1 : firsts[expert];
    const int earlier = expert == kNoExpert ? 0 : before[expert];
    if (first >= 0) params.sorted_token_ids[first + earlier + rank] = id;
    __syncwarp();
    if (expert != kNoExpert && rank == 0) {
      before[expert] = static_cast<std::uint16_t>(earlier + same);
    }
  });
}

// Writes the padding of some experts' last blocks and the entries of expert_ids: eight threads for
// an expert, which are threads `thread` and following of `threads` that do it together.
__device__ __forceinline__ void write_blocks(const AlignParams& params, int thread, int threads,
                                             const int* starts, const int* counts) {
  for (int expert = thread / 8; expert < params.num_experts; expert += threads / 8) {
    const int count = counts[expert];
    if (count == 0) continue;
    const int start = starts[expert];
    const int blocks = (count + params.block_size - 1) / params.block_size;
    const int local = local_expert(params, expert);
    for (int block = thread % 8; block < blocks; block += 8) {
      params.expert_ids[start / params.block_size + block] = local;
    }
    for (int i = count + thread % 8; i < blocks * params.block_size; i += 8) {
      params.sorted_token_ids[start + i] = params.num_ids;
    }
  }
}

__global__ void __launch_bounds__(1024) align_few_ids_kernel(const AlignParams params) {
  extern __shared__ std::uint16_t align_table[];
  __shared__ ExpertTable experts;
  count_rows(params, 0, align_table);
  const int thread = static_cast<int>(threadIdx.x);
  const int count = thread < params.num_experts ? sum_rows(params, thread, align_table) : 0;
  place_experts(params, count, &experts);
  __syncthreads();
  write_ids(params, 0, align_table, experts.starts);
  write_blocks(params, thread, static_cast<int>(blockDim.x), experts.starts, experts.counts);
}

__global__ void __launch_bounds__(1024) count_ids_kernel(const AlignParams params) {
  extern __shared__ std::uint16_t align_table[];
  const int chunk = static_cast<int>(blockIdx.x);
  count_rows(params, chunk, align_table);
  const int expert = static_cast<int>(threadIdx.x);
  if (expert < params.num_experts) {
    params.chunk_sums[static_cast<std::int64_t>(chunk) * params.num_experts + expert] =
        sum_rows(params, expert, align_table);
  }
}

__global__ void __launch_bounds__(1024) place_experts_kernel(const AlignParams params) {
  __shared__ ExpertTable experts;
  const int expert = static_cast<int>(threadIdx.x);
  int count = 0;
  if (expert < params.num_experts) {
    count = sum_before_each(params.chunk_sums + expert, params.num_experts, params.chunks);
  }
  place_experts(params, count, &experts);
  if (expert >= params.num_experts) return;
  params.starts[expert] = experts.starts[expert];
  params.counts[expert] = experts.counts[expert];
}

__global__ void __launch_bounds__(1024) place_ids_kernel(const AlignParams params) {
  extern __shared__ std::uint16_t align_table[];
  __shared__ int firsts[kMostExperts];
  const int chunk = static_cast<int>(blockIdx.x);
  count_rows(params, chunk, align_table);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < params.num_experts) {
    sum_rows(params, thread, align_table);
    const int start = params.starts[thread];
    const int* sums = params.chunk_sums + static_cast<std::int64_t>(chunk) * params.num_experts;
    firsts[thread] = start < 0 ? -1 : start + sums[thread];
  }
  __syncthreads();
  write_ids(params, chunk, align_table, firsts);
  const int threads = static_cast<int>(blockDim.x);
  write_blocks(params, chunk * threads + thread, params.chunks * threads, params.starts,
               params.counts);
}

std::int64_t moe_align_capacity(int num_ids, int num_experts, int block_size) {
  const std::int64_t ids = num_ids;
  const std::int64_t active = std::min(num_ids, num_experts);
  return (ids + active * (block_size - 1)) / block_size * block_size;
}

static void check_align_problem(const MoeAlignArgs& args, ArgumentChecker* checker) {
  checker->range("num_experts", args.num_experts, 1, kMostExperts);
  const int size = args.block_size;
  if (size < kBlockSizeUnit || size > kMostBlockSize || size % kBlockSizeUnit != 0) {
    checker->refuse("block_size", std::to_string(size), "a multiple of 8 from 8 to 256");
  }
  constexpr int kMostIds = std::numeric_limits<int>::max() - kMostExperts * kMostBlockSize;
  checker->range("num_ids", args.num_ids, 0, kMostIds);
}

// Bytes of chunk_sums, starts and counts.
static std::size_t align_workspace_bytes(const AlignPlan& plan, int num_experts) {
  if (plan.chunks == 1) return 0;
  return (static_cast<std::size_t>(plan.chunks) + 2) * num_experts * sizeof(int);
}

Status moe_align_workspace_size(const MoeAlignArgs& args, std::size_t* bytes) {
  ArgumentChecker checker;
  check_align_problem(args, &checker);
  if (checker.ok()) {
    *bytes = align_workspace_bytes(plan_align(args.num_ids, args.num_experts), args.num_experts);
  }
  return checker.status();
}

static AlignParams align_params(const MoeAlignArgs& args, const AlignPlan& plan) {
  AlignParams params{};
  params.num_ids = args.num_ids;
  params.num_experts = args.num_experts;
  params.block_size = args.block_size;
  params.topk_ids = args.topk_ids;
  params.expert_map = args.expert_map;
  params.drop_remote = args.drop_remote && args.expert_map != nullptr;
  params.sorted_token_ids = args.sorted_token_ids;
  params.expert_ids = args.expert_ids;
  params.num_tokens_past_padded = args.num_tokens_past_padded;
  params.rows = plan.rows;
  params.row_ids = plan.row_ids;
  params.chunks = plan.chunks;
  params.table_stride = plan.table_stride;
  if (plan.chunks > 1) {
    params.starts = static_cast<int*>(args.workspace);
    params.counts = params.starts + args.num_experts;
    params.chunk_sums = params.counts + args.num_experts;
  }
  return params;
}

static Status check_align(const MoeAlignArgs& args) {
  ArgumentChecker checker;
  check_align_problem(args, &checker);
  if (args.num_ids > 0) {
    checker.pointer("topk_ids", args.topk_ids, 4);
    checker.pointer("sorted_token_ids", args.sorted_token_ids, 4);
    checker.pointer("expert_ids", args.expert_ids, 4);
  }
  checker.optional_pointer("expert_map", args.expert_map, 4);
  checker.pointer("num_tokens_past_padded", args.num_tokens_past_padded, 4);
  if (!checker.ok()) return checker.status();
  const std::size_t needed =
      align_workspace_bytes(plan_align(args.num_ids, args.num_experts), args.num_experts);
  if (needed > 0) checker.pointer("workspace", args.workspace, 4);
  if (!checker.ok()) return checker.status();
  if (args.workspace_bytes >= needed) return {};
  return {StatusCode::kInsufficientWorkspace,
          "workspace_bytes = " + std::to_string(args.workspace_bytes) + " is not enough; needed: " +
              std::to_string(needed) + ", as moe_align_workspace_size() says"};
}

Status moe_align(const MoeAlignArgs& args) {
  Status status = check_align(args);
  if (!status.ok()) return status;
  const AlignPlan plan = plan_align(args.num_ids, args.num_experts);
  const AlignParams params = align_params(args, plan);
  const dim3 chunks(static_cast<unsigned>(plan.chunks));
  if (plan.chunks == 1) {
    return launch("moe_align", align_few_ids_kernel, chunks, plan.threads, plan.table_bytes(),
                  args.stream, params);
  }
  status = launch("moe_align", count_ids_kernel, chunks, plan.threads, plan.table_bytes(),
                  args.stream, params);
  if (status.ok()) {
    status = launch("moe_align", place_experts_kernel, dim3(1), (args.num_experts + 31) / 32 * 32,
                    0, args.stream, params);
  }
  if (status.ok()) {
    status = launch("moe_align", place_ids_kernel, chunks, plan.threads, plan.table_bytes(),
                    args.stream, params);
  }
  return status;
}

}  // namespace marlin_moe
