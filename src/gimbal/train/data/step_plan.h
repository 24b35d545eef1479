// Who runs what in a step: computed by every rank alike from the index, without a message.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/balance/sampler.h"
#include "gimbal/data/dataset.h"

namespace gimbal {

/// Place in the global order.
struct Position {
  std::uint64_t epoch = 0;
  std::uint64_t step_in_epoch = 0;
};

/// What one rank has to do in a step.
struct RankLoad {
  double cost = 0;
  std::uint64_t samples = 0;
  std::uint64_t tokens = 0;
  std::uint64_t loss_tokens = 0;
  std::uint64_t vision_rows = 0;
  std::uint64_t media = 0;
  WorkSize work;
};

struct StepPlan {
  Position position;
  Position next;              // where the following step is
  std::size_t data_rank = 0;  // of the rank that planned
  // The samples of each micro-batch of every data rank, in order; each rank has at least one
  // micro-batch, which may be empty.
  std::vector<std::vector<std::vector<std::uint32_t>>> all_micro_batches;
  std::vector<RankLoad> loads;    // of every data rank
  std::uint64_t loss_tokens = 0;  // of the whole step: the loss normaliser

  /// The micro-batches of `data_rank`.
  const std::vector<std::vector<std::uint32_t>>& micro_batches() const& {
    return all_micro_batches.at(data_rank);
  }
  void micro_batches() const&& = delete;  // they would not outlive the plan
  /// 1 - mean / max of the ranks' cost.
  double waste() const;
};

/// Rows of each sample in the streams text and vision, [N * 2].
std::vector<std::uint32_t> sample_rows(const Dataset& dataset);

/// What the balancer knows of the samples; `rows`, of sample_rows, must outlive it.
SampleSizes sample_sizes(std::span<const std::uint32_t> rows);

/// What the samples bring as one micro-batch.
WorkSize work_of_samples(const Dataset& dataset, std::span<const std::uint32_t> samples);

/// A micro-batch and where it is run.
struct PlacedBatch {
  std::uint64_t step_in_epoch = 0;
  int rank = 0;
  std::vector<std::uint32_t> samples;
  WorkSize work;
  double weight = 0;
};

/// Plans the steps of one rank.
class StepPlanner {
 public:
  /// `micro_batches`: as balance.micro_batches of the recipe. `rank` and `world_size` count data
  /// ranks. The references must outlive the planner.
  StepPlanner(const Dataset& dataset, SampleSizes sizes, SamplerOptions options,
              std::int64_t micro_batches, int rank, int world_size);

  /// Every data rank gets `pad`(most micro-batches of a data rank) micro-batches per step, with
  /// empty ones at the end: where all take part in the same collectives in each.
  void pad_micro_batches(std::function<std::size_t(std::size_t)> pad) { pad_ = std::move(pad); }

  /// Steps of an epoch. Packs the epoch when it is not the one at hand.
  std::uint64_t steps_in(std::uint64_t epoch) { return sampler_.epoch(epoch).num_steps(); }
  StepPlan plan(Position position);
  /// The micro-batch of the epoch, of all ranks, that weighs most; the first of equal ones.
  PlacedBatch heaviest_micro_batch(std::uint64_t epoch,
                                   const std::function<double(const WorkSize&)>& weigh);
  BalanceReport report(std::uint64_t epoch) {
    return sampler_.report(epoch, static_cast<std::uint64_t>(world_size_));
  }
  /// Mean of StepPlan::waste over the epoch's steps.
  double mean_waste(std::uint64_t epoch);
  /// Samples that are left out or have a pack of their own.
  const Screening& screening() const { return sampler_.screening(); }
  std::uint64_t patterns_fingerprint() { return sampler_.patterns()->fingerprint(); }

 private:
  void add_pack(RankLoad& load, std::span<const std::uint32_t> pack) const;
  /// The rank that runs pack `index` of a step.
  std::size_t owner_of_pack(std::uint64_t index) const;

  const Dataset& dataset_;
  SampleSizes sizes_;
  SamplerOptions options_;
  Sampler sampler_;
  std::int64_t micro_batches_;
  int rank_;
  int world_size_;
  std::function<std::size_t(std::size_t)> pad_;
};

}  // namespace gimbal
