// The activation between a layer's GEMMs, as callers choose it.
#pragma once

#include <optional>

#include "arguments.h"
#include "marlin_moe/activations.h"

namespace marlin_moe {
namespace binding {

// Takes a choice, in arguments that lack all else. `none` is the absence of one; it is refused
// unless `optional` says that there need not be one.
std::optional<ActAndMulArgs> take_activation(ffi::AnyView activation, ffi::AnyView interleaved,
                                             ffi::AnyView alpha, ffi::AnyView limit, bool optional);

}  // namespace binding
}  // namespace marlin_moe
