// The weights of all experts for one GEMM, checked once and kept alive while somebody uses them.
#pragma once

#include <string>
#include <vector>

#include "call.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {
namespace binding {

class ExpertWeightsObj : public ffi::Object {
 public:
  // Shape, types and pointers of the weights; all else is what a call fills in.
  MoeGemmArgs args;
  // Of weights packed elsewhere for S8 activations: what the activations' scales are multiplied by.
  const float* a_factor = nullptr;
  // A tensor of them, which says where they are.
  Operand b;
  std::vector<ffi::Tensor> owners;

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("marlin_moe.ExpertWeights", ExpertWeightsObj, ffi::Object);
};

// The weights that an argument holds.
ffi::ObjectPtr<ExpertWeightsObj> to_weights(const char* name, ffi::AnyView given);

// The type of activations that a call has, given by name or by the tensor; refused if the weights
// were prepared for others.
ScalarType activation_type(const ExpertWeightsObj& weights, ffi::AnyView named, const Operand& a);

}  // namespace binding
}  // namespace marlin_moe
