// An error macro that takes any number of values, in the style of tensor libraries.
#pragma once

#include <sstream>
#include <stdexcept>

namespace foreign {

template <typename... Values>
[[noreturn]] void fail(const char* file, int line, const Values&... values) {
  std::ostringstream message;
  (message << ... << values);
  message << " (" << file << ":" << line << ")";
  throw std::runtime_error(message.str());
}

}  // namespace foreign

#define FOREIGN_CHECK(condition, ...)                                   \
  do {                                                                  \
    if (!(condition)) ::foreign::fail(__FILE__, __LINE__, __VA_ARGS__); \
  } while (false)
