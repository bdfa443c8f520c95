// What GEMMs and layers are launched with: configurations that callers give, and those chosen.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "arguments.h"
#include "marlin_moe/moe_gemm.h"

namespace marlin_moe {
namespace binding {

// Takes a configuration: None, or the six numbers of a MoeGemmConfig.
std::optional<MoeGemmConfig> take_config(const char* name, ffi::AnyView given);

// What one call of a layer is launched with; no configuration: the library's choice.
struct LayerConfig {
  int block_size = 0;
  std::optional<MoeGemmConfig> gate_up;
  std::optional<MoeGemmConfig> down;
};

// The configurations of one layer, by rows and choices of a token: to choose takes longer than to
// launch, so what was chosen is kept. The layer's device has to be the current one.
class LayerConfigs {
 public:
  // `num_experts` are those of all devices.
  LayerConfigs(const MoeGemmArgs& gate_up, const MoeGemmArgs& down, int num_experts)
      : gate_up_(gate_up), down_(down), num_experts_(num_experts) {}

  // Takes the caller's block size for all calls; None: it is chosen.
  void take_block_size(ffi::AnyView given);

  // Takes what was measured: None, or a list of [rows, top_k, block_size, config of gate_up, config
  // of down]. Refuses configurations that have no kernel here.
  void take_tuned(ffi::AnyView given);

  LayerConfig get(int rows, int top_k);

  // Fails unless there are kernels for both GEMMs.
  void check_kernels() const;

 private:
  struct Tuned {
    int rows, top_k;
    LayerConfig config;
  };

  LayerConfig choose(int rows, int top_k) const;
  const Tuned* nearest(int rows, int top_k) const;
  bool has_kernels(int block_size) const;
  int choose_block_size(int rows, int top_k) const;
  void check_tuned(const Tuned& tuned) const;

  MoeGemmArgs gate_up_;
  MoeGemmArgs down_;
  int num_experts_;
  int block_size_ = 0;
  std::vector<Tuned> tuned_;
  std::mutex mutex_;
  std::map<std::pair<int, int>, LayerConfig> chosen_;
};

}  // namespace binding
}  // namespace marlin_moe
