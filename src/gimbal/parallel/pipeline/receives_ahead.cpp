#include "gimbal/parallel/pipeline/receives_ahead.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/pipeline/pipeline_messages.h"

namespace gimbal {
namespace {

/// The schedule without its work, on links that hold nothing: a send is done when its receive is
/// posted.
class RendezvousRun {
 public:
  RendezvousRun(const Schedule& schedule, bool forward_only, std::size_t ahead)
      : schedule_(schedule), ahead_(ahead), ranks_(schedule.ranks.size()) {
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      for (const Action& action : schedule.ranks[rank]) {
        if (!forward_only || action.kind == ActionKind::kForward)
          ranks_[rank].actions.push_back(action);
      }
      for (const Action& action : ranks_[rank].actions) {
        const auto message = output_of(schedule, action);
        if (message) positions_[*message] = link_of(*message).num_messages++;
      }
    }
  }

  bool ends() {
    for (bool moved = true; moved;) {
      moved = false;
      for (RankState& rank : ranks_) {
        while (rank.next < rank.actions.size() && advance(rank)) moved = true;
      }
    }
    return std::ranges::all_of(
        ranks_, [](const RankState& rank) { return rank.next == rank.actions.size(); });
  }

 private:
  struct RankState {
    std::vector<Action> actions;
    std::size_t next = 0;
    std::size_t num_posted = 0;  // actions whose receives are posted
    bool has_run = false;        // the next action: its send is left
  };
  /// Messages that take one way from a rank to another, in order.
  struct Link {
    std::size_t num_messages = 0, num_sent = 0, num_posted = 0;
  };

  Link& link_of(const StageMessage& message) {
    return links_[{schedule_.rank_of(message.sender()), goes_forward(schedule_, message)}];
  }

  /// Runs the rank's next action as far as it gets; whether that is to its end.
  bool advance(RankState& rank) {
    const Action& action = rank.actions[rank.next];
    const std::size_t end = std::min(rank.next + ahead_ + 1, rank.actions.size());
    for (; rank.num_posted < end; ++rank.num_posted) {
      const auto message = input_of(schedule_, rank.actions[rank.num_posted]);
      if (!message || !positions_.contains(*message)) continue;
      Link& link = link_of(*message);
      link.num_posted = std::max(link.num_posted, positions_.at(*message) + 1);
    }
    if (const auto in = input_of(schedule_, action); in && !rank.has_run) {
      const auto position = positions_.find(*in);
      if (position == positions_.end() || link_of(*in).num_sent <= position->second) return false;
    }
    rank.has_run = true;
    if (const auto out = output_of(schedule_, action)) {
      Link& link = link_of(*out);
      const std::size_t position = positions_.at(*out);
      if (position >= link.num_posted + kMostSendsUnderWay) return false;
      link.num_sent = position + 1;
    }
    rank.has_run = false;
    ++rank.next;
    return true;
  }

  const Schedule& schedule_;
  std::size_t ahead_;
  std::vector<RankState> ranks_;
  std::map<std::pair<int, bool>, Link> links_;  // by (rank that sends, way)
  std::map<StageMessage, std::size_t> positions_;
};

}  // namespace

std::size_t receives_ahead(const Schedule& schedule, bool forward_only) {
  if (schedule.num_ranks == 1) return 1;  // nothing is sent
  std::size_t most = 1;
  for (const auto& actions : schedule.ranks) most = std::max(most, actions.size());
  for (std::size_t ahead = 1; ahead <= most; ++ahead) {
    if (RendezvousRun(schedule, forward_only, ahead).ends()) return ahead;
  }
  throw InternalError(concat("schedule ", schedule.name, " never ends"));
}

}  // namespace gimbal
