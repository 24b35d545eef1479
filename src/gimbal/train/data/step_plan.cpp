#include "gimbal/train/data/step_plan.h"

#include <algorithm>
#include <string>

#include "gimbal/balance/arrange/split.h"
#include "gimbal/base/error.h"

namespace gimbal {

double StepPlan::waste() const {
  double sum = 0;
  double most = 0;
  for (const RankLoad& load : loads) {
    sum += load.cost;
    most = std::max(most, load.cost);
  }
  return most > 0 ? 1.0 - sum / (most * static_cast<double>(loads.size())) : 0.0;
}

std::vector<std::uint32_t> sample_rows(const Dataset& dataset) {
  std::vector<std::uint32_t> rows;
  rows.reserve(dataset.num_samples() * 2);
  for (const SampleRecord& record : dataset.samples()) {
    rows.push_back(record.num_tokens);
    rows.push_back(record.vision_rows);
  }
  return rows;
}

SampleSizes sample_sizes(std::span<const std::uint32_t> rows) {
  static const std::vector<std::string> kNames{"tokens", "vision rows"};
  return {rows, 2, {}, kNames};
}

WorkSize work_of_samples(const Dataset& dataset, std::span<const std::uint32_t> samples) {
  WorkSize work;
  for (const std::uint32_t sample : samples) {
    const SampleRecord& record = dataset.sample(sample);
    const double tokens = record.num_tokens;
    work.text_rows += tokens;
    work.text_pairs += tokens * tokens;
    work.loss_rows += record.num_loss_tokens;
    work.vision_rows += record.vision_rows;
  }
  return work;
}

StepPlanner::StepPlanner(const Dataset& dataset, SampleSizes sizes, SamplerOptions options,
                         std::int64_t micro_batches, int rank, int world_size)
    : dataset_(dataset),
      sizes_(sizes),
      options_(options),
      sampler_(sizes, std::move(options)),
      micro_batches_(micro_batches),
      rank_(rank),
      world_size_(world_size) {}

void StepPlanner::add_pack(RankLoad& load, std::span<const std::uint32_t> pack) const {
  for (const std::uint32_t sample : pack) {
    const SampleRecord& record = dataset_.sample(sample);
    load.cost += sample_cost(sizes_, sample, options_.costs);
    load.samples += 1;
    load.tokens += record.num_tokens;
    load.loss_tokens += record.num_loss_tokens;
    load.vision_rows += record.vision_rows;
    load.media += record.num_media;
  }
  load.work = load.work + work_of_samples(dataset_, pack);
}

std::size_t StepPlanner::owner_of_pack(std::uint64_t index) const {
  // Packs are sorted by cost: every other slot goes the other way, so that no rank always has the
  // dearer one.
  const auto ranks = static_cast<std::uint64_t>(world_size_);
  const std::uint64_t place = index % ranks;
  return (index / ranks) % 2 == 0 ? place : ranks - 1 - place;
}

PlacedBatch StepPlanner::heaviest_micro_batch(std::uint64_t epoch,
                                              const std::function<double(const WorkSize&)>& weigh) {
  const EpochOrder& order = sampler_.epoch(epoch);
  PlacedBatch heaviest;
  heaviest.weight = -1;
  for (std::uint64_t step = 0; step < order.num_steps(); ++step) {
    for (std::uint64_t i = 0; i < order.packs_in_step(step); ++i) {
      for (auto& part : split_pack(order.pack(step, i), micro_batches_, sizes_, options_.costs)) {
        const WorkSize work = work_of_samples(dataset_, part);
        const double weight = weigh(work);
        if (weight <= heaviest.weight) continue;
        heaviest = {step, static_cast<int>(owner_of_pack(i)), std::move(part), work, weight};
      }
    }
  }
  return heaviest;
}

double StepPlanner::mean_waste(std::uint64_t epoch) {
  const EpochOrder& order = sampler_.epoch(epoch);
  double sum = 0;
  StepPlan costs;  // of the loads nothing else is filled in
  for (std::uint64_t step = 0; step < order.num_steps(); ++step) {
    costs.loads.assign(static_cast<std::size_t>(world_size_), RankLoad{});
    for (std::uint64_t i = 0; i < order.packs_in_step(step); ++i) {
      for (const std::uint32_t sample : order.pack(step, i))
        costs.loads[owner_of_pack(i)].cost += sample_cost(sizes_, sample, options_.costs);
    }
    sum += costs.waste();
  }
  return order.num_steps() == 0 ? 0.0 : sum / static_cast<double>(order.num_steps());
}

StepPlan StepPlanner::plan(Position position) {
  const EpochOrder& order = sampler_.epoch(position.epoch);
  GIMBAL_CHECK(position.step_in_epoch < order.num_steps(), "step ", position.step_in_epoch,
               " of epoch ", position.epoch, " which has ", order.num_steps());
  StepPlan plan;
  plan.position = position;
  plan.data_rank = static_cast<std::size_t>(rank_);
  plan.loads.resize(static_cast<std::size_t>(world_size_));
  plan.all_micro_batches.resize(plan.loads.size());
  const std::uint64_t num_packs = order.packs_in_step(position.step_in_epoch);
  for (std::uint64_t i = 0; i < num_packs; ++i) {
    const auto pack = order.pack(position.step_in_epoch, i);
    const std::size_t owner = owner_of_pack(i);
    add_pack(plan.loads[owner], pack);
    for (auto& part : split_pack(pack, micro_batches_, sizes_, options_.costs))
      plan.all_micro_batches[owner].push_back(std::move(part));
  }
  std::size_t most = 1;
  for (auto& parts : plan.all_micro_batches) {
    // A rank without a pack still takes part in every collective of the step.
    if (parts.empty()) parts.emplace_back();
    most = std::max(most, parts.size());
  }
  if (pad_) {
    for (auto& parts : plan.all_micro_batches) parts.resize(pad_(most));
  }
  for (const RankLoad& load : plan.loads) plan.loss_tokens += load.loss_tokens;
  const bool last = position.step_in_epoch + 1 == order.num_steps();
  plan.next =
      last ? Position{position.epoch + 1, 0} : Position{position.epoch, position.step_in_epoch + 1};
  return plan;
}

}  // namespace gimbal
