// Answers each key on standard input with the arguments of the kernel that is selected for it, or
// with "none". A key is the template's twelve arguments in order: names for types, else numbers.
#include <iostream>
#include <map>
#include <string>

#include "select.h"

namespace {

const std::map<std::string, vllm::ScalarType> kTypes = {
    {"kFloat16", vllm::kFloat16},
    {"kBFloat16", vllm::kBFloat16},
    {"kS8", vllm::kS8},
    {"kFE4M3fn", vllm::kFE4M3fn},
    {"kU4", vllm::kU4},
    {"kU4B8", vllm::kU4B8},
    {"kU8B128", vllm::kU8B128},
    {"kFE2M1f", vllm::kFE2M1f},
    {"kFE8M0fnu", vllm::kFE8M0fnu},
    {"kU8", vllm::kU8},
    {"kUnheardOf", vllm::kUnheardOf},
};

std::string NameOf(vllm::ScalarTypeId id) {
  for (const auto& [name, type] : kTypes) {
    if (type.id() == id) return name;
  }
  return "?";
}

}  // namespace

int main() {
  std::string a, b, c, s;
  int threads, m, n, k, m8, stages, groups, zp;
  while (std::cin >> a >> b >> c >> s >> threads >> m >> n >> k >> m8 >> stages >> groups >> zp) {
    const Kernel kernel = Select(kTypes.at(a), kTypes.at(b), kTypes.at(c), kTypes.at(s), threads, m,
                                 n, k, m8, stages, groups, zp);
    if (kernel == nullptr) {
      std::cout << "none\n";
      continue;
    }
    marlin_moe_wna16::KernelArguments arguments;
    kernel(&arguments);
    for (int i = 0; i < 12; ++i) {
      std::cout << (i ? " " : "") << (i < 4 ? NameOf(arguments[i]) : std::to_string(arguments[i]));
    }
    std::cout << "\n";
  }
}
