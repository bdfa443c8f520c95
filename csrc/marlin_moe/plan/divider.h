// Division by a number that is known long before the numbers it divides.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace marlin_moe {

// A positive divisor, which `int / Divider` and `int % Divider` divide numbers of 0 or more by with
// a multiplication and a shift (Granlund and Montgomery, PLDI 1994): on a GPU a tenth of the
// instructions of a division.
class Divider {
 public:
  constexpr Divider() : Divider(1) {}
  // Not explicit: an int is a divisor wherever one is asked for.
  constexpr Divider(int value) : value_(value), multiplier_(0), shift_(0) {  // NOLINT
    while ((std::int64_t{1} << shift_) < value) ++shift_;
    multiplier_ = static_cast<std::uint32_t>((std::uint64_t{1} << (31 + shift_)) / value + 1);
  }
  MARLIN_HOST_DEVICE constexpr operator int() const { return value_; }  // NOLINT

  friend MARLIN_HOST_DEVICE constexpr int operator/(int dividend, const Divider& divisor) {
    // Twice the dividend, so that the product's upper half is what is shifted: one instruction.
    const std::uint64_t product =
        std::uint64_t{2u * static_cast<std::uint32_t>(dividend)} * divisor.multiplier_;
    return static_cast<int>(static_cast<std::uint32_t>(product >> 32) >> divisor.shift_);
  }
  friend MARLIN_HOST_DEVICE constexpr int operator%(int dividend, const Divider& divisor) {
    return dividend - dividend / divisor * divisor.value_;
  }

 private:
  int value_;
  std::uint32_t multiplier_;  // the next integer above 2^(31 + shift) / value
  int shift_;                 // the least with 2^shift >= value
};

}  // namespace marlin_moe
