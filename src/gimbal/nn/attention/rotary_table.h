// Angles of the rotary embedding with its scaling variants, as transformers computes them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "gimbal/nn/attention/rotary.h"

namespace gimbal {

enum class RotaryScaling { kDefault, kLinear, kDynamic, kYarn, kLlama3 };

/// The settings of a model folder (keys of `rope_parameters`, or `rope_theta` and `rope_scaling`).
struct RotarySettings {
  RotaryScaling scaling = RotaryScaling::kDefault;
  double theta = 10000;
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;               // max_position_embeddings
  double factor = 1;                            // linear, dynamic, yarn, llama3
  double original_max_positions = 0;            // yarn, llama3
  std::optional<double> attention_factor = {};  // yarn
  std::optional<double> mscale = {}, mscale_all_dim = {};
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
};

/// [H / 2] float32 angles per position, for sequences of `length` tokens (only dynamic scaling
/// depends on it: NTK-aware interpolation).
at::Tensor inverse_frequencies(const RotarySettings& settings, std::int64_t length);
/// What cosines and sines are multiplied with (YaRN, Peng et al. 2023; 1 for the others).
double attention_factor(const RotarySettings& settings);

/// Cosines and sines of all positions that have been asked for; shared by the layers of a model.
/// Safe from several threads.
class RotaryTable {
 public:
  explicit RotaryTable(RotarySettings settings) : settings_(settings) {}

  /// Angles for packed tokens with these positions. `lengths[i]` is the length of the sequence of
  /// segment i, cached tokens included: positions are below it. `dtype` is that of the rows to
  /// rotate.
  RotaryAngles angles(const at::Tensor& positions_T, const std::vector<std::int64_t>& cu_seqlens,
                      const std::vector<std::int64_t>& lengths, at::ScalarType dtype) const;

 private:
  RotaryAngles table(std::int64_t num_positions, const at::Device& device,
                     at::ScalarType dtype) const;
  RotaryAngles per_segment(const at::Tensor& positions_T,
                           const std::vector<std::int64_t>& cu_seqlens,
                           const std::vector<std::int64_t>& lengths, at::ScalarType dtype) const;

  RotarySettings settings_;
  mutable std::mutex mutex_;
  mutable RotaryAngles cached_;  // rows_T undefined
};

}  // namespace gimbal
