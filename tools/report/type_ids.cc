// Prints the scalar types' ids, which stand in the kernels' symbols: a line with name and id each.
#include <cstdio>

#include "csrc/marlin_moe/scalar_type.hpp"

int main() {
  const struct {
    const char* name;
    vllm::ScalarType type;
  } types[] = {
      {"kFloat16", vllm::kFloat16},
      {"kBFloat16", vllm::kBFloat16},
      {"kS8", vllm::kS8},
      {"kFE4M3fn", vllm::kFE4M3fn},
      {"kU4", vllm::kU4},
      {"kU4B8", vllm::kU4B8},
      {"kU8B128", vllm::kU8B128},
      {"kFE2M1f", vllm::kFE2M1f},
      {"kFE8M0fnu", vllm::kFE8M0fnu},
  };
  for (const auto& [name, type] : types) {
    std::printf("%s %lld\n", name, static_cast<long long>(type.id()));
  }
}
