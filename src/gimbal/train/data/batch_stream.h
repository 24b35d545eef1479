// The steps of a rank with their batches, prepared ahead of time.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "gimbal/config/recipe.h"
#include "gimbal/tensor/prefetch.h"
#include "gimbal/train/data/step_plan.h"

namespace gimbal {

/// Planning and reading both run ahead in the prefetcher's threads; the trainer takes a plan, then
/// its batches, step by step.
class BatchStream {
 public:
  /// Starts at `position` and gives `num_steps` steps; `tiles`, `target`: as for Prefetcher. The
  /// references must outlive the stream.
  BatchStream(const Dataset& dataset, const ImageProcessor& processor, StepPlanner& planner,
              Position position, std::int64_t num_steps, const DataConfig& config,
              TileChoice tiles = all_tiles, const at::Device& target = at::kCPU);

  /// The next step's plan; its batches follow by next_batch, one per micro-batch.
  StepPlan next_plan();
  Batch next_batch();
  double take_wait_seconds() { return prefetcher_->take_wait_seconds(); }

 private:
  bool next_request(std::vector<std::uint32_t>& samples);

  StepPlanner& planner_;
  Position position_;
  std::int64_t steps_left_;
  std::size_t next_micro_batch_ = 0;
  std::vector<std::vector<std::uint32_t>> requests_;

  std::mutex mutex_;
  std::deque<StepPlan> plans_;
  Batch pending_;
  bool has_pending_ = false;
  std::unique_ptr<Prefetcher> prefetcher_;  // last: its threads use the members above
};

}  // namespace gimbal
