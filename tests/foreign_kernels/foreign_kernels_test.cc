// Selects kernels of a foreign tree, and what has none: that must reach the tree's own error macro.
#include <cstdio>
#include <stdexcept>
#include <string>

#include "tests/foreign_kernels/csrc/moe/ops.h"

static int failures = 0;

static void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "failed: %s\n", what);
  ++failures;
}

// What a function throws, or an empty string.
template <typename Function>
static std::string error_of(const Function& function) {
  try {
    function();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return {};
}

static void test_ops(const foreign::Ops& ops) {
  const void* one = ops.find(256, 1);
  const void* two = ops.find(256, 2);
  expect(one != nullptr && two != nullptr, "both kernels are found");
  expect(one != two, "they differ");

  std::string error = error_of([&] { ops.find(128, 2); });
  expect(error.find("no kernel for threads = 128, thread_m_blocks = 2 (") == 0, error.c_str());
  expect(error.find("kernel_selector.h:") != std::string::npos, "the selector's line is named");
  error = error_of([&] { ops.run(nullptr, nullptr, 256, 256, 3); });
  expect(error.find("no kernel for threads = 256, thread_m_blocks = 3 (") == 0, error.c_str());
}

int main() {
  test_ops(foreign::chain_ops);
  test_ops(foreign::switch_ops);
  expect(foreign::chain_ops.find(256, 1) != foreign::switch_ops.find(256, 1),
         "the two sets of kernels are apart");
  return failures == 0 ? 0 : 1;
}
