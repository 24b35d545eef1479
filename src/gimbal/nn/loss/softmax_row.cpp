#include "gimbal/nn/loss/softmax_row.h"

#include <algorithm>
#include <limits>

#include "gimbal/nn/ops/simd.h"

namespace gimbal {
namespace {

// In one pass over the cache-warm row each.
GIMBAL_SIMD_CLONES void run_softmax_row(float* logits, std::int64_t size, float& largest,
                                        float& sum) {
  float top[simd::kLanes];
  for (float& lane : top) lane = -std::numeric_limits<float>::infinity();
  std::int64_t i = 0;
  for (; i + simd::kLanes <= size; i += simd::kLanes)
    for (int j = 0; j < simd::kLanes; ++j) top[j] = logits[i + j] > top[j] ? logits[i + j] : top[j];
  largest = -std::numeric_limits<float>::infinity();
  for (; i < size; ++i) largest = std::max(largest, logits[i]);
  for (const float lane : top) largest = std::max(largest, lane);

  float lanes[simd::kLanes] = {};
  for (i = 0; i + simd::kLanes <= size; i += simd::kLanes)
    for (int j = 0; j < simd::kLanes; ++j) {
      const float e = simd::exp(logits[i + j] - largest);
      logits[i + j] = e;
      lanes[j] += e;
    }
  sum = 0;
  for (; i < size; ++i) {
    logits[i] = simd::exp(logits[i] - largest);
    sum += logits[i];
  }
  for (const float lane : lanes) sum += lane;
}

}  // namespace

SoftmaxRow start_softmax_row(float* logits, std::int64_t size) {
  SoftmaxRow row;
  run_softmax_row(logits, size, row.largest, row.sum);
  return row;
}

}  // namespace gimbal
