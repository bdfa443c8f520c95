#include "configs.h"

#include <tvm/ffi/container/array.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>

namespace marlin_moe {
namespace binding {

std::optional<MoeGemmConfig> take_config(const char* name, ffi::AnyView given) {
  if (given == nullptr) return {};
  const auto numbers = given.try_cast<ffi::Array<ffi::Any>>();
  if (!numbers || numbers->size() != 6) {
    refuse(name, describe(given),
           "(thread_k, thread_n, threads, blocks_per_sm, stripe_slack, gather_first)");
  }
  const auto number = [&](const char* field, std::int64_t i) {
    return to_int((std::string(name) + "." + field).c_str(), (*numbers)[i]);
  };
  return MoeGemmConfig{number("thread_k", 0),     number("thread_n", 1),
                       number("threads", 2),      number("blocks_per_sm", 3),
                       number("stripe_slack", 4), number("gather_first", 5)};
}

void LayerConfigs::take_block_size(ffi::AnyView given) {
  if (given == nullptr) return;
  block_size_ = to_int("block_size", given);
  if (block_size_ < 1) {
    refuse("block_size", std::to_string(block_size_), "None, or a multiple of 8 from 8 on");
  }
}

void LayerConfigs::check_kernels() const {
  for (const auto& [step, weights] : {std::pair{"gate_up", gate_up_}, std::pair{"down", down_}}) {
    MoeGemmArgs args = weights;
    args.m = 1;
    args.block_size = block_size_ > 0 ? block_size_ : 16;
    MoeGemmConfig config;
    check(moe_gemm_choose_config(args, &config), step);
  }
}

void LayerConfigs::take_tuned(ffi::AnyView given) {
  if (given == nullptr) return;
  const auto entries = given.try_cast<ffi::Array<ffi::Array<ffi::Any>>>();
  if (!entries) refuse("tuning", describe(given), "None, or what tune() has written");
  for (const ffi::Array<ffi::Any>& entry : *entries) {
    if (entry.size() != 5) refuse("tuning", describe(entry), "lists of five parts");
    const auto part = [&](std::int64_t i) { return entry[i]; };
    const Tuned tuned{to_int("tuning.tokens", part(0)),
                      to_int("tuning.top_k", part(1)),
                      {to_int("tuning.block_size", part(2)), take_config("tuning.gate_up", part(3)),
                       take_config("tuning.down", part(4))}};
    check_tuned(tuned);
    tuned_.push_back(tuned);
  }
}

void LayerConfigs::check_tuned(const Tuned& tuned) const {
  MoeGemmArgs gate_up = gate_up_, down = down_;
  gate_up.m = tuned.rows;
  gate_up.top_k = tuned.top_k;
  down.m = tuned.rows * tuned.top_k;
  for (const auto& [step, args, config] :
       {std::tuple{"tuning: gate_up", gate_up, tuned.config.gate_up},
        std::tuple{"tuning: down", down, tuned.config.down}}) {
    MoeGemmArgs asked = args;
    asked.block_size = tuned.config.block_size;
    std::size_t bytes = 0;
    check(moe_gemm_workspace_size(asked, &bytes, config ? &*config : nullptr), step);
  }
}

// The entry whose number of rows is the closest, as a ratio.
const LayerConfigs::Tuned* LayerConfigs::nearest(int rows, int top_k) const {
  const Tuned* best = nullptr;
  const auto distance = [&](const Tuned& tuned) {
    return std::abs(std::log2(static_cast<double>(tuned.rows) / rows));
  };
  for (const Tuned& tuned : tuned_) {
    if (tuned.top_k != top_k) continue;
    if (best == nullptr || distance(tuned) < distance(*best)) best = &tuned;
  }
  return best;
}

// Whether both GEMMs have kernels for a block size.
bool LayerConfigs::has_kernels(int block_size) const {
  MoeGemmArgs gate_up = gate_up_, down = down_;
  gate_up.block_size = down.block_size = block_size;
  gate_up.m = down.m = 1;
  MoeGemmConfig config;
  return moe_gemm_choose_config(gate_up, &config).ok() &&
         moe_gemm_choose_config(down, &config).ok();
}

// As the device's kernels for GEMM 1 have it, or those for GEMM 2.
int LayerConfigs::choose_block_size(int rows, int top_k) const {
  MoeGemmArgs gate_up = gate_up_, down = down_;
  gate_up.m = rows;
  gate_up.top_k = top_k;
  down.m = rows * top_k;
  for (MoeGemmArgs asked : {gate_up, down}) {
    asked.num_experts = num_experts_;
    int size = 0;
    if (moe_gemm_block_size(asked, &size).ok() && has_kernels(size)) return size;
  }
  return moe_gemm_block_size(rows, num_experts_, top_k, gate_up_.a_type);
}

LayerConfig LayerConfigs::choose(int rows, int top_k) const {
  if (block_size_ > 0) return {block_size_, {}, {}};
  const Tuned* tuned = nearest(rows, top_k);
  if (tuned != nullptr) return tuned->config;
  return {choose_block_size(rows, top_k), {}, {}};
}

LayerConfig LayerConfigs::get(int rows, int top_k) {
  constexpr std::size_t kMost = 4096;
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::pair<int, int> key{rows, top_k};
  const auto found = chosen_.find(key);
  if (found != chosen_.end()) return found->second;
  if (chosen_.size() >= kMost) chosen_.clear();
  return chosen_[key] = choose(rows, top_k);
}

}  // namespace binding
}  // namespace marlin_moe
