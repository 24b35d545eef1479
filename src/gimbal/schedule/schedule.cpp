#include "gimbal/schedule/schedule.h"

#include <algorithm>
#include <array>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::array<std::pair<PipelineKind, const char*>, 4> kPipelineNames = {
    {{PipelineKind::kGpipe, "gpipe"},
     {PipelineKind::kOneFOneB, "1f1b"},
     {PipelineKind::kInterleaved, "interleaved"},
     {PipelineKind::kZeroBubble, "zb-h1"}}};

/// Micro-batches that go through the rank's first stage before the first of them goes through its
/// second. A round of this many passes all the rank's stages, then the next round follows.
int interleaved_round(const ScheduleShape& shape) {
  const int rounds = std::max(1, shape.micro_batches / shape.ranks);
  return shape.micro_batches % rounds == 0 ? shape.micro_batches / rounds : 0;
}

void check_interleaved(const ScheduleShape& shape) {
  const auto works = [&](int micro_batches) {
    ScheduleShape other = shape;
    other.micro_batches = micro_batches;
    return interleaved_round(other) > 0;
  };
  if (works(shape.micro_batches)) return;
  // A multiple of the ranks always works, so both searches end.
  int below = shape.micro_batches - 1;
  while (!works(below)) --below;
  int above = shape.micro_batches + 1;
  while (!works(above)) ++above;
  throw UserError(concat("schedule interleaved: ", shape.ranks, " ranks cannot run ",
                         shape.micro_batches, " micro-batches in ",
                         shape.micro_batches / shape.ranks, " equal rounds; take ", below, " or ",
                         above, " micro-batches"));
}

void check_shape(const ScheduleShape& shape) {
  const std::string name = concat("schedule ", pipeline_name(shape.kind), ": ");
  const std::array<std::pair<const char*, int>, 3> numbers = {
      {{"ranks", shape.ranks},
       {"stages per rank", shape.stages_per_rank},
       {"micro-batches", shape.micro_batches}}};
  for (const auto& [what, number] : numbers) {
    GIMBAL_USER_CHECK(number >= 1, name, "found ", number, " ", what, "; at least 1 is needed");
  }
  // Divisions, as the product of three large numbers does not fit.
  GIMBAL_USER_CHECK(kMostSchedulePairs / shape.ranks / shape.stages_per_rank >= shape.micro_batches,
                    name, shape.ranks, " ranks x ", shape.stages_per_rank, " stages x ",
                    shape.micro_batches, " micro-batches are more than ", kMostSchedulePairs,
                    "; take fewer micro-batches");
  GIMBAL_USER_CHECK(shape.stages_per_rank == 1 || shape.kind == PipelineKind::kInterleaved, name,
                    "a rank has one stage, found ", shape.stages_per_rank,
                    "; only interleaved has more");
  if (shape.kind == PipelineKind::kInterleaved) check_interleaved(shape);
}

/// What tells the kinds apart: how many forwards a rank runs before the first backward, and whether
/// (and how many backwards later) the weight gradients follow.
struct RankPattern {
  int round = 1;    // micro-batches; see interleaved_round
  int warm_up = 0;  // forwards
  bool split = false;
  int weight_lag = 0;  // backwards whose weight gradients are still to come
};

RankPattern rank_pattern(const ScheduleShape& shape, int rank) {
  const int behind = shape.ranks - 1 - rank;  // ranks after this one
  const int forwards = shape.micro_batches * shape.stages_per_rank;
  RankPattern pattern;
  pattern.round = shape.micro_batches;
  switch (shape.kind) {
    case PipelineKind::kGpipe:
      pattern.warm_up = forwards;
      break;
    case PipelineKind::kOneFOneB:
      pattern.warm_up = std::min(behind, forwards);
      break;
    case PipelineKind::kInterleaved:
      pattern.round = interleaved_round(shape);
      pattern.warm_up =
          std::min((shape.stages_per_rank - 1) * pattern.round + 2 * behind, forwards);
      break;
    case PipelineKind::kZeroBubble:
      pattern.warm_up = std::min(behind, forwards);
      // Splitting has no use where no other stage waits for the input gradients.
      pattern.split = shape.ranks > 1;
      // With `behind` micro-batches in warm-up and one that runs, each rank holds as many as ranks.
      pattern.weight_lag = rank;
      break;
  }
  return pattern;
}

std::vector<Action> rank_actions(const ScheduleShape& shape, int rank) {
  const RankPattern pattern = rank_pattern(shape, rank);
  const int per_rank = shape.stages_per_rank;
  const int forwards = shape.micro_batches * per_rank;
  // The n-th forward (backward) of the rank: round by round, in each from the first stage (last).
  const auto action = [&](int n, ActionKind kind) {
    int local = n / pattern.round % per_rank;
    if (kind != ActionKind::kForward) local = per_rank - 1 - local;
    const int done = n / (pattern.round * per_rank) * pattern.round;
    return Action{local * shape.ranks + rank, kind, done + n % pattern.round};
  };
  std::vector<Action> actions;
  actions.reserve(static_cast<std::size_t>(forwards) * (pattern.split ? 3 : 2));
  int weights = 0;
  for (int n = 0; n < forwards + pattern.warm_up; ++n) {
    if (n < forwards) actions.push_back(action(n, ActionKind::kForward));
    const int backward = n - pattern.warm_up;
    if (backward < 0) continue;
    actions.push_back(
        action(backward, pattern.split ? ActionKind::kBackwardInput : ActionKind::kBackward));
    if (pattern.split && backward >= pattern.weight_lag) {
      actions.push_back(action(weights++, ActionKind::kBackwardWeight));
    }
  }
  while (pattern.split && weights < forwards) {
    actions.push_back(action(weights++, ActionKind::kBackwardWeight));
  }
  return actions;
}

}  // namespace

const char* pipeline_name(PipelineKind kind) {
  for (const auto& [value, name] : kPipelineNames) {
    if (value == kind) return name;
  }
  throw_internal(__FILE__, __LINE__, "kind", "unknown pipeline kind");
}

PipelineKind pipeline_kind(const std::string& name) {
  std::string names;
  for (const auto& [kind, known] : kPipelineNames) {
    if (name == known) return kind;
    names += concat(names.empty() ? "" : ", ", known);
  }
  throw UserError(concat("schedule: found '", name, "', expected one of ", names));
}

Schedule make_schedule(const ScheduleShape& shape) {
  check_shape(shape);
  Schedule schedule;
  schedule.name = pipeline_name(shape.kind);
  schedule.num_ranks = shape.ranks;
  schedule.num_stages = shape.ranks * shape.stages_per_rank;
  schedule.num_micro_batches = shape.micro_batches;
  for (int rank = 0; rank < shape.ranks; ++rank) {
    schedule.ranks.push_back(rank_actions(shape, rank));
  }
  return schedule;
}

}  // namespace gimbal
