// Calls the host API where there may be no GPU: it checks its arguments before it looks for one.
#include "marlin_moe/moe_gemm.h"

int main() {
  marlin_moe::MoeGemmArgs args;
  args.n = 100;
  const marlin_moe::Status status = marlin_moe::moe_gemm(args);
  const bool refused = status.code == marlin_moe::StatusCode::kInvalidArgument;
  return refused && status.message.find("n = 100 is not allowed") != std::string::npos ? 0 : 1;
}
