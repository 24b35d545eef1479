// The pass over a row of logits that every softmax with a loss begins with.
#pragma once

#include <cstdint>

namespace gimbal {

/// The largest of a row's logits, and the sum of exp(logit - largest).
struct SoftmaxRow {
  float largest = 0;
  float sum = 0;
};

/// The logits become exp(logit - largest). A row without logits has -infinity and 0.
SoftmaxRow start_softmax_row(float* logits, std::int64_t size);

}  // namespace gimbal
