// A pipeline schedule as data: what each rank runs, in order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gimbal {

/// kBackward computes all gradients; kBackwardInput only those of the stage's inputs, and
/// kBackwardWeight later those of its weights.
enum class ActionKind { kForward, kBackward, kBackwardInput, kBackwardWeight };

struct Action {
  int stage = 0;
  ActionKind kind = ActionKind::kForward;
  int micro_batch = 0;
  bool operator==(const Action&) const = default;
};

/// Stage s runs on rank s % num_ranks.
struct Schedule {
  std::string name;  // "gpipe", "1f1b", "interleaved", "zb-h1"
  int num_ranks = 1;
  int num_stages = 1;  // a multiple of num_ranks
  int num_micro_batches = 0;
  std::vector<std::vector<Action>> ranks;

  int rank_of(int stage) const { return stage % num_ranks; }
  bool operator==(const Schedule&) const = default;
};

enum class PipelineKind { kGpipe, kOneFOneB, kInterleaved, kZeroBubble };

/// "gpipe", "1f1b", "interleaved", "zb-h1".
const char* pipeline_name(PipelineKind kind);
/// Throws UserError that lists the names.
PipelineKind pipeline_kind(const std::string& name);

struct ScheduleShape {
  PipelineKind kind = PipelineKind::kOneFOneB;
  int ranks = 1;
  int stages_per_rank = 1;  // above 1: kInterleaved only
  int micro_batches = 1;
};

/// Most (stage, micro-batch) pairs of a schedule.
inline constexpr std::int64_t kMostSchedulePairs = std::int64_t{1} << 22;

/// The schedule; with one stage all kinds are F0 B0 F1 B1 .. but GPipe. Throws UserError for
/// numbers below 1, more than kMostSchedulePairs pairs and shapes that the kind does not have (says
/// which are allowed): kInterleaved runs its micro-batches in max(1, micro_batches / ranks) rounds,
/// which must divide them.
///
/// Sources: GPipe (arXiv 1811.06965), 1F1B (arXiv 2006.09503), interleaved 1F1B (arXiv 2104.04473),
/// ZB-H1 (arXiv 2401.10241).
Schedule make_schedule(const ScheduleShape& shape);

}  // namespace gimbal
