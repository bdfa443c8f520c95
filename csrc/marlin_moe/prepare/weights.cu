// Repacks weights. A warp writes one tile of the result, each lane the words that it will read in
// the GEMM. The warps of a block take consecutive tiles along k, which share the source's cache
// lines.
#include <algorithm>
#include <cstdint>

#include "argument_checker.h"
#include "launch.h"
#include "marlin_moe/plan/layout.h"
#include "marlin_moe/prepare.h"
#include "source_columns.h"

namespace marlin_moe {

static constexpr int kTilesPerBlock = 8;

// What a source has of the result, and what is in the place of the rest.
struct SourceShape {
  int k;  // rows
  SourceColumns columns;
  std::uint32_t zero;  // stands for the number 0
};

// Sources of weights: value(expert, row, column) is the weight in its low bits. k and n are the
// result's.

struct GptqSource {
  const std::uint32_t* words;
  const int* perm;   // may be null
  bool fp8_nibbles;  // encode for e4m3 activations
  int k;
  int n;
  SourceShape from;

  template <int kBits>
  __device__ __forceinline__ std::uint32_t value(int expert, int row, int column) const {
    constexpr int kPerWord = 32 / kBits;
    if (perm != nullptr) row = perm[static_cast<std::int64_t>(expert) * k + row];
    column = from.columns.at(column);
    if (row >= from.k || column < 0) return from.zero;
    const std::int64_t word_row =
        static_cast<std::int64_t>(expert) * (from.k / kPerWord) + row / kPerWord;
    const std::uint32_t q =
        words[word_row * from.columns.source_n + column] >> (row % kPerWord * kBits) &
        ((1u << kBits) - 1);
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
  SourceShape from;

  template <int kBits>
  __device__ __forceinline__ static std::uint32_t unpack(const std::uint32_t* row, int column) {
    constexpr int kPerWord = 32 / kBits;
    const int i = column % kPerWord;
    const int position = kBits == 4 ? place_of_eight(i) : four_at(i);
    return row[column / kPerWord] >> (position * kBits) & ((1u << kBits) - 1);
  }

  // The zero point of a row that is in a group of the source, or of padding behind one.
  __device__ __forceinline__ std::uint32_t zero_point(int expert, int row, int column) const {
    const int groups = (from.k + group_rows - 1) / group_rows;
    if (row / group_rows >= groups) return from.zero;
    const std::int64_t group = static_cast<std::int64_t>(expert) * groups + row / group_rows;
    return unpack<4>(zero_words + group * (from.columns.source_n / 8), column);
  }

  template <int kBits>
  __device__ __forceinline__ std::uint32_t value(int expert, int row, int column) const {
    column = from.columns.at(column);
    if (column < 0) return from.zero;
    if (row >= from.k) {
      return zero_words == nullptr || fp8_nibbles ? from.zero : zero_point(expert, row, column);
    }
    const std::int64_t source_row = static_cast<std::int64_t>(expert) * from.k + row;
    const std::uint32_t q =
        unpack<kBits>(words + source_row * (from.columns.source_n * kBits / 32), column);
    if (!fp8_nibbles) return q;
    return fp8_nibble(q, zero_words == nullptr ? 8 : zero_point(expert, row, column));
  }
};

struct RowsSource {
  const std::uint8_t* bytes;
  bool fp8_nibbles;
  int k;
  int n;
  SourceShape from;

  template <int kBits>
  __device__ __forceinline__ std::uint32_t value(int expert, int row, int column) const {
    column = from.columns.at(column);
    if (row >= from.k || column < 0) return from.zero;
    const std::int64_t first =
        (static_cast<std::int64_t>(expert) * from.columns.source_n + column) * (from.k * kBits / 8);
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

static constexpr int kUnitN = 64;
static constexpr int kUnitK = 64;

static void check_weight_types(const WeightShape& shape, ArgumentChecker* checker) {
  namespace types = MARLIN_TYPE_NAMESPACE;
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
}

// `k_unit`, `n_unit`: weights that a source has whole words or bytes of.
static SourceShape check_shape(const WeightShape& shape, const void* out, int k_unit, int n_unit,
                               ArgumentChecker* checker) {
  constexpr int kMostInGridY = 65535;
  checker->range("num_experts", shape.num_experts, 1, kMostInGridY);
  checker->dimension("n", shape.n, kUnitN);
  checker->dimension("k", shape.k, kUnitK);
  check_weight_types(shape, checker);
  checker->pointer("out", out, 16);
  if (!checker->ok()) return {};
  const SourceColumns columns =
      source_columns(shape.n, shape.source_n, shape.column_parts, n_unit, checker);
  const int k = source_rows("source_k", shape.source_k, "k", shape.k, k_unit, checker);
  const std::uint32_t zero =
      needs_fp8_nibbles(shape) ? 0 : static_cast<std::uint32_t>(shape.b_type.bias);
  return {k, columns, zero};
}

static int weights_per_word(const WeightShape& shape) {
  return shape.b_type.size_bits() == 8 ? 4 : 8;
}

Status padded_shape(const WeightShape& shape, int group_size, PaddedShape* padded) {
  ArgumentChecker checker;
  constexpr int kMost = 1 << 20;
  checker.range("n", shape.n, 1, kMost);
  checker.range("k", shape.k, 1, kMost);
  check_weight_types(shape, &checker);
  const bool one_group = group_size == shape.k;  // a scale per column
  checker.group_size(group_size, one_group);
  if (!checker.ok()) return checker.status();
  const auto round_up = [](int value, int unit) { return (value + unit - 1) / unit * unit; };
  const int rows = one_group ? 0 : group_size;
  const int k = round_up(shape.k, std::max(kUnitK, rows));
  *padded = {round_up(shape.n, kUnitN), k, rows > 0 ? k / rows : 1};
  return {};
}

// Zero points are needed to encode such weights, or zeros behind them, and this source has none.
static void refuse_zero_points(const WeightShape& shape, const SourceShape& source,
                               ArgumentChecker* checker) {
  if (shape.b_type != MARLIN_TYPE_NAMESPACE::kU4) return;
  if (needs_fp8_nibbles(shape)) {
    checker->refuse("b_type", "kU4 with a_type = kFE4M3fn",
                    "kU4B8, kFE2M1f; or repack_awq(), which takes the zero points");
  } else if (source.k != shape.k) {
    checker->refuse("source_k", std::to_string(source.k),
                    "k, with b_type = kU4; or repack_awq(), which takes the zero points");
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
  const SourceShape from =
      check_shape(args.shape, args.out, weights_per_word(args.shape), 1, &checker);
  refuse_zero_points(args.shape, from, &checker);
  checker.pointer("qweight", args.qweight, 16);
  checker.optional_pointer("perm", args.perm, 16);
  if (!checker.ok()) return checker.status();
  const GptqSource source{static_cast<const std::uint32_t*>(args.qweight),
                          args.perm,
                          needs_fp8_nibbles(args.shape),
                          args.shape.k,
                          args.shape.n,
                          from};
  return repack("repack_gptq", args.shape, source, args.out, args.stream);
}

Status repack_awq(const RepackAwqArgs& args) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  ArgumentChecker checker;
  const SourceShape from =
      check_shape(args.shape, args.out, 1, weights_per_word(args.shape), &checker);
  checker.type("b_type", args.shape.b_type, {types::kU4, types::kU4B8, types::kU8B128});
  checker.pointer("qweight", args.qweight, 16);
  const bool with_zeros =
      args.shape.b_type == types::kU4 && (needs_fp8_nibbles(args.shape) || from.k != args.shape.k);
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
                         args.shape.n,
                         from};
  return repack("repack_awq", args.shape, source, args.out, args.stream);
}

Status repack_rows(const RepackRowsArgs& args) {
  ArgumentChecker checker;
  const int byte_weights = weights_per_word(args.shape) / 4;
  const SourceShape from = check_shape(args.shape, args.out, byte_weights, 1, &checker);
  refuse_zero_points(args.shape, from, &checker);
  checker.pointer("weights", args.weights, 16);
  if (!checker.ok()) return checker.status();
  const RowsSource source{static_cast<const std::uint8_t*>(args.weights),
                          needs_fp8_nibbles(args.shape), args.shape.k, args.shape.n, from};
  return repack("repack_rows", args.shape, source, args.out, args.stream);
}

}  // namespace marlin_moe
