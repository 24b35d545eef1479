#include "gimbal/train/data/batch_stream.h"

#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {

BatchStream::BatchStream(const Dataset& dataset, const ImageProcessor& processor,
                         StepPlanner& planner, Position position, std::int64_t num_steps,
                         const DataConfig& config, TileChoice tiles, const at::Device& target)
    : planner_(planner), position_(position), steps_left_(num_steps) {
  prefetcher_ = std::make_unique<Prefetcher>(
      dataset, processor, static_cast<int>(config.workers), static_cast<int>(config.prefetch_packs),
      [this](std::vector<std::uint32_t>& samples) { return next_request(samples); },
      std::move(tiles), target);
}

bool BatchStream::next_request(std::vector<std::uint32_t>& samples) {
  if (next_micro_batch_ == requests_.size()) {
    if (steps_left_ == 0) return false;
    StepPlan plan = planner_.plan(position_);
    position_ = plan.next;
    --steps_left_;
    requests_ = plan.micro_batches();
    next_micro_batch_ = 0;
    const std::lock_guard lock(mutex_);
    plans_.push_back(std::move(plan));
  }
  samples = requests_[next_micro_batch_++];
  return true;
}

StepPlan BatchStream::next_plan() {
  // The plan is queued before its first batch is requested, so that having the batch means having
  // the plan.
  GIMBAL_CHECK(!has_pending_, "next_plan before all batches of the step were taken");
  has_pending_ = prefetcher_->next(pending_);
  GIMBAL_CHECK(has_pending_, "no step is left");
  const std::lock_guard lock(mutex_);
  StepPlan plan = std::move(plans_.front());
  plans_.pop_front();
  return plan;
}

Batch BatchStream::next_batch() {
  if (has_pending_) {
    has_pending_ = false;
    return std::move(pending_);
  }
  Batch batch;
  GIMBAL_CHECK(prefetcher_->next(batch), "the step has no further batch");
  return batch;
}

}  // namespace gimbal
