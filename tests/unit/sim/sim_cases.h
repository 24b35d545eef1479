// Random pipelines for the simulator, and a slow oracle of their times.
#pragma once

#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "balance/check_cases.h"
#include "gimbal/sim/pipeline.h"

namespace gimbal::testing {

/// A pipeline and what it points to.
struct PipelineCase {
  Schedule schedule;
  PipelineInput input;

  PipelineInput with_schedule() const {
    PipelineInput copy = input;
    copy.schedule = &schedule;
    return copy;
  }
  StageWork& work(int stage, int micro_batch) {
    return input.work[static_cast<std::size_t>(stage * schedule.num_micro_batches + micro_batch)];
  }
};

using ActionKey = std::tuple<int, ActionKind, int>;
inline ActionKey key_of(const Action& a) { return {a.stage, a.kind, a.micro_batch}; }

inline Seconds seconds_of(const StageWork& work, ActionKind kind) {
  if (kind == ActionKind::kForward) return work.forward;
  if (kind == ActionKind::kBackward) return work.backward;
  return kind == ActionKind::kBackwardInput ? work.backward_input : work.backward_weight;
}

/// Any order in which each action comes after what it needs, so that no rank waits for ever. Each
/// (stage, micro-batch) has B, or I and W.
inline Schedule random_schedule() {
  Schedule schedule;
  schedule.name = "random";
  schedule.num_ranks = *between(1, 5);
  schedule.num_stages = schedule.num_ranks * *between(1, 4);
  schedule.num_micro_batches = *between(1, 6);
  schedule.ranks.resize(static_cast<std::size_t>(schedule.num_ranks));
  const int micro_batches = schedule.num_micro_batches;
  // Of each micro-batch, the next step: forwards 0 .. S-1, then backwards S-1 .. 0.
  std::vector<int> next(static_cast<std::size_t>(micro_batches), 0);
  std::vector<Action> weights;  // ready, not yet placed
  int left = micro_batches * 2 * schedule.num_stages;
  const auto place = [&](const Action& action) {
    schedule.ranks[static_cast<std::size_t>(schedule.rank_of(action.stage))].push_back(action);
  };
  while (left > 0 || !weights.empty()) {
    if (!weights.empty() && (left == 0 || *between(0, 3) == 0)) {
      const auto i = *between<std::size_t>(0, weights.size());
      place(weights[i]);
      weights.erase(weights.begin() + static_cast<std::ptrdiff_t>(i));
      continue;
    }
    const int m = *between(0, micro_batches);
    int& step = next[static_cast<std::size_t>(m)];
    if (step == 2 * schedule.num_stages) continue;
    if (step < schedule.num_stages) {
      place({step, ActionKind::kForward, m});
    } else {
      const int stage = 2 * schedule.num_stages - 1 - step;
      const bool split = *between(0, 2) == 0;
      place({stage, split ? ActionKind::kBackwardInput : ActionKind::kBackward, m});
      if (split) weights.push_back({stage, ActionKind::kBackwardWeight, m});
    }
    ++step;
    --left;
  }
  return schedule;
}

/// Whole numbers, so that sums are exact in any order. Actions take at least 1.
inline PipelineCase random_pipeline(Schedule schedule) {
  PipelineCase result;
  result.schedule = std::move(schedule);
  const auto stages = static_cast<std::size_t>(result.schedule.num_stages);
  result.input.work.resize(stages * static_cast<std::size_t>(result.schedule.num_micro_batches));
  for (StageWork& work : result.input.work) {
    work.forward = *between(1, 20);
    work.backward = *between(1, 40);
    work.backward_input = *between(1, 20);
    work.backward_weight = *between(1, 20);
    work.saved = *between(0, 100);
    work.forward_workspace = *between(0, 30);
    work.backward_workspace = *between(0, 60);
    work.send = 4.0 * *between(0, 20);
  }
  for (std::size_t s = 0; s + 1 < stages; ++s) {
    result.input.links.push_back(
        {static_cast<double>(*between(0, 5)), 4.0 * *between(0, 2)});  // 0: latency alone
  }
  for (int r = 0; r < result.schedule.num_ranks; ++r) {
    result.input.static_bytes.push_back(*between(0, 50));
  }
  if (*between(0, 4) == 0) {
    for (std::size_t s = 0; s < stages; ++s) {
      result.input.earliest_start.push_back(*between(0, 30));
    }
  }
  return result;
}
inline PipelineCase random_pipeline() { return random_pipeline(random_schedule()); }

/// Start of each action: every action and message is a node that starts when all nodes before it
/// have ended; repeated until nothing moves.
inline std::map<ActionKey, Seconds> oracle_starts(const PipelineInput& input) {
  struct Node {
    Seconds seconds = 0, start = 0;
    std::vector<std::size_t> before;
  };
  const Schedule& schedule = *input.schedule;
  std::vector<Node> nodes;
  std::map<ActionKey, std::size_t> node_of;
  const auto work_of = [&](const Action& a) -> const StageWork& {
    return input
        .work[static_cast<std::size_t>(a.stage * schedule.num_micro_batches + a.micro_batch)];
  };
  for (const auto& actions : schedule.ranks) {
    for (const Action& action : actions) {
      node_of[key_of(action)] = nodes.size();
      Node node{seconds_of(work_of(action), action.kind), 0, {}};
      if (action.kind == ActionKind::kForward && !input.earliest_start.empty()) {
        node.start = input.earliest_start[static_cast<std::size_t>(action.stage)];
      }
      nodes.push_back(node);
    }
  }
  const auto backward_of = [&](int stage, int micro_batch) {
    const auto whole = node_of.find({stage, ActionKind::kBackward, micro_batch});
    return whole != node_of.end() ? whole->second
                                  : node_of.at({stage, ActionKind::kBackwardInput, micro_batch});
  };
  std::map<std::pair<int, int>, std::size_t> last_on_link;  // by ranks
  for (std::size_t r = 0; r < schedule.ranks.size(); ++r) {
    std::size_t previous = nodes.size();  // none
    for (const Action& action : schedule.ranks[r]) {
      const std::size_t node = node_of.at(key_of(action));
      if (previous < nodes.size()) nodes[node].before.push_back(previous);
      previous = node;
      const bool forward = action.kind == ActionKind::kForward;
      if (action.kind == ActionKind::kBackwardWeight) continue;
      const int to = action.stage + (forward ? 1 : -1);
      if (to < 0 || to == schedule.num_stages) continue;
      const std::size_t receiver = forward
                                       ? node_of.at({to, ActionKind::kForward, action.micro_batch})
                                       : backward_of(to, action.micro_batch);
      if (schedule.num_ranks == 1) {
        nodes[receiver].before.push_back(node);
        continue;
      }
      const int cut = std::min(action.stage, to);
      const Bytes bytes = work_of({cut, ActionKind::kForward, action.micro_batch}).send;
      const std::size_t message = nodes.size();
      nodes.push_back({input.links[static_cast<std::size_t>(cut)].seconds(bytes), 0, {node}});
      const std::pair<int, int> link{static_cast<int>(r), schedule.rank_of(to)};
      if (last_on_link.count(link) > 0) nodes[message].before.push_back(last_on_link[link]);
      last_on_link[link] = message;
      nodes[receiver].before.push_back(message);
      if (!input.overlap_sends) previous = message;
    }
  }
  for (bool moved = true; moved;) {
    moved = false;
    for (Node& node : nodes) {
      for (const std::size_t b : node.before) {
        const Seconds end = nodes[b].start + nodes[b].seconds;
        if (end > node.start) {
          node.start = end;
          moved = true;
        }
      }
    }
  }
  std::map<ActionKey, Seconds> starts;
  for (const auto& [key, node] : node_of) starts[key] = nodes[node].start;
  return starts;
}

}  // namespace gimbal::testing
