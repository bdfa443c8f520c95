// Which columns of a checkpoint fill those of a result that has more: the rest is padding.
#pragma once

#include <cstdint>

#include "argument_checker.h"

namespace marlin_moe {

// Columns of the result come in parts, each of which begins with as many of the source and ends
// with padding.
struct SourceColumns {
  int part;         // columns of a part of the result
  int source_part;  // columns of a part of the source
  int source_n;     // columns of the source

  // The source's column for one of the result; negative: padding.
  __device__ __forceinline__ int at(int column) const {
    const int index = column / part;
    const int within = column - index * part;
    return within < source_part ? index * source_part + within : -1;
  }
};

// Checks the source's size against the result's. `unit`: what source_n has to be a multiple of.
inline SourceColumns source_columns(int n, int source_n, int parts, int unit,
                                    ArgumentChecker* checker) {
  if (source_n == 0) source_n = n;
  if (parts == 0) parts = 1;
  if (parts < 1 || n % parts != 0) {
    checker->refuse("column_parts", std::to_string(parts), "a divisor of n = " + std::to_string(n));
    return {1, 1, 1};
  }
  if (source_n < 0 || source_n > n || source_n % unit != 0 || source_n % parts != 0) {
    const bool both = unit > 1 && parts > 1;
    const std::string multiple =
        both ? std::to_string(unit) + " and of column_parts = " + std::to_string(parts)
             : std::to_string(unit > 1 ? unit : parts);
    checker->refuse("source_n", std::to_string(source_n),
                    "0 (n), or a multiple of " + multiple + " up to n = " + std::to_string(n));
  }
  return {n / parts, source_n / parts, source_n};
}

// Checks and returns the source's rows, or groups of them. `unit`: what they have to be a multiple
// of; `name` and `whole` are those of the argument and of what the result has.
inline int source_rows(const char* name, int given, const char* whole, int most, int unit,
                       ArgumentChecker* checker) {
  if (given == 0) return most;
  if (given < 0 || given > most || given % unit != 0) {
    checker->refuse(name, std::to_string(given),
                    std::string("0 (") + whole + "), or a multiple of " + std::to_string(unit) +
                        " up to " + whole + " = " + std::to_string(most));
  }
  return given;
}

}  // namespace marlin_moe
