// Calls that consist of other calls, for frameworks whose programs hand over tensors and nothing
// else, such as XLA's.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/function.h>

#include <cstdint>
#include <vector>

#include "arguments.h"

namespace marlin_moe {
namespace binding {

// The value of an expression: [i] is the tensor number i; [f, ...] is what f returns for the rest,
// all of which are expressions; anything else is itself.
static ffi::Any evaluate(const ffi::Any& expression, ffi::PackedArgs tensors) {
  const auto parts = expression.as<ffi::Array<ffi::Any>>();
  if (!parts || parts->empty()) return expression;
  const auto index = (*parts)[0].as<std::int64_t>();
  if (index && parts->size() == 1) return tensors[static_cast<int>(*index)];
  std::vector<ffi::Any> values;
  for (const ffi::Any& part : *parts) values.push_back(evaluate(part, tensors));
  const std::vector<ffi::AnyView> arguments(values.begin() + 1, values.end());
  ffi::Any result;
  values[0].cast<ffi::Function>().CallPacked(arguments.data(), static_cast<int>(arguments.size()),
                                             &result);
  return result;
}

// A function of tensors that evaluates an expression and returns nothing: results go to tensors.
static ffi::Function function_of(const ffi::Array<ffi::Any>& expression) {
  return ffi::Function::FromPacked([expression](ffi::PackedArgs tensors, ffi::Any*) {
    evaluate(ffi::Any(expression), tensors);
  });
}

}  // namespace binding
}  // namespace marlin_moe

TVM_FFI_DLL_EXPORT_TYPED_FUNC(function_of, marlin_moe::binding::function_of)
