#include "gimbal/train/report/run_measurements.h"

#include <algorithm>

namespace gimbal {
namespace {

constexpr std::int64_t kTimedStepOnDevice = 10;

}  // namespace

void MeasuredTimes::add(const MeasuredTimes& other) {
  micro_batches += other.micro_batches;
  for (const auto& [name, time] : other.classes) {
    classes[name].forward += time.forward;
    classes[name].backward += time.backward;
  }
}

void MeasuredPeak::add(const MeasuredPeak& other) {
  predicted_activations = std::max(predicted_activations, other.predicted_activations);
  activations = std::max(activations, other.activations);
  total = std::max(total, other.total);
}

RunMeasurements::RunMeasurements(const ModelDesc& model, MemorySetting setting,
                                 const c10::Device& device, std::function<double()> clock)
    : model_(model),
      setting_(std::move(setting)),
      device_(device),
      block_clock_(device, std::move(clock)),
      meter_(device),
      blocks_(model.blocks.size()) {}

void RunMeasurements::begin_step() {
  if (steps_ == 1) {
    times_ = {};  // of the first step
    peak_ = {};
  }
  const std::int64_t bytes = meter_.current_bytes();
  held_bytes_ = steps_ < 2 ? bytes : std::min(held_bytes_, bytes);
  timing_ = device_.is_cpu() || steps_ < 2 || steps_ % kTimedStepOnDevice == 0;
  ++steps_;
  step_has_begun_ = false;
}

void RunMeasurements::begin_micro_batch() {
  // Later ones find weights that the step has gathered and gradients that it has made whole.
  if (!step_has_begun_) bytes_before_ = meter_.current_bytes();
  step_has_begun_ = true;
  meter_.reset_peak();
  std::ranges::fill(blocks_, MeasuredTimes::Class{});
}

void RunMeasurements::note(std::size_t block, bool backward, bool begin) {
  if (begin) block_clock_.switch_to(backward ? &blocks_[block].backward : &blocks_[block].forward);
}

void RunMeasurements::pause() {
  if (timing_) block_clock_.switch_to(nullptr);
}

void RunMeasurements::end_micro_batch(const WorkSize& work, std::uint64_t count) {
  if (timing_) block_clock_.switch_to(nullptr);
  const auto total = static_cast<double>(meter_.peak_bytes());
  peak_.add({peak_activation_bytes(model_, work, setting_),
             total - static_cast<double>(bytes_before_), total});
  if (!timing_ || work.text_rows == 0) return;
  MeasuredTimes times;
  times.micro_batches = count;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    MeasuredTimes::Class& sum = times.classes[model_.blocks[i].cost_class];
    sum.forward += blocks_[i].forward;
    sum.backward += blocks_[i].backward;
  }
  times_.add(times);
}

Json to_json(const MeasuredTimes& times) {
  Json classes = Json::object();
  for (const auto& [name, time] : times.classes)
    classes[name] = {{"forward", time.forward}, {"backward", time.backward}};
  return {{"micro_batches", times.micro_batches}, {"classes", std::move(classes)}};
}

Json to_json(const MeasuredPeak& peak) {
  return {{"predicted_activations", peak.predicted_activations},
          {"activations", peak.activations},
          {"total", peak.total}};
}

MeasuredTimes measured_times(const Json& json) {
  MeasuredTimes times;
  times.micro_batches = json.at("micro_batches").get<std::uint64_t>();
  for (const auto& [name, time] : json.at("classes").items())
    times.classes[name] = {time.at("forward").get<double>(), time.at("backward").get<double>()};
  return times;
}

MeasuredPeak measured_peak(const Json& json) {
  return {json.at("predicted_activations").get<double>(), json.at("activations").get<double>(),
          json.at("total").get<double>()};
}

}  // namespace gimbal
