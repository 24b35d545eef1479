#include "gimbal/sim/step.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/sim/pipeline_run.h"
#include "gimbal/sim/rank_state.h"
#include "gimbal/sim/reduction.h"
#include "gimbal/sim/stage_costs.h"

namespace gimbal {
namespace {

/// Static bytes per rank: rank_state, and the buffers of messages of the largest micro-batch.
std::vector<Bytes> step_static_bytes(const CostModel& costs, const StageLayout& layout,
                                     const Schedule& schedule, std::span<const WorkSize> work) {
  const auto ranks = static_cast<std::size_t>(schedule.num_ranks);
  std::vector<std::vector<BlockSpan>> spans(ranks);
  for (std::size_t stage = 0; stage < layout.num_stages(); ++stage)
    spans[stage % ranks].push_back({layout.stage_begin[stage], layout.stage_begin[stage + 1]});
  std::vector<Bytes> before(ranks, 0), after(ranks, 0);
  for (std::size_t stage = 0; stage + 1 < layout.num_stages(); ++stage) {
    for (const WorkSize& w : work) {
      const Bytes message = costs.cut_bytes(layout.stage_begin[stage + 1] - 1, w);
      after[stage % ranks] = std::max(after[stage % ranks], message);
      before[(stage + 1) % ranks] = std::max(before[(stage + 1) % ranks], message);
    }
  }
  std::vector<Bytes> bytes;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    bytes.push_back(rank_state(costs, spans[rank], schedule.num_micro_batches).total() +
                    message_buffer_bytes(before[rank], after[rank], schedule.num_ranks));
  }
  return bytes;
}

WorkSize mean_work(std::span<const WorkSize> work) {
  WorkSize sum;
  for (const WorkSize& w : work) sum = sum + w;
  return (1.0 / static_cast<double>(work.size())) * sum;
}

bool gathers_once(const CostModel& costs) {
  if (costs.settings().shard_policy != ShardPolicy::kKeepWeights) return false;
  for (std::size_t b = 0; b < costs.num_blocks(); ++b) {
    if (costs.gather_seconds(b) > 0) return true;
  }
  return false;
}

class StepSimulator {
 public:
  explicit StepSimulator(const StepInput& input);
  StepSimulation run();

 private:
  /// Costs of all stages for the micro-batches of one data-parallel rank.
  void evaluate(std::span<const WorkSize> micro_batches);
  void set_earliest_starts();
  void run_equal(bool with_messages);
  void account(Seconds last_end, StepTime& time);

  const StepInput& input_;
  const CostModel& costs_;
  const StageLayout& layout_;
  const Schedule& schedule_;
  std::size_t num_stages_, micro_batches_, data_parallel_;
  StageCosts stages_;
  PipelineRun pipeline_;
  bool gather_once_;
  std::vector<StageWork> work_;    // [num_stages * micro_batches], of one rank
  std::vector<Seconds> messages_;  // the same
  std::vector<Seconds> earliest_;  // [num_stages], or empty
  // Sums over data-parallel ranks.
  StageCosts::Sums sums_;
  StageWork all_work_;  // and over all stages and micro-batches
  Seconds all_messages_ = 0;
  std::vector<Seconds> all_earliest_;
  std::vector<Seconds> stage_seconds_;
  Seconds busy_ = 0;  // of the mean rank of each pipeline
};

StepSimulator::StepSimulator(const StepInput& input)
    : input_(input),
      costs_(*input.costs),
      layout_(*input.layout),
      schedule_(*input.schedule),
      num_stages_(layout_.num_stages()),
      micro_batches_(static_cast<std::size_t>(schedule_.num_micro_batches)),
      data_parallel_(input.micro_batches.size() / micro_batches_),
      stages_(costs_, layout_, 0, num_stages_),
      pipeline_(schedule_),
      gather_once_(gathers_once(costs_)),
      work_(num_stages_ * micro_batches_),
      messages_(num_stages_ * micro_batches_, 0),
      earliest_(gather_once_ ? num_stages_ : 0, 0),
      all_earliest_(earliest_),
      stage_seconds_(num_stages_, 0) {
  GIMBAL_CHECK_EQ(num_stages_, static_cast<std::size_t>(schedule_.num_stages));
  GIMBAL_CHECK(data_parallel_ > 0 && data_parallel_ * micro_batches_ == input.micro_batches.size(),
               "", input.micro_batches.size(), " micro-batches do not make whole ranks of ",
               micro_batches_);
}

void StepSimulator::evaluate(std::span<const WorkSize> micro_batches) {
  for (std::size_t m = 0; m < micro_batches_; ++m) {
    stages_.evaluate(micro_batches[m]);
    const StageCosts::Sums sums = stages_.sums();
    sums_.compute += sums.compute;
    sums_.recompute += sums.recompute;
    sums_.communication += sums.communication;
    if (m == 0 && gather_once_) set_earliest_starts();
    for (std::size_t stage = 0; stage < num_stages_; ++stage) {
      const StageWork work = stages_.stage_work(stage);
      work_[stage * micro_batches_ + m] = work;
      all_work_.forward += work.forward;
      all_work_.backward += work.backward;
      all_work_.backward_input += work.backward_input;
      all_work_.backward_weight += work.backward_weight;
      stage_seconds_[stage] += work.forward + work.backward;
      if (stage + 1 == num_stages_) continue;
      const Seconds message = costs_.send_seconds(work.send);
      messages_[stage * micro_batches_ + m] = message;
      all_messages_ += message;
    }
  }
}

void StepSimulator::set_earliest_starts() {
  std::vector<Seconds> gather_clocks(schedule_.ranks.size(), 0);
  for (std::size_t stage = 0; stage < num_stages_; ++stage) {
    Seconds& clock = gather_clocks[stage % gather_clocks.size()];
    earliest_[stage] = stages_.earliest_forward(stage, clock);
    all_earliest_[stage] += earliest_[stage];
  }
}

StepSimulation StepSimulator::run() {
  StepSimulation result;
  const std::size_t num_ranks = schedule_.ranks.size();
  const std::vector<Bytes> fixed =
      step_static_bytes(costs_, layout_, schedule_, input_.micro_batches);
  result.peak_bytes.assign(num_ranks, 0);
  std::vector<PipelineRun::Interval> last_backward;
  last_backward.reserve(data_parallel_ * num_stages_);
  Seconds last_end = 0;
  for (std::size_t d = 0; d < data_parallel_; ++d) {
    evaluate(input_.micro_batches.subspan(d * micro_batches_, micro_batches_));
    const PipelineCosts costs{work_, messages_, earliest_};
    if (input_.keep_pipelines) {
      result.pipelines.push_back(run_in_full(pipeline_, schedule_, costs, fixed));
    } else {
      pipeline_.run(costs);
    }
    last_end = std::max(last_end, pipeline_.seconds());
    busy_ += pipeline_.mean_busy();
    last_backward.insert(last_backward.end(), pipeline_.last_backward().begin(),
                         pipeline_.last_backward().end());
    for (std::size_t rank = 0; rank < num_ranks; ++rank) {
      result.peak_bytes[rank] =
          std::max(result.peak_bytes[rank], fixed[rank] + pipeline_.ranks()[rank].peak);
    }
  }
  const auto cells = static_cast<double>(input_.micro_batches.size());
  for (const Seconds seconds : stage_seconds_) result.stage_seconds.push_back(seconds / cells);

  stages_.evaluate(mean_work(input_.micro_batches));
  Seconds reduced = last_end;
  for (const Seconds end : reduction_ends(costs_, layout_, schedule_, stages_, last_backward)) {
    reduced = std::max(reduced, end);
  }
  std::vector<Seconds> update(num_ranks, 0);
  for (std::size_t stage = 0; stage < num_stages_; ++stage) {
    for (std::size_t b = layout_.stage_begin[stage]; b < layout_.stage_begin[stage + 1]; ++b) {
      update[stage % num_ranks] += costs_.optimizer_seconds(b);
    }
  }
  const Seconds overhead = costs_.profile().step_overhead;
  StepTime& time = result.time;
  time.seconds = reduced + *std::max_element(update.begin(), update.end()) + overhead;
  time.communication = reduced - last_end;
  time.compute = overhead;
  for (const Seconds seconds : update) time.compute += seconds / static_cast<double>(num_ranks);
  account(last_end, time);
  return result;
}

void StepSimulator::run_equal(bool with_messages) {
  const double cells = static_cast<double>(work_.size() * data_parallel_);
  StageWork mean;
  mean.forward = all_work_.forward / cells;
  mean.backward = all_work_.backward / cells;
  mean.backward_input = all_work_.backward_input / cells;
  mean.backward_weight = all_work_.backward_weight / cells;
  std::fill(work_.begin(), work_.end(), mean);
  const double cuts = cells - static_cast<double>(micro_batches_ * data_parallel_);
  const Seconds message = with_messages && cuts > 0 ? all_messages_ / cuts : 0;
  std::fill(messages_.begin(), messages_.end(), message);
  for (std::size_t stage = 0; stage < earliest_.size(); ++stage) {
    earliest_[stage] =
        with_messages ? all_earliest_[stage] / static_cast<double>(data_parallel_) : 0;
  }
  pipeline_.run({work_, messages_, earliest_});
}

void StepSimulator::account(Seconds last_end, StepTime& time) {
  const auto pipelines = static_cast<double>(data_parallel_);
  const double ranks = pipelines * static_cast<double>(schedule_.ranks.size());
  const Seconds busy = busy_ / pipelines;
  time.compute += sums_.compute / ranks;
  time.recompute = sums_.recompute / ranks;
  // What stages take longer than their blocks are gathers that nothing hides.
  const Seconds blocks = (sums_.compute + sums_.recompute + sums_.communication) / ranks;
  time.communication += sums_.communication / ranks + std::max(0.0, busy - blocks);

  run_equal(false);
  const Seconds without_messages = pipeline_.seconds();
  time.bubble = std::max(0.0, without_messages - pipeline_.mean_busy());
  run_equal(true);
  Seconds waits = pipeline_.seconds() - without_messages;
  // Unlike stages and micro-batches can be faster than equal ones, as when the last stages, which
  // fill the pipeline last, are short.
  const Seconds rest = (last_end - busy) - time.bubble - waits;
  if (rest < 0) {
    const Seconds bubble = std::max(0.0, time.bubble + rest);
    waits = std::max(0.0, waits + (rest + time.bubble - bubble));
    time.bubble = bubble;
  }
  time.communication += waits;
  time.imbalance = std::max(
      0.0, time.seconds - time.compute - time.recompute - time.communication - time.bubble);
}

}  // namespace

StageWork stage_work(const CostModel& costs, const StageLayout& layout, std::size_t stage,
                     const WorkSize& work) {
  StageCosts stages(costs, layout, stage, stage + 1);
  stages.evaluate(work);
  return stages.stage_work(0);
}

StepSimulation simulate_step(const StepInput& input) {
  GIMBAL_CHECK(input.costs != nullptr && input.layout != nullptr && input.schedule != nullptr);
  GIMBAL_CHECK(input.schedule->num_micro_batches > 0);
  return StepSimulator(input).run();
}

}  // namespace gimbal
