// What the C interfaces for the Python tests share: errors across the language border, and the CUDA
// objects of a timing loop.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "marlin_moe/moe_gemm.h"

namespace moe = marlin_moe;

// The types of a struct's fields, as shim_lib.py knows them.
using int32 = std::int32_t;
using float32 = float;
using int64 = std::int64_t;
using pointer = void*;

// Copies the message into the caller's buffer, cut to its size, and returns the code.
inline int report(const moe::Status& status, char* message, std::size_t message_bytes) {
  if (message_bytes > 0) {
    const std::size_t length = std::min(status.message.size(), message_bytes - 1);
    std::memcpy(message, status.message.data(), length);
    message[length] = '\0';
  }
  return static_cast<int>(status.code);
}

// The name of a status code, as report() returns it.
inline const char* status_name(int code) {
  switch (static_cast<moe::StatusCode>(code)) {
    case moe::StatusCode::kOk:
      return "ok";
    case moe::StatusCode::kInvalidArgument:
      return "invalid_argument";
    case moe::StatusCode::kInsufficientWorkspace:
      return "insufficient_workspace";
    case moe::StatusCode::kNoKernel:
      return "no_kernel";
    case moe::StatusCode::kCudaError:
      return "cuda_error";
  }
  return "unknown";
}

// The id of a scalar type by the name of its constant; -1 if there is no such type.
inline int64 type_id(const char* name) {
  namespace types = MARLIN_TYPE_NAMESPACE;
  static constexpr std::pair<const char*, moe::ScalarType> kTypes[] = {
      {"kFloat16", types::kFloat16},
      {"kBFloat16", types::kBFloat16},
      {"kS8", types::kS8},
      {"kU4", types::kU4},
      {"kU4B8", types::kU4B8},
      {"kU8B128", types::kU8B128},
      {"kFE4M3fn", types::kFE4M3fn},
      {"kFE2M1f", types::kFE2M1f},
      {"kFE8M0fnu", types::kFE8M0fnu}};
  for (const auto& [type_name, type] : kTypes) {
    if (std::strcmp(name, type_name) == 0) return type.id();
  }
  return -1;
}

inline moe::Status cuda_status(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return {};
  return {moe::StatusCode::kCudaError, std::string(call) + ": " + cudaGetErrorString(error)};
}

#define SHIM_RETURN_IF_ERROR(expression)                         \
  do {                                                           \
    const moe::Status status_of_expression = (expression);       \
    if (!status_of_expression.ok()) return status_of_expression; \
  } while (false)

#define SHIM_CUDA(call) SHIM_RETURN_IF_ERROR(cuda_status((call), #call))

inline float median(std::vector<float> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// A stream, a graph captured from it, and the events around what is timed; released together.
struct Timer {
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;

  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
    if (graph != nullptr) cudaGraphDestroy(graph);
    if (end != nullptr) cudaEventDestroy(end);
    if (begin != nullptr) cudaEventDestroy(begin);
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  moe::Status create() {
    SHIM_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    SHIM_CUDA(cudaEventCreate(&begin));
    SHIM_CUDA(cudaEventCreate(&end));
    return {};
  }

  // Captures what `launch` puts on the stream; it returns a Status.
  template <class Launch>
  moe::Status capture(const Launch& launch) {
    SHIM_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    const moe::Status launched = launch();
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    SHIM_RETURN_IF_ERROR(launched);
    SHIM_CUDA(ended);
    SHIM_CUDA(cudaGraphInstantiate(&executable, graph, 0));
    return {};
  }

  moe::Status replay() const {
    SHIM_CUDA(cudaGraphLaunch(executable, stream));
    return {};
  }

  // Sets *microseconds to the median time of `run`, which puts `launches` launches on the stream
  // and returns a Status, after one run that is not timed.
  template <class Run>
  moe::Status measure(const Run& run, int launches, int repeats, float* microseconds) const {
    SHIM_RETURN_IF_ERROR(run());
    std::vector<float> samples;
    for (int i = 0; i < repeats; ++i) {
      SHIM_CUDA(cudaEventRecord(begin, stream));
      SHIM_RETURN_IF_ERROR(run());
      SHIM_CUDA(cudaEventRecord(end, stream));
      SHIM_CUDA(cudaEventSynchronize(end));
      float milliseconds = 0.0f;
      SHIM_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
      samples.push_back(milliseconds * 1000.0f / static_cast<float>(launches));
    }
    *microseconds = median(std::move(samples));
    return {};
  }
};
