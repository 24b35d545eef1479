#include "gimbal/parallel/pipeline.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/pipeline/pipeline_messages.h"
#include "gimbal/parallel/pipeline/receives_ahead.h"
#include "gimbal/schedule/text.h"

namespace gimbal {
namespace {

/// What `from` sends to other ranks, in its order.
std::vector<StageMessage> messages_sent(const Schedule& schedule, int from, bool forward_only) {
  std::vector<StageMessage> messages;
  for (const Action& action : schedule.ranks[static_cast<std::size_t>(from)]) {
    if (forward_only && action.kind != ActionKind::kForward) continue;
    if (const auto message = output_of(schedule, action)) messages.push_back(*message);
  }
  return messages;
}

/// A rank's ends of one of the two ways that messages take (see goes_forward).
struct StageLinks {
  std::optional<StageInbox> in;
  std::optional<StageOutbox> out;
};

/// One rank's part of a schedule.
class ScheduleRun {
 public:
  ScheduleRun(const Schedule& schedule, const PipelineGroups& groups, StageRunner& runner,
              const ActionObserver& observer, bool forward_only)
      : schedule_(schedule), runner_(runner), observer_(observer) {
    if (schedule.num_ranks > 1) {
      connect(groups, forward_only);
      ahead_ = receives_ahead(schedule, forward_only);
    }
    for (const Action& action : schedule.ranks[static_cast<std::size_t>(rank_)]) {
      if (!forward_only || action.kind == ActionKind::kForward) actions_.push_back(action);
    }
  }

  void run() {
    std::size_t num_posted = 0;
    for (std::size_t i = 0; i < actions_.size(); ++i) {
      for (; num_posted < std::min(i + ahead_ + 1, actions_.size()); ++num_posted) {
        post_input(actions_[num_posted]);
      }
      run_action(actions_[i], take_input(actions_[i]));
    }
    for (StageLinks* links : {&forward_, &backward_}) {
      if (links->out) links->out->wait_for_all();
    }
  }

 private:
  void connect(const PipelineGroups& groups, bool forward_only) {
    const int num_ranks = schedule_.num_ranks;
    GIMBAL_CHECK(groups.forward != nullptr && groups.backward != nullptr, "no pipeline groups");
    GIMBAL_CHECK_EQ(groups.forward->size(), num_ranks);
    GIMBAL_CHECK_EQ(groups.backward->size(), num_ranks);
    rank_ = groups.forward->rank();
    GIMBAL_CHECK_EQ(groups.backward->rank(), rank_);
    const int before = (rank_ + num_ranks - 1) % num_ranks;
    const int after = (rank_ + 1) % num_ranks;
    const auto received = [&](int from, StageMessageKind kind) {
      std::vector<StageMessage> messages = messages_sent(schedule_, from, forward_only);
      std::erase_if(messages, [&](const StageMessage& message) {
        return num_ranks > 2 && message.kind != kind;
      });
      return messages;
    };
    // With two ranks, rank 1 has only the ways from rank 0 (forward) and to it (backward).
    if (num_ranks > 2 || rank_ == 1)
      forward_.in.emplace(*groups.forward, before, received(before, StageMessageKind::kActivations),
                          runner_);
    if (num_ranks > 2 || rank_ == 0) forward_.out.emplace(*groups.forward, after);
    if (num_ranks > 2 || rank_ == 0)
      backward_.in.emplace(*groups.backward, after, received(after, StageMessageKind::kGradients),
                           runner_);
    if (num_ranks > 2 || rank_ == 1) backward_.out.emplace(*groups.backward, before);
  }

  bool is_local(const StageMessage& message) const {
    return schedule_.rank_of(message.sender()) == schedule_.rank_of(message.stage);
  }
  StageLinks& links(const StageMessage& message) {
    return goes_forward(schedule_, message) ? forward_ : backward_;
  }

  void post_input(const Action& action) {
    const std::optional<StageMessage> message = input_of(schedule_, action);
    if (message && !is_local(*message)) links(*message).in->post(*message);
  }

  std::optional<Flow> take_input(const Action& action) {
    const std::optional<StageMessage> message = input_of(schedule_, action);
    if (!message) return std::nullopt;
    if (!is_local(*message)) return links(*message).in->take(*message);
    auto handed = handed_over_.extract(*message);
    GIMBAL_CHECK(!handed.empty(), "no ", to_string(*message), " on its own rank");
    return std::move(handed.mapped());
  }

  void hand_over(const StageMessage& message, Flow flow) {
    const StageBoundary boundary = runner_.boundary(message.boundary_stage(), message.micro_batch);
    check_flow(message, boundary, flow);
    if (is_local(message)) {
      handed_over_.emplace(message, std::move(flow));
    } else {
      links(message).out->send(message, boundary, flow);
    }
  }

  void run_action(const Action& action, std::optional<Flow> in) {
    if (observer_) observer_(action, /*begin=*/true);
    Flow out = call_runner(action, in ? std::move(*in) : Flow());
    if (observer_) observer_(action, /*begin=*/false);
    if (const auto message = output_of(schedule_, action)) hand_over(*message, std::move(out));
  }

  Flow call_runner(const Action& action, Flow in) {
    const auto [stage, kind, micro_batch] = action;
    switch (kind) {
      case ActionKind::kForward:
        return runner_.forward(stage, micro_batch, std::move(in));
      case ActionKind::kBackward:
        return runner_.backward(stage, micro_batch, std::move(in));
      case ActionKind::kBackwardInput:
        return runner_.backward_input(stage, micro_batch, std::move(in));
      case ActionKind::kBackwardWeight:
        runner_.backward_weight(stage, micro_batch);
        return Flow();
    }
    throw_internal(__FILE__, __LINE__, "kind", "unknown action " + to_string(action));
  }

  const Schedule& schedule_;
  StageRunner& runner_;
  const ActionObserver& observer_;
  int rank_ = 0;
  std::size_t ahead_ = 1;  // actions
  std::vector<Action> actions_;
  StageLinks forward_, backward_;
  std::map<StageMessage, Flow> handed_over_;  // between stages of this rank
};

}  // namespace

void connect_stages(const PipelineGroups& groups) {
  const int rank = groups.forward->rank(), num_ranks = groups.forward->size();
  const int num_pairs = num_ranks == 2 ? 1 : num_ranks;
  if (num_ranks == 1) return;
  const std::string name = "start of the pipeline";
  const at::Tensor value = at::zeros({1}, at::TensorOptions().device(groups.forward->device()));
  // All in the same order, so that the pairs cannot wait in a circle.
  for (int first = 0; first < num_pairs; ++first) {
    const int second = (first + 1) % num_ranks;
    if (rank == first) {
      groups.forward->send(value, second, name)->wait();
      groups.backward->receive(value, second, name)->wait();
    } else if (rank == second) {
      groups.forward->receive(value, first, name)->wait();
      groups.backward->send(value, first, name)->wait();
    }
  }
}

void run_schedule(const Schedule& schedule, const PipelineGroups& groups, StageRunner& runner,
                  const ActionObserver& observer, bool forward_only) {
  ScheduleRun(schedule, groups, runner, observer, forward_only).run();
}

}  // namespace gimbal
