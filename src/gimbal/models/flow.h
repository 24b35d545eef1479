// The tensors that are alive between two blocks: one per stream, plus side outputs.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

namespace gimbal {

/// This rank's rows of each stream: vision: [t, D] rows of the tiles; text: [t, D]; loss: 0-dim
/// float32 (float64 in float64 runs), the weighted sum of the token losses, set by the last block;
/// logits: set by the last block instead of loss when generating ([rows, V]). Undefined where a
/// stream does not exist.
struct Flow {
  at::Tensor vision;
  at::Tensor text;
  at::Tensor loss;
  at::Tensor logits;

  static constexpr int kNumTensors = 4;
  std::array<at::Tensor*, kNumTensors> tensors() { return {&vision, &text, &loss, &logits}; }
  std::array<const at::Tensor*, kNumTensors> tensors() const {
    return {&vision, &text, &loss, &logits};
  }
};

}  // namespace gimbal
