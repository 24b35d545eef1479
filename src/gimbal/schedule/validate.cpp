#include "gimbal/schedule/validate.h"

#include <cstdint>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/schedule/in_flight.h"
#include "gimbal/schedule/text.h"

namespace gimbal {
namespace {

// What has been seen (or has run) of a (stage, micro-batch).
constexpr std::uint8_t action_bit(ActionKind kind) {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(kind));
}
constexpr std::uint8_t kForwardBit = action_bit(ActionKind::kForward);
constexpr std::uint8_t kBackwardBit = action_bit(ActionKind::kBackward);
constexpr std::uint8_t kInputBit = action_bit(ActionKind::kBackwardInput);
constexpr std::uint8_t kWeightBit = action_bit(ActionKind::kBackwardWeight);

class ScheduleChecker {
 public:
  explicit ScheduleChecker(const Schedule& schedule) : schedule_(schedule) {}

  ScheduleCheck run() {
    if (!check_sizes()) return std::move(check_);
    seen_.assign(static_cast<std::size_t>(schedule_.num_stages) *
                     static_cast<std::size_t>(schedule_.num_micro_batches),
                 0);
    for (int rank = 0; rank < schedule_.num_ranks; ++rank) {
      for (const Action& action : actions_of(rank)) see(rank, action);
    }
    find_missing();
    // The order is only worth running when each action is there once.
    if (check_.problems.empty()) run_all();
    if (check_.problems.empty()) check_.in_flight = most_in_flight(schedule_);
    return std::move(check_);
  }

 private:
  template <typename... Args>
  void problem(Args&&... args) {
    check_.problems.push_back(concat(std::forward<Args>(args)...));
  }
  const std::vector<Action>& actions_of(int rank) const {
    return schedule_.ranks[static_cast<std::size_t>(rank)];
  }
  std::uint8_t& seen(int stage, int micro_batch) {
    return seen_[static_cast<std::size_t>(stage) *
                     static_cast<std::size_t>(schedule_.num_micro_batches) +
                 static_cast<std::size_t>(micro_batch)];
  }
  static std::string name(int stage, ActionKind kind, int micro_batch) {
    return to_string(Action{stage, kind, micro_batch});
  }

  bool check_sizes() {
    const Schedule& s = schedule_;
    if (s.num_ranks < 1 || s.num_stages < 1 || s.num_micro_batches < 1) {
      problem("found ", s.num_ranks, " ranks, ", s.num_stages, " stages and ", s.num_micro_batches,
              " micro-batches; at least 1 of each is needed");
    } else if (s.num_stages % s.num_ranks != 0) {
      problem(s.num_stages, " stages are no multiple of ", s.num_ranks, " ranks");
    } else if (s.ranks.size() != static_cast<std::size_t>(s.num_ranks)) {
      problem("found actions of ", s.ranks.size(), " ranks, expected ", s.num_ranks);
    } else if (kMostSchedulePairs / s.num_stages < s.num_micro_batches) {
      problem(s.num_stages, " stages x ", s.num_micro_batches, " micro-batches are more than ",
              kMostSchedulePairs);
    }
    return check_.problems.empty();
  }

  /// Checks an action against those that are before it on the rank.
  void see(int rank, const Action& action) {
    const auto [stage, kind, micro_batch] = action;
    if (stage < 0 || stage >= schedule_.num_stages || micro_batch < 0 ||
        micro_batch >= schedule_.num_micro_batches) {
      problem(to_string(action), " on rank ", rank, ": there are stages 0 to ",
              schedule_.num_stages - 1, " and micro-batches 0 to ",
              schedule_.num_micro_batches - 1);
      return;
    }
    if (schedule_.rank_of(stage) != rank) {
      problem(to_string(action), " is on rank ", rank, "; stage ", stage, " is on rank ",
              schedule_.rank_of(stage));
      return;
    }
    std::uint8_t& before = seen(stage, micro_batch);
    const std::uint8_t bit = action_bit(kind);
    const auto needs = [&](ActionKind earlier) {
      if ((before & action_bit(earlier)) == 0) {
        problem(to_string(action), " has no ", name(stage, earlier, micro_batch), " before it");
      }
    };
    if ((before & bit) != 0) problem(to_string(action), " is there twice");
    if (kind == ActionKind::kBackward || kind == ActionKind::kBackwardInput) {
      needs(ActionKind::kForward);
    }
    if (kind == ActionKind::kBackwardWeight) needs(ActionKind::kBackwardInput);
    before |= bit;
  }

  void find_missing() {
    for (int stage = 0; stage < schedule_.num_stages; ++stage) {
      for (int m = 0; m < schedule_.num_micro_batches; ++m) {
        const std::uint8_t there = seen(stage, m);
        const auto has = [&](std::uint8_t bits) { return (there & bits) != 0; };
        const auto name_of = [&](ActionKind kind) { return name(stage, kind, m); };
        if (!has(kForwardBit)) problem(name_of(ActionKind::kForward), " is missing");
        if (!has(kBackwardBit | kInputBit | kWeightBit)) {
          problem(name_of(ActionKind::kBackward), " is missing (or ",
                  name_of(ActionKind::kBackwardInput), " and ",
                  name_of(ActionKind::kBackwardWeight), ")");
        } else if (has(kBackwardBit) && has(kInputBit | kWeightBit)) {
          problem(
              name_of(ActionKind::kBackward), " and ",
              name_of(has(kInputBit) ? ActionKind::kBackwardInput : ActionKind::kBackwardWeight),
              " are both there");
        } else if (!has(kBackwardBit) && !has(kWeightBit)) {
          problem(name_of(ActionKind::kBackwardWeight), " is missing");
        }
      }
    }
  }

  /// The action of the neighbour stage whose message `action` waits for; its own when there is
  /// none.
  Action sender_of(const Action& action) {
    if (action.kind == ActionKind::kForward && action.stage > 0) {
      return {action.stage - 1, ActionKind::kForward, action.micro_batch};
    }
    if ((action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardInput) &&
        action.stage + 1 < schedule_.num_stages) {
      const bool whole = (seen(action.stage + 1, action.micro_batch) & kBackwardBit) != 0;
      return {action.stage + 1, whole ? ActionKind::kBackward : ActionKind::kBackwardInput,
              action.micro_batch};
    }
    return action;
  }

  /// Runs each rank as far as it gets, and again when a message for it has come.
  void run_all() {
    const auto num_ranks = static_cast<std::size_t>(schedule_.num_ranks);
    std::vector<std::size_t> position(num_ranks, 0);
    std::vector<std::uint8_t> done(seen_.size(), 0);
    const auto done_bits = [&](const Action& action) -> std::uint8_t& {
      return done[static_cast<std::size_t>(action.stage) *
                      static_cast<std::size_t>(schedule_.num_micro_batches) +
                  static_cast<std::size_t>(action.micro_batch)];
    };
    const auto may_run = [&](const Action& action) {
      const Action sender = sender_of(action);
      return sender == action || (done_bits(sender) & action_bit(sender.kind)) != 0;
    };
    std::vector<int> runnable;
    for (int rank = schedule_.num_ranks - 1; rank >= 0; --rank) runnable.push_back(rank);
    while (!runnable.empty()) {
      const int rank = runnable.back();
      runnable.pop_back();
      const std::vector<Action>& actions = actions_of(rank);
      std::size_t& at = position[static_cast<std::size_t>(rank)];
      for (; at < actions.size() && may_run(actions[at]); ++at) {
        const Action& action = actions[at];
        done_bits(action) |= action_bit(action.kind);
        if (action.kind == ActionKind::kBackwardWeight) continue;
        const int next = action.kind == ActionKind::kForward ? action.stage + 1 : action.stage - 1;
        if (next < 0 || next >= schedule_.num_stages) continue;
        const int receiver = schedule_.rank_of(next);
        const std::size_t waits_at = position[static_cast<std::size_t>(receiver)];
        // Only a rank that waits for this very message has to be taken up again.
        if (receiver == rank || waits_at == actions_of(receiver).size()) continue;
        const Action& waiting = actions_of(receiver)[waits_at];
        if (waiting.stage == next && waiting.micro_batch == action.micro_batch &&
            sender_of(waiting) == action) {
          runnable.push_back(receiver);
        }
      }
    }
    for (int rank = 0; rank < schedule_.num_ranks; ++rank) {
      const std::size_t at = position[static_cast<std::size_t>(rank)];
      if (at == actions_of(rank).size()) continue;
      const Action& action = actions_of(rank)[at];
      problem("rank ", rank, " waits for ever at ", to_string(action), ", which needs ",
              to_string(sender_of(action)));
    }
  }

  const Schedule& schedule_;
  ScheduleCheck check_;
  std::vector<std::uint8_t> seen_;
};

}  // namespace

ScheduleCheck check_schedule(const Schedule& schedule) { return ScheduleChecker(schedule).run(); }

}  // namespace gimbal
