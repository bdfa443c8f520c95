// Repacks weights. A warp writes one tile of the result, each lane the words that it will read in
// the GEMM. The warps of a block take consecutive tiles along k, which share the source's cache
// lines.
#include <cstdint>

#include "argument_checker.h"
#include "launch.h"
#include "marlin_moe/plan/layout.h"
#include "marlin_moe/prepare.h"

namespace marlin_moe {

static constexpr int kTilesPerBlock = 8;

// Sources of weights: value(expert, row, column) is the weight in its low bits.

struct GptqSource {
  const std::uint32_t* words;
  const int* perm;   // may be null
  bool fp8_nibbles;  // encode for e4m3 activations
  int k;
  int n;

  template <int kBits>
  __device__ __forceinline__ std::uint32_t value(int expert, int row, int column) const {
    constexpr int kPerWord = 32 / kBits;
    if (perm != nullptr) row = perm[static_cast<std::int64_t>(expert) * k + row];
    const std::int64_t word_row =
        static_cast<std::int64_t>(expert) * (k / kPerWord) + row / kPerWord;
    const std::uint32_t q =
        words[word_row * n + column] >> (row % kPerWord * kBits) & ((1u << kBits) - 1);
    return fp8_nibbles ? fp8_nibble(q, 8) : q;
  }
};

struct AwqSource {
  const std::uint32_t* words;
  const std::uint32_t*
      zero_words;  // null: a constant zero point of 8, if nibbles are encoded at all
  bool fp8_nibbles;
  int group_rows;
  int k;
  int n;

  template <int kBits>
  __device__ __forceinline__ static std::uint32_t unpack(const std::uint32_t* row, int column) {
    constexpr int kPerWord = 32 / kBits;
    const int i = column % kPerWord;
    const int position = kBits == 4 ? place_of_eight(i) : four_at(i);
    return row[column / kPerWord] >> (position * kBits) & ((1u << kBits) - 1);
  }

  template <int kBits>
  __device__ __forceinline__ std::uint32_t value(int expert, int row, int column) const {
    const std::int64_t source_row = static_cast<std::int64_t>(expert) * k + row;
    const std::uint32_t q = unpack<kBits>(words + source_row * (n * kBits / 32), column);
    if (!fp8_nibbles) return q;
    if (zero_words == nullptr) return fp8_nibble(q, 8);
    const std::int64_t group =
        static_cast<std::int64_t>(expert) * (k / group_rows) + row / group_rows;
    return fp8_nibble(q, unpack<4>(zero_words + group * (n / 8), column));
  }
};

struct RowsSource {
  const std::uint8_t* bytes;
  bool fp8_nibbles;
  int k;
  int n;

  template <int kBits>
  __device__ __forceinline__ std::uint32_t value(int expert, int row, int column) const {
    const std::int64_t first = (static_cast<std::int64_t>(expert) * n + column) * (k * kBits / 8);
    if constexpr (kBits == 8) return bytes[first + row];
    const std::uint32_t q = bytes[first + row / 2] >> (row % 2 * 4) & 15;
    return fp8_nibbles ? fp8_nibble(q, 8) : q;
  }
};

template <int kBits, bool kEightBitA, class Source>
__global__ void repack_weights_kernel(const Source source, std::uint32_t* out) {
  constexpr WeightLayout kLayout{kBits, kEightBitA};
  const int n_tiles = source.n / kLayout.tile_columns();
  const int k_tiles = source.k / kLayout.tile_rows();
  const int n_tile = static_cast<int>(blockIdx.x) % n_tiles;
  const int k_tile =
      static_cast<int>(blockIdx.x) / n_tiles * kTilesPerBlock + static_cast<int>(threadIdx.x) / 32;
  if (k_tile >= k_tiles) return;

  const int expert = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t tile =
      (static_cast<std::int64_t>(expert) * k_tiles + k_tile) * n_tiles + n_tile;
  std::uint32_t words[kLayout.words_per_lane()];
#pragma unroll
  for (int w = 0; w < kLayout.words_per_lane(); ++w) {
    words[w] = 0;
#pragma unroll
    for (int position = 0; position < kLayout.per_word(); ++position) {
      const Element element = kLayout.element(lane * kLayout.words_per_lane() + w, position);
      const std::uint32_t value =
          source.template value<kBits>(expert, k_tile * kLayout.tile_rows() + element.row,
                                       n_tile * kLayout.tile_columns() + element.column);
      words[w] |= value << (position * kBits);
    }
  }
  uint4* to = reinterpret_cast<uint4*>(out + tile * kLayout.words_per_tile()) +
              lane * (kLayout.words_per_lane() / 4);
#pragma unroll
  for (int w = 0; w < kLayout.words_per_lane(); w += 4) {
    to[w / 4] = make_uint4(words[w], words[w + 1], words[w + 2], words[w + 3]);
  }
}

static bool is_four_bit_integer(ScalarType type) {
  return type == MARLIN_TYPE_NAMESPACE::kU4 || type == MARLIN_TYPE_NAMESPACE::kU4B8;
}

// Whether weights have to be encoded as fp8_nibble() does it.
static bool needs_fp8_nibbles(const WeightShape& shape) {
  return shape.a_type == MARLIN_TYPE_NAMESPACE::kFE4M3fn && is_four_bit_integer(shape.b_type);
}

static void check_shape(const WeightShape& shape, const void* out, ArgumentChecker* checker) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  constexpr int kMostInGridY = 65535;
  checker->range("num_experts", shape.num_experts, 1, kMostInGridY);
  checker->dimension("n", shape.n, 64);
  checker->dimension("k", shape.k, 64);
  checker->type("a_type", shape.a_type,
                {types::kFloat16, types::kBFloat16, types::kS8, types::kFE4M3fn});
  if (shape.a_type == types::kS8) {
    checker->type("b_type", shape.b_type, {types::kU4, types::kU4B8}, " with a_type = kS8");
  } else if (shape.a_type == types::kFE4M3fn) {
    checker->type("b_type", shape.b_type,
                  {types::kU4, types::kU4B8, types::kFE4M3fn, types::kFE2M1f},
                  " with a_type = kFE4M3fn");
  } else {
    checker->type("b_type", shape.b_type,
                  {types::kU4, types::kU4B8, types::kU8B128, types::kFE4M3fn, types::kFE2M1f});
  }
  checker->pointer("out", out, 16);
}

// Zero points are needed to encode such weights, and this source has none.
static void refuse_zero_points(const WeightShape& shape, ArgumentChecker* checker) {
  if (shape.b_type == MARLIN_TYPE_NAMESPACE::kU4 && needs_fp8_nibbles(shape)) {
    checker->refuse("b_type", "kU4 with a_type = kFE4M3fn",
                    "kU4B8, kFE2M1f; or repack_awq(), which takes the zero points");
  }
}

template <class Source>
static Status repack(const char* name, const WeightShape& shape, const Source& source, void* out,
                     cudaStream_t stream) {
  const bool eight_bit_a = shape.a_type.size_bits() == 8;
  const WeightLayout layout{shape.b_type.size_bits(), eight_bit_a};
  const int k_groups = (shape.k / layout.tile_rows() + kTilesPerBlock - 1) / kTilesPerBlock;
  const std::int64_t blocks = static_cast<std::int64_t>(shape.n / layout.tile_columns()) * k_groups;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(shape.num_experts));
  auto kernel = repack_weights_kernel<4, false, Source>;
  if (eight_bit_a) kernel = repack_weights_kernel<4, true, Source>;
  if (layout.bits == 8) {
    kernel = eight_bit_a ? repack_weights_kernel<8, true, Source>
                         : repack_weights_kernel<8, false, Source>;
  }
  return launch(name, kernel, grid, kTilesPerBlock * 32, 0, stream, source,
                static_cast<std::uint32_t*>(out));
}

Status repack_gptq(const RepackGptqArgs& args) {
  ArgumentChecker checker;
  check_shape(args.shape, args.out, &checker);
  refuse_zero_points(args.shape, &checker);
  checker.pointer("qweight", args.qweight, 16);
  checker.optional_pointer("perm", args.perm, 16);
  if (!checker.ok()) return checker.status();
  const GptqSource source{static_cast<const std::uint32_t*>(args.qweight), args.perm,
                          needs_fp8_nibbles(args.shape), args.shape.k, args.shape.n};
  return repack("repack_gptq", args.shape, source, args.out, args.stream);
}

Status repack_awq(const RepackAwqArgs& args) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  ArgumentChecker checker;
  check_shape(args.shape, args.out, &checker);
  checker.type("b_type", args.shape.b_type, {types::kU4, types::kU4B8, types::kU8B128});
  checker.pointer("qweight", args.qweight, 16);
  const bool with_zeros = args.shape.b_type == types::kU4 && needs_fp8_nibbles(args.shape);
  if (with_zeros) {
    checker.pointer("qzeros", args.qzeros, 16);
    if (checker.ok() && (args.num_groups < 1 || args.shape.k % args.num_groups != 0)) {
      checker.refuse("num_groups", std::to_string(args.num_groups),
                     "a divisor of k = " + std::to_string(args.shape.k));
    }
  }
  if (!checker.ok()) return checker.status();
  const AwqSource source{static_cast<const std::uint32_t*>(args.qweight),
                         with_zeros ? static_cast<const std::uint32_t*>(args.qzeros) : nullptr,
                         needs_fp8_nibbles(args.shape),
                         with_zeros ? args.shape.k / args.num_groups : args.shape.k,
                         args.shape.k,
                         args.shape.n};
  return repack("repack_awq", args.shape, source, args.out, args.stream);
}

Status repack_rows(const RepackRowsArgs& args) {
  ArgumentChecker checker;
  check_shape(args.shape, args.out, &checker);
  refuse_zero_points(args.shape, &checker);
  checker.pointer("weights", args.weights, 16);
  if (!checker.ok()) return checker.status();
  const RowsSource source{static_cast<const std::uint8_t*>(args.weights),
                          needs_fp8_nibbles(args.shape), args.shape.k, args.shape.n};
  return repack("repack_rows", args.shape, source, args.out, args.stream);
}

}  // namespace marlin_moe
