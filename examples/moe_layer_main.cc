// Runs the example layer on random GPTQ weights, as a CUDA graph, and compares with the CPU.
//
//   moe_layer [tokens]
//
// Exit status 0: the results agree.
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "examples/moe_layer.h"
#include "marlin_moe/prepare.h"

namespace {

namespace moe = marlin_moe;
using marlin_moe_example::MoeLayerArgs;

constexpr int kHidden = 512;
constexpr int kIntermediate = 384;
constexpr int kExperts = 8;
constexpr int kTopK = 2;
constexpr int kGroupSize = 128;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

void check(const moe::Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", what, status.message.c_str());
  std::exit(1);
}

struct DeviceFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, DeviceFree>;

// Zeroed device memory.
DeviceMemory allocate(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "cudaMalloc");
  check(cudaMemset(memory, 0, bytes), "cudaMemset");
  return DeviceMemory(memory);
}

template <class T>
DeviceMemory upload(const std::vector<T>& values) {
  DeviceMemory memory = allocate(values.size() * sizeof(T));
  check(cudaMemcpy(memory.get(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
        "cudaMemcpy");
  return memory;
}

// The weights of one GEMM: a checkpoint, and what the library made of it.
struct Matrix {
  int k = 0;
  int n = 0;
  std::vector<std::uint32_t> qweight;  // [experts, k / 8, n]
  std::vector<__half> scales;          // [experts, k / kGroupSize, n]
  DeviceMemory b;
  DeviceMemory permuted_scales;

  // One weight: element i of a GPTQ word is a row, and stands for a number from -8 to 7.
  double at(int expert, int row, int column) const {
    const std::size_t rows = static_cast<std::size_t>(expert) * k + row;
    const std::uint32_t word = qweight[rows / 8 * n + column];
    const double q = static_cast<double>(word >> (4 * (row % 8)) & 15) - 8;
    return q * __half2float(scales[rows / kGroupSize * n + column]);
  }
};

Matrix make_matrix(int k, int n, std::mt19937* random) {
  Matrix matrix;
  matrix.k = k;
  matrix.n = n;
  matrix.qweight.resize(static_cast<std::size_t>(kExperts) * k / 8 * n);
  for (std::uint32_t& word : matrix.qweight) word = (*random)();
  matrix.scales.resize(static_cast<std::size_t>(kExperts) * k / kGroupSize * n);
  std::uniform_real_distribution<float> scale(0.1f / std::sqrt(k), 0.4f / std::sqrt(k));
  for (__half& value : matrix.scales) value = __float2half(scale(*random));
  return matrix;
}

// What a program does once, after it has loaded a checkpoint.
void prepare(Matrix* matrix) {
  const DeviceMemory qweight = upload(matrix->qweight);
  const DeviceMemory scales = upload(matrix->scales);
  matrix->b = allocate(matrix->qweight.size() * sizeof(std::uint32_t));
  matrix->permuted_scales = allocate(matrix->scales.size() * sizeof(__half));

  moe::RepackGptqArgs repack;
  repack.shape.num_experts = kExperts;
  repack.shape.k = matrix->k;
  repack.shape.n = matrix->n;
  repack.qweight = qweight.get();
  repack.out = matrix->b.get();
  check(moe::repack_gptq(repack), "repack_gptq");

  moe::PermuteScalesArgs permute;
  permute.num_experts = kExperts;
  permute.num_groups = matrix->k / kGroupSize;
  permute.n = matrix->n;
  permute.group_size = kGroupSize;
  permute.scales = scales.get();
  permute.out = matrix->permuted_scales.get();
  check(moe::permute_scales(permute), "permute_scales");
  check(cudaDeviceSynchronize(), "prepare");
}

// Tokens and where the router sends them.
struct Tokens {
  int m = 0;
  std::vector<__half> x;       // [m, kHidden]
  std::vector<int> ids;        // [m, kTopK]
  std::vector<float> weights;  // [m, kTopK]
};

Tokens make_tokens(int m, std::mt19937* random) {
  Tokens tokens;
  tokens.m = m;
  std::normal_distribution<float> normal;
  for (int i = 0; i < m * kHidden; ++i) tokens.x.push_back(__float2half(normal(*random)));
  for (int token = 0; token < m; ++token) {
    const int first = static_cast<int>((*random)() % kExperts);
    const int step = 1 + static_cast<int>((*random)() % (kExperts - 1));
    tokens.ids.push_back(first);
    tokens.ids.push_back((first + step) % kExperts);
    const float share = 0.2f + 0.6f * static_cast<float>((*random)() % 1000) / 1000;
    tokens.weights.push_back(share);
    tokens.weights.push_back(1 - share);
  }
  return tokens;
}

// Row `token` of the layer's result, in double.
std::vector<double> expected_row(const Tokens& tokens, int token, const Matrix& gate_up,
                                 const Matrix& down) {
  std::vector<double> row(kHidden, 0.0);
  for (int j = 0; j < kTopK; ++j) {
    const int expert = tokens.ids[static_cast<std::size_t>(token) * kTopK + j];
    const double share = tokens.weights[static_cast<std::size_t>(token) * kTopK + j];
    std::vector<double> sums(2 * kIntermediate, 0.0);
    for (int k = 0; k < kHidden; ++k) {
      const double x = __half2float(tokens.x[static_cast<std::size_t>(token) * kHidden + k]);
      for (int n = 0; n < 2 * kIntermediate; ++n) sums[n] += x * gate_up.at(expert, k, n);
    }
    for (int k = 0; k < kIntermediate; ++k) {
      const double activated = sums[k] / (1 + std::exp(-sums[k])) * sums[kIntermediate + k];
      for (int n = 0; n < kHidden; ++n) row[n] += share * activated * down.at(expert, k, n);
    }
  }
  return row;
}

// Runs the layer out of a CUDA graph, twice: nothing may be left over from the first time.
std::vector<__half> run(const Tokens& tokens, const Matrix& gate_up, const Matrix& down) {
  const DeviceMemory x = upload(tokens.x);
  const DeviceMemory ids = upload(tokens.ids);
  const DeviceMemory weights = upload(tokens.weights);
  std::vector<__half> result(tokens.x.size());
  const DeviceMemory out = allocate(result.size() * sizeof(__half));
  MoeLayerArgs args;
  args.m = tokens.m;
  args.hidden = kHidden;
  args.intermediate = kIntermediate;
  args.num_experts = kExperts;
  args.top_k = kTopK;
  args.group_size = kGroupSize;
  args.x = x.get();
  args.topk_ids = static_cast<const int*>(ids.get());
  args.topk_weights = static_cast<const float*>(weights.get());
  args.gate_up = {gate_up.b.get(), gate_up.permuted_scales.get()};
  args.down = {down.b.get(), down.permuted_scales.get()};
  args.out = out.get();
  check(marlin_moe_layer_workspace_size(args, &args.workspace_bytes), "workspace size");
  const DeviceMemory workspace = allocate(args.workspace_bytes);
  args.workspace = workspace.get();

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  check(cudaStreamCreate(&args.stream), "cudaStreamCreate");
  check(cudaStreamBeginCapture(args.stream, cudaStreamCaptureModeGlobal), "capture");
  check(marlin_moe_layer(args), "marlin_moe_layer");
  check(cudaStreamEndCapture(args.stream, &graph), "capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  for (int i = 0; i < 2; ++i) check(cudaGraphLaunch(exec, args.stream), "cudaGraphLaunch");
  check(cudaStreamSynchronize(args.stream), "marlin_moe_layer");
  check(
      cudaMemcpy(result.data(), out.get(), result.size() * sizeof(__half), cudaMemcpyDeviceToHost),
      "cudaMemcpy");
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(args.stream);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const int m = argc > 1 ? std::atoi(argv[1]) : 17;
  if (m < 1) {
    std::fprintf(stderr, "usage: moe_layer [tokens]; tokens = %s, allowed: 1 or more\n", argv[1]);
    return 2;
  }
  std::mt19937 random(1);
  Matrix gate_up = make_matrix(kHidden, 2 * kIntermediate, &random);
  Matrix down = make_matrix(kIntermediate, kHidden, &random);
  prepare(&gate_up);
  prepare(&down);
  const Tokens tokens = make_tokens(m, &random);
  const std::vector<__half> result = run(tokens, gate_up, down);

  double error = 0;
  double size = 0;
  for (int token = 0; token < m; ++token) {
    const std::vector<double> expected = expected_row(tokens, token, gate_up, down);
    for (int n = 0; n < kHidden; ++n) {
      const double found = __half2float(result[static_cast<std::size_t>(token) * kHidden + n]);
      error += std::abs(found - expected[n]);
      size += std::abs(expected[n]);
    }
  }
  // Two roundings of intermediate results to f16 and one of the result: a few times 2^-12.
  constexpr double kLimit = 2e-3;
  std::printf("%d tokens: mean error %.2e of the mean magnitude (limit %.0e)\n", m, error / size,
              kLimit);
  return error / size <= kLimit ? 0 : 1;
}
