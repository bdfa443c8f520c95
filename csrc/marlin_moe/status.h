// How the functions of the host API report what happened.
#pragma once

#include <string>

namespace marlin_moe {

enum class StatusCode {
  kOk,
  kInvalidArgument,        // a wrong shape, pointer, stride or combination of them
  kInsufficientWorkspace,  // less than the function's workspace query says
  kNoKernel,               // no kernel was built for the types, tile or device asked for
  kCudaError,              // the CUDA runtime reported an error
};

// Outcome of a call. `message` names the argument, the value given and what is allowed; it is empty
// when the call succeeded.
struct Status {
  StatusCode code = StatusCode::kOk;
  std::string message;
  bool ok() const { return code == StatusCode::kOk; }
};

}  // namespace marlin_moe
