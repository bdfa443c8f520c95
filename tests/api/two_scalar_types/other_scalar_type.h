// Another library's scalar types in namespace vllm: the names of ours with another layout, other
// members and other numbers. It stands for vLLM's, of whatever version.
#pragma once

#include <cstdint>

namespace vllm {

class ScalarType {
 public:
  constexpr ScalarType(std::int64_t bias, int bits, bool is_signed)
      : bias_(bias), bits_(bits), is_signed_(is_signed) {}
  constexpr int size_bits() const { return 1000 + bits_; }
  constexpr bool is_integer() const { return !is_signed_; }
  constexpr std::int64_t id() const { return -bias_; }
  static constexpr ScalarType from_id(std::int64_t id) { return {-id, 0, true}; }

 private:
  std::int64_t bias_;
  int bits_;
  bool is_signed_;
};

inline constexpr ScalarType kU4B8{8, 4, false};

}  // namespace vllm
