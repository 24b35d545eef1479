#include "gimbal/sim/pipeline_run.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr Seconds kNotYet = -1;

Seconds action_seconds(const StageWork& work, ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward:
      return work.forward;
    case ActionKind::kBackward:
      return work.backward;
    case ActionKind::kBackwardInput:
      return work.backward_input;
    case ActionKind::kBackwardWeight:
      return work.backward_weight;
  }
  return 0;
}

}  // namespace

PipelineRun::PipelineRun(const Schedule& schedule, bool overlap_sends)
    : schedule_(schedule),
      overlap_sends_(overlap_sends),
      num_cells_(static_cast<std::size_t>(schedule.num_stages) *
                 static_cast<std::size_t>(schedule.num_micro_batches)),
      arrival_(2 * num_cells_),
      states_(schedule.ranks.size()),
      totals_(schedule.ranks.size()),
      last_backward_(static_cast<std::size_t>(schedule.num_stages)) {
  GIMBAL_CHECK_EQ(schedule.ranks.size(), static_cast<std::size_t>(schedule.num_ranks));
  runnable_.reserve(schedule.ranks.size());
}

Seconds PipelineRun::seconds() const {
  Seconds latest = 0;
  for (const RankTotals& rank : totals_) latest = std::max(latest, rank.end);
  return latest;
}

Seconds PipelineRun::mean_busy() const {
  Seconds sum = 0;
  for (const RankTotals& rank : totals_) sum += rank.busy;
  return sum / static_cast<double>(totals_.size());
}

void PipelineRun::reset() {
  const auto micro_batches = static_cast<std::ptrdiff_t>(schedule_.num_micro_batches);
  std::fill(arrival_.begin(), arrival_.end(), kNotYet);
  std::fill(arrival_.begin(), arrival_.begin() + micro_batches, 0.0);  // the first stage's: data
  std::fill(states_.begin(), states_.end(), RankState{});
  std::fill(totals_.begin(), totals_.end(), RankTotals{});
  std::fill(last_backward_.begin(), last_backward_.end(), Interval{});
  runnable_.clear();
  for (int rank = schedule_.num_ranks - 1; rank >= 0; --rank) runnable_.push_back(rank);
}

void PipelineRun::run(const PipelineCosts& costs, std::vector<std::vector<ActionTimes>>* tables) {
  GIMBAL_CHECK_EQ(costs.work.size(), num_cells_);
  GIMBAL_CHECK_EQ(costs.messages.size(), num_cells_);
  GIMBAL_CHECK(costs.earliest_start.empty() ||
               costs.earliest_start.size() == last_backward_.size());
  reset();
  if (tables != nullptr) {
    tables->resize(schedule_.ranks.size());
    for (std::size_t rank = 0; rank < tables->size(); ++rank) {
      (*tables)[rank].clear();
      (*tables)[rank].reserve(schedule_.ranks[rank].size());
    }
  }
  // Every rank goes on until it waits; the message that it waits for makes it runnable again. The
  // order in which ranks are taken up changes nothing, as each link has one sender.
  while (!runnable_.empty()) {
    const int rank = runnable_.back();
    runnable_.pop_back();
    advance(rank, costs, tables);
  }
  for (std::size_t rank = 0; rank < states_.size(); ++rank) {
    GIMBAL_CHECK(states_[rank].position == schedule_.ranks[rank].size(), "schedule ",
                 schedule_.name, " cannot run to its end: rank ", rank, " waits at action ",
                 states_[rank].position);
  }
}

void PipelineRun::advance(int rank, const PipelineCosts& costs,
                          std::vector<std::vector<ActionTimes>>* tables) {
  const auto r = static_cast<std::size_t>(rank);
  const std::vector<Action>& actions = schedule_.ranks[r];
  const auto micro_batches = static_cast<std::size_t>(schedule_.num_micro_batches);
  RankState& state = states_[r];
  RankTotals& totals = totals_[r];
  for (; state.position < actions.size(); ++state.position) {
    const Action& action = actions[state.position];
    const auto stage = static_cast<std::size_t>(action.stage);
    const std::size_t cell = stage * micro_batches + static_cast<std::size_t>(action.micro_batch);
    const StageWork& work = costs.work[cell];
    const bool forward = action.kind == ActionKind::kForward;
    Seconds start = state.free;
    if (action.kind != ActionKind::kBackwardWeight) {
      const std::size_t input = forward ? cell : num_cells_ + cell;
      if (arrival_[input] < 0) {
        state.waiting_for = static_cast<std::int64_t>(input);
        return;
      }
      start = std::max(start, arrival_[input]);
    }
    if (forward && !costs.earliest_start.empty()) {
      start = std::max(start, costs.earliest_start[stage]);
    }
    const Seconds seconds = action_seconds(work, action.kind);
    const Seconds end = start + seconds;
    totals.busy += seconds;
    totals.end = end;
    state.free = end;

    if (forward) state.held += work.saved;
    const Bytes now = state.held + (forward ? work.forward_workspace : work.backward_workspace);
    if (now > totals.peak) {
      totals.peak = now;
      totals.peak_action = state.position;
    }
    if (action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight) {
      state.held -= work.saved;
      last_backward_[stage] = {start, end};
    }
    if (tables != nullptr) (*tables)[r].push_back({action, start, end, now, state.held});

    if (forward && action.stage + 1 == schedule_.num_stages) {
      arrival_[num_cells_ + cell] = end;  // the loss is there
    } else if (forward) {
      send(rank, action.stage + 1, cell, true, end, costs);
    } else if (action.kind != ActionKind::kBackwardWeight && action.stage > 0) {
      send(rank, action.stage - 1, cell - micro_batches, false, end, costs);
    }
  }
}

void PipelineRun::send(int rank, int stage_to, std::size_t message, bool forward, Seconds end,
                       const PipelineCosts& costs) {
  const auto r = static_cast<std::size_t>(rank);
  // A gradient goes to the cell that its message came from; an input to the cell one stage on.
  const std::size_t input = forward
                                ? message + static_cast<std::size_t>(schedule_.num_micro_batches)
                                : num_cells_ + message;
  Seconds arrival = end;
  if (schedule_.num_ranks > 1) {
    // With two ranks the next one is also the one before: one link.
    Seconds& link_free = states_[r].link_free[forward || schedule_.num_ranks == 2 ? 0 : 1];
    arrival = std::max(end, link_free) + costs.messages[message];
    link_free = arrival;
    if (!overlap_sends_) {
      totals_[r].send_wait += arrival - end;
      states_[r].free = arrival;
    }
  }
  arrival_[input] = arrival;
  const int rank_to = schedule_.rank_of(stage_to);
  RankState& receiver = states_[static_cast<std::size_t>(rank_to)];
  if (receiver.waiting_for == static_cast<std::int64_t>(input)) {
    receiver.waiting_for = -1;
    runnable_.push_back(rank_to);
  }
}

}  // namespace gimbal
