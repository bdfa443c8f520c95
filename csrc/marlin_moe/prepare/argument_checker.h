// Checks of arguments before a launch, for the functions around the GEMM.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "marlin_moe/host/arguments.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {

// Collects the first argument that is not allowed.
class ArgumentChecker {
 public:
  const Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }

  void refuse(const std::string& name, const std::string& given, const std::string& allowed) {
    if (!ok()) return;
    status_ = invalid(name, given, allowed);
  }
  void range(const char* name, std::int64_t given, std::int64_t least, std::int64_t most) {
    if (given >= least && given <= most) return;
    refuse(name, std::to_string(given), std::to_string(least) + " to " + std::to_string(most));
  }
  // A matrix's dimension: a positive multiple that indices of type int can cope with.
  void dimension(const char* name, std::int64_t given, int unit) {
    constexpr int kMost = 1 << 20;
    if (given > 0 && given % unit == 0 && given <= kMost) return;
    refuse(name, std::to_string(given),
           "a multiple of " + std::to_string(unit) + " from " + std::to_string(unit) + " to " +
               std::to_string(kMost) +
               (unit == 64 ? ", as padded_shape() makes of other sizes" : ""));
  }
  // `one_group`: whether there is one group only, which may have any number of rows.
  void group_size(int given, bool one_group) {
    for (const int size : {kGroupSizeChannel, kGroupSizeActOrder, 16, 32, 64, 128}) {
      if (given == size) return;
    }
    if (one_group && given > 0) return;
    refuse("group_size", std::to_string(given),
           "-1 (channel), 0 (act-order), 16, 32, 64, 128, or k with num_groups = 1");
  }
  // A row stride, in elements.
  void stride(const char* name, std::int64_t given, std::int64_t least, int unit) {
    if (given >= least && given % unit == 0) return;
    refuse(name, std::to_string(given),
           "a multiple of " + std::to_string(unit) + ", at least " + std::to_string(least));
  }
  // `context` names another argument that limits this one.
  void type(const char* name, ScalarType given, std::initializer_list<ScalarType> allowed,
            const std::string& context = "") {
    if (ok()) status_ = check_type(name, given, allowed, context);
  }
  void pointer(const char* name, const void* given, std::uintptr_t alignment) {
    if (ok()) status_ = check_pointer(name, given, alignment);
  }
  void optional_pointer(const char* name, const void* given, std::uintptr_t alignment) {
    if (given != nullptr) pointer(name, given, alignment);
  }

 private:
  Status status_;
};

}  // namespace marlin_moe
