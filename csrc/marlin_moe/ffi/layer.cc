// The experts of a MoE layer in one call:
//
//   out[t, :] = sum over j of topk_weights[t, j] * down(act(gate(x[t, :])) * up(x[t, :]))
//
// with the three matrices of expert topk_ids[t, j]. Steps: align tokens to experts, GEMM 1 (gate
// and up side by side), activation, GEMM 2 (down), sum. With 8-bit activations each GEMM's are
// quantised before it.
#include <tvm/ffi/function.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "activations.h"
#include "configs.h"
#include "expert_weights.h"
#include "marlin_moe/host/arguments.h"
#include "marlin_moe/host/cuda_status.h"
#include "marlin_moe/moe_align.h"
#include "workspace.h"

namespace marlin_moe {
namespace binding {

namespace types = MARLIN_TYPE_NAMESPACE;

// A layer: what no call changes, checked when it is made.
struct Layer {
  ffi::ObjectPtr<ExpertWeightsObj> gate_up;
  ffi::ObjectPtr<ExpertWeightsObj> down;
  ffi::Optional<ffi::Tensor> expert_map_owner;
  Operand expert_map;
  int num_experts = 0;  // of all devices
  bool weight_input = false;
  std::optional<ActAndMulArgs> activation;  // none: GEMM 2 takes what GEMM 1 makes
  std::unique_ptr<LayerConfigs> configs;

  int hidden() const { return gate_up->args.k; }
  int intermediate() const { return down->args.k; }
  const ScalarType& type() const { return gate_up->args.c_type; }
  const ScalarType& a_type() const { return gate_up->args.a_type; }
  bool quantises() const { return a_type().size_bits() == 8; }
};

// Divides a buffer into pieces: first it is told of all of them, then asked for their addresses.
class Pieces {
 public:
  // Returns the offset of a new piece.
  std::size_t add(std::int64_t elements, int bits) {
    const std::size_t start = bytes_;
    const std::size_t size =
        static_cast<std::size_t>(elements) * static_cast<std::size_t>(bits) / 8;
    bytes_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    return start;
  }
  std::int64_t bytes() const { return static_cast<std::int64_t>(bytes_ + kAlignment); }
  void place(void* buffer) {
    const auto address = reinterpret_cast<std::uintptr_t>(buffer);
    base_ = (address + kAlignment - 1) / kAlignment * kAlignment;
  }
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }

 private:
  static constexpr std::size_t kAlignment = 256;
  std::size_t bytes_ = 0;
  std::uintptr_t base_ = 0;
};

// One call of a layer: its arguments, and what lies between its steps.
class Run {
 public:
  Run(const Layer& layer, Call& call, const Operand& x, const Operand& ids, const Operand& weights,
      void* out)
      : layer_(layer), call_(call), x_(x), ids_(ids), weights_(weights), out_(out) {
    align_.num_ids = static_cast<int>(ids.elements());
    align_.num_experts = layer.num_experts;
    call.stream();  // the choice is the device's
    config_ = layer.configs->get(rows(), top_k());
    align_.block_size = config_.block_size;
    align_.drop_remote = true;
    align_.topk_ids = ids.data_as<const int>();
    align_.expert_map = layer.expert_map.data_as<const int>();
  }

  void launch() {
    // Held until the last launch: what frees it then waits for the stream.
    const ffi::Tensor scratch = carve();
    align_.stream = call_.stream();
    check(moe_align(align_), "moe_align");
    const auto* source = layer_.quantises() ? quantise("gate_up", *layer_.gate_up, x_.data(),
                                                       rows(), x_.row_stride(), gate_up_values_)
                                            : x_.data();
    const std::int64_t stride = layer_.quantises() ? layer_.hidden() : x_.row_stride();
    gemm("gate_up", *layer_.gate_up, config_.gate_up, source, rows(), stride, top_k(),
         layer_.weight_input, gate_up_values_, pieces_.at<void>(gate_up_));
    if (layer_.activation) activate();
    const void* activated = pieces_.at<void>(layer_.activation ? activated_ : gate_up_);
    if (layer_.quantises()) {
      activated = quantise("down", *layer_.down, activated, align_.num_ids, layer_.intermediate(),
                           down_values_);
    }
    gemm("down", *layer_.down, config_.down, activated, align_.num_ids, layer_.intermediate(), 1,
         !layer_.weight_input, down_values_, pieces_.at<void>(down_));
    sum();
  }

 private:
  // A quantised matrix: its values and its rows' scales.
  struct Quantised {
    std::size_t values = 0;
    std::size_t scales = 0;
  };

  int rows() const { return x_.size(0); }
  int top_k() const { return ids_.size(1); }

  ffi::Tensor carve() {
    const std::int64_t num_ids = align_.num_ids;
    const std::int64_t inner = layer_.intermediate(), hidden = layer_.hidden();
    check(moe_align_workspace_size(align_, &align_.workspace_bytes), "moe_align");
    const std::int64_t capacity =
        moe_align_capacity(align_.num_ids, align_.num_experts, align_.block_size);
    const std::size_t sorted = pieces_.add(capacity, 32);
    const std::size_t experts = pieces_.add(capacity / align_.block_size, 32);
    const std::size_t used = pieces_.add(1, 32);
    const std::size_t workspace = pieces_.add(static_cast<std::int64_t>(align_.workspace_bytes), 8);
    gate_up_ = pieces_.add(num_ids * layer_.gate_up->args.n, 16);
    if (layer_.activation) activated_ = pieces_.add(num_ids * inner, 16);
    down_ = pieces_.add(num_ids * hidden, 16);
    if (layer_.quantises()) {
      gate_up_values_ = {pieces_.add(rows() * hidden, 8), pieces_.add(rows(), 32)};
      down_values_ = {pieces_.add(num_ids * inner, 8), pieces_.add(num_ids, 32)};
    }
    ffi::Tensor scratch = call_.scratch(pieces_.bytes());
    pieces_.place(Operand{scratch.GetDLTensorPtr()}.data());
    align_.sorted_token_ids = pieces_.at<int>(sorted);
    align_.expert_ids = pieces_.at<int>(experts);
    align_.num_tokens_past_padded = pieces_.at<int>(used);
    align_.workspace = align_.workspace_bytes > 0 ? pieces_.at<void>(workspace) : nullptr;
    return scratch;
  }

  const void* quantise(const char* step, const ExpertWeightsObj& weights, const void* in, int m,
                       std::int64_t stride, const Quantised& to) {
    QuantizeActivationsArgs args;
    args.m = m;
    args.k = weights.args.k;
    args.x_type = layer_.type();
    args.out_type = layer_.a_type();
    args.x = in;
    args.x_stride = stride;
    args.out = pieces_.at<void>(to.values);
    args.scales = pieces_.at<float>(to.scales);
    args.factor = weights.a_factor;
    args.stream = call_.stream();
    check(quantize_activations(args), step);
    return args.out;
  }

  void gemm(const char* step, const ExpertWeightsObj& weights,
            const std::optional<MoeGemmConfig>& config, const void* a, int m, std::int64_t stride,
            int top_k, bool weighted, const Quantised& quantised, void* c) {
    MoeGemmArgs args = weights.args;
    args.m = m;
    args.top_k = top_k;
    args.block_size = align_.block_size;
    args.a = a;
    args.a_stride = stride;
    if (layer_.quantises()) args.a_scales = pieces_.at<float>(quantised.scales);
    if (weighted) args.topk_weights = weights_.data_as<const float>();
    args.sorted_token_ids = align_.sorted_token_ids;
    args.expert_ids = align_.expert_ids;
    args.num_tokens_past_padded = align_.num_tokens_past_padded;
    args.c = c;
    launch_gemm(call_, args, config ? &*config : nullptr, step);
  }

  void activate() {
    ActAndMulArgs args = *layer_.activation;
    args.m = align_.num_ids;
    args.n = layer_.intermediate();
    args.type = layer_.type();
    args.x = pieces_.at<void>(gate_up_);
    args.out = pieces_.at<void>(activated_);
    args.stream = call_.stream();
    check(act_and_mul(args), "act_and_mul");
  }

  void sum() {
    TopkSumArgs args;
    args.m = rows();
    args.n = layer_.hidden();
    args.top_k = top_k();
    args.type = layer_.type();
    args.x = pieces_.at<void>(down_);
    args.out = out_;
    args.topk_ids = align_.topk_ids;
    args.num_experts = layer_.num_experts;
    args.expert_map = align_.expert_map;
    args.stream = call_.stream();
    check(topk_sum(args), "topk_sum");
  }

  const Layer& layer_;
  Call& call_;
  const Operand& x_;
  const Operand& ids_;
  const Operand& weights_;
  void* out_;
  LayerConfig config_;
  MoeAlignArgs align_;
  Pieces pieces_;
  std::size_t gate_up_ = 0, activated_ = 0, down_ = 0;
  Quantised gate_up_values_, down_values_;
};

// Takes the input: what the kernels ask of it is asked before the first of them is launched.
static Operand take_input(const Layer& layer, ffi::AnyView x) {
  const Operand source = take("x", x, {}, {kAny, layer.hidden()},
                              "[m, hidden], hidden as gate_up has", Rows::kStrided);
  check_holds("x", source, layer.type());
  if (source.size(0) > 0) check(check_pointer("x", source.data(), 16));
  if (source.row_stride() < layer.hidden() || source.row_stride() % 8 != 0) {
    refuse("x", "row stride " + std::to_string(source.row_stride()),
           "a multiple of 8, at least hidden = " + std::to_string(layer.hidden()));
  }
  return source;
}

static ffi::Optional<ffi::Tensor> run_layer(const Layer& layer, ffi::AnyView x,
                                            ffi::AnyView topk_weights, ffi::AnyView topk_ids,
                                            ffi::AnyView out) {
  const Operand source = take_input(layer, x);
  Call call("x", source);
  call.here("gate_up", layer.gate_up->b);
  const std::int64_t m = source.size(0);
  const Operand ids =
      call.here("topk_ids", take("topk_ids", topk_ids, {kInt32}, {m, kAny}, "[m, top_k]"));
  const Operand weights =
      call.here("topk_weights", take("topk_weights", topk_weights, {kFloat}, {m, ids.size(1)},
                                     "[m, top_k], as topk_ids has"));
  const Output result =
      take_output(call, "out", out, {source.dtype()}, {m, layer.hidden()}, "[m, hidden], as x has");
  if (ids.elements() > 0) {
    Run(layer, call, source, ids, weights, result.operand.data()).launch();
  } else if (m > 0) {
    const std::size_t bytes = static_cast<std::size_t>(m) * layer.hidden() * 2;
    check(cuda_status(cudaMemsetAsync(result.operand.data(), 0, bytes, call.stream()),
                      "cudaMemsetAsync"));
  }
  return result.made;
}

// Refuses weights that are not of one layer.
static void check_pair(const Layer& layer) {
  const MoeGemmArgs& first = layer.gate_up->args;
  const MoeGemmArgs& second = layer.down->args;
  Call("gate_up", layer.gate_up->b).here("down", layer.down->b);
  const auto same = [](const char* name, int given, int wanted, const char* what) {
    if (given != wanted) refuse(name, std::to_string(given), std::to_string(wanted) + what);
  };
  same("down: num_experts", second.num_experts, first.num_experts, ", as gate_up has");
  same("down: n", second.n, first.k, ", the k of gate_up");
  if (layer.activation) {
    same("gate_up: n", first.n, 2 * second.k, ", twice the k of down");
  } else {
    same("gate_up: n", first.n, second.k, ", the k of down, where there is no activation");
  }
  check(check_type("down: c_type", second.c_type, {first.c_type}));
  if (first.a_type.size_bits() == 16) {
    check(check_type("gate_up: a_type", first.a_type, {first.c_type},
                     " in a layer, whose GEMMs have one type,"));
  }
  check(check_type("down: a_type", second.a_type, {first.a_type}));
}

// Takes what calls are launched with, and asks for kernels of both GEMMs, so that a layer that has
// none is refused before any launch.
static void take_configs(Layer* layer, ffi::AnyView block_size, ffi::AnyView tuning) {
  Call call("gate_up", layer->gate_up->b);
  call.stream();
  layer->configs =
      std::make_unique<LayerConfigs>(layer->gate_up->args, layer->down->args, layer->num_experts);
  layer->configs->take_block_size(block_size);
  layer->configs->check_kernels();
  layer->configs->take_tuned(tuning);
}

static void take_experts(Layer* layer, ffi::AnyView num_experts, ffi::AnyView expert_map) {
  const int local = layer->gate_up->args.num_experts;
  layer->num_experts = num_experts == nullptr ? local : to_int("num_experts", num_experts);
  if (expert_map == nullptr) {
    if (layer->num_experts == local) return;
    refuse("num_experts", std::to_string(layer->num_experts),
           std::to_string(local) + ", as the weights have, where there is no expert_map");
  }
  if (num_experts == nullptr) refuse("num_experts", "None", "the experts of all devices");
  if (layer->num_experts < local) {
    refuse("num_experts", std::to_string(layer->num_experts),
           "at least " + std::to_string(local) + ", as the weights have");
  }
  layer->expert_map =
      take("expert_map", expert_map, {kInt32}, {layer->num_experts}, "(num_experts,)");
  layer->expert_map_owner = expert_map.cast<ffi::Tensor>();
  Call("gate_up", layer->gate_up->b).here("expert_map", layer->expert_map);
}

static ffi::Function moe_layer(ffi::AnyView gate_up, ffi::AnyView down, ffi::AnyView num_experts,
                               ffi::AnyView expert_map, ffi::AnyView block_size,
                               ffi::AnyView weight_input, ffi::AnyView activation,
                               ffi::AnyView interleaved, ffi::AnyView alpha, ffi::AnyView limit,
                               ffi::AnyView tuning) {
  auto layer = std::make_shared<Layer>();
  layer->gate_up = to_weights("gate_up", gate_up);
  layer->down = to_weights("down", down);
  layer->activation = take_activation(activation, interleaved, alpha, limit, true);
  check_pair(*layer);
  take_experts(layer.get(), num_experts, expert_map);
  layer->weight_input = to_bool("apply_router_weight_on_input", weight_input);
  if (layer->weight_input && layer->gate_up->args.bias != nullptr) {
    refuse("apply_router_weight_on_input", "True",
           "False where gate_up has a bias, which the weight would multiply as well");
  }
  take_configs(layer.get(), block_size, tuning);
  return ffi::Function::FromTyped(
      [layer](ffi::AnyView x, ffi::AnyView topk_weights, ffi::AnyView topk_ids, ffi::AnyView out) {
        return run_layer(*layer, x, topk_weights, topk_ids, out);
      });
}

// The block size that calls of a layer have.
static int layer_block_size(ffi::AnyView gate_up, ffi::AnyView down, ffi::AnyView num_experts,
                            ffi::AnyView block_size, ffi::AnyView tuning, ffi::AnyView rows,
                            ffi::AnyView top_k) {
  const auto first = to_weights("gate_up", gate_up), second = to_weights("down", down);
  Call call("gate_up", first->b);
  call.stream();
  const int experts =
      num_experts == nullptr ? first->args.num_experts : to_int("num_experts", num_experts);
  LayerConfigs configs(first->args, second->args, experts);
  configs.take_block_size(block_size);
  configs.take_tuned(tuning);
  const auto positive = [](const char* name, ffi::AnyView given) {
    const int number = to_int(name, given);
    if (number < 1) refuse(name, std::to_string(number), "1 or more");
    return number;
  };
  return configs.get(positive("tokens", rows), positive("top_k", top_k)).block_size;
}

}  // namespace binding
}  // namespace marlin_moe

TVM_FFI_DLL_EXPORT_TYPED_FUNC(layer_block_size, marlin_moe::binding::layer_block_size)
TVM_FFI_DLL_EXPORT_TYPED_FUNC(moe_layer, marlin_moe::binding::moe_layer)
