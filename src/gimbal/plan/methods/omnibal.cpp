// OmniBal's balanced model partitioning (arXiv 2407.20761): profiled forward times, an anchor, the
// cuts around it ranked by two criteria, the best of both measured.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/plan/methods.h"
#include "gimbal/plan/methods/linear_partition.h"

namespace gimbal {
namespace {

using CutList = std::vector<std::size_t>;

// How exactly the anchor's bottleneck is found: a thousandth of a millisecond.
constexpr Seconds kAnchorPrecision = 1e-6;

// Fills one stage after another up to `bottleneck`; at least one block each. Nothing: the last one
// is above it.
std::optional<CutList> fill_stages(const std::vector<Seconds>& times, std::size_t num_stages,
                                   Seconds bottleneck) {
  CutList cuts = {0};
  std::size_t block = 0;
  for (std::size_t stage = 0; stage < num_stages; ++stage) {
    const bool last = stage + 1 == num_stages;
    const std::size_t end = last ? times.size() : times.size() - (num_stages - stage - 1);
    Seconds sum = times[block++];
    while (block < end && (last || sum + times[block] <= bottleneck)) sum += times[block++];
    if (sum > bottleneck) return std::nullopt;
    cuts.push_back(block);
  }
  return cuts;
}

CutList anchor_cuts(const std::vector<Seconds>& times, std::size_t num_stages) {
  const Seconds total = std::accumulate(times.begin(), times.end(), 0.0);
  // Sums in another order may exceed the total by rounding; this much always fits.
  Seconds high = total * (1 + 1e-9) + kAnchorPrecision;
  Seconds low = total / static_cast<double>(num_stages);
  std::optional<CutList> found = fill_stages(times, num_stages, high);
  while (high - low > kAnchorPrecision) {
    const Seconds middle = low + (high - low) / 2;
    if (auto cuts = fill_stages(times, num_stages, middle)) {
      found = std::move(cuts);
      high = middle;
    } else {
      low = middle;
    }
  }
  GIMBAL_CHECK(found.has_value(), "no anchor for ", times.size(), " blocks");
  return *found;
}

// What a ranking adds up over the stages: bytes sent, then squared times. The sum of the times is
// the same for all cuts, so the sum of squares orders them as the variance does.
struct CutScore {
  double sent = 0;
  double squares = 0;
  CutList cuts;
  bool operator<(const CutScore& other) const {
    if (sent != other.sent) return sent < other.sent;
    if (squares != other.squares) return squares < other.squares;
    return cuts < other.cuts;
  }
};

// The `keep` best cuts with every inner cut within `radius` of the anchor. Both criteria are sums
// over stages, so the best of all are among the best for each place of the last cut: the product of
// ranges need not be listed.
std::vector<CutScore> best_cuts(const std::vector<Seconds>& times,
                                const std::vector<Bytes>& cut_bytes, const CutList& anchor,
                                std::size_t radius, std::size_t keep) {
  const std::size_t num_blocks = times.size();
  std::vector<Seconds> sums(num_blocks + 1, 0);
  for (std::size_t i = 0; i < num_blocks; ++i) sums[i + 1] = sums[i] + times[i];
  std::vector<std::vector<CutScore>> ends = {{{0, 0, {0}}}};  // by the place of the last cut
  for (std::size_t stage = 1; stage < anchor.size(); ++stage) {
    const bool inner = stage + 1 < anchor.size();
    const std::size_t low =
        inner ? std::max<std::size_t>(anchor[stage], radius) - radius : num_blocks;
    const std::size_t high = inner ? std::min(anchor[stage] + radius, num_blocks - 1) : num_blocks;
    std::vector<std::vector<CutScore>> next;
    for (std::size_t place = std::max<std::size_t>(low, 1); place <= high; ++place) {
      std::vector<CutScore> scores;
      for (const std::vector<CutScore>& before : ends) {
        for (const CutScore& score : before) {
          if (score.cuts.back() >= place) continue;  // an empty stage
          const Seconds time = sums[place] - sums[score.cuts.back()];
          CutScore longer = score;
          longer.squares += time * time;
          if (inner) longer.sent += cut_bytes[place - 1];
          longer.cuts.push_back(place);
          scores.push_back(std::move(longer));
        }
      }
      std::sort(scores.begin(), scores.end());
      if (scores.size() > keep) scores.resize(keep);
      next.push_back(std::move(scores));
    }
    ends = std::move(next);
  }
  GIMBAL_CHECK_EQ(ends.size(), 1u);
  return ends.front();
}

}  // namespace

StageLayout cut_by_omnibal(const CutProblem& problem, const OmniBalOptions& options,
                           const MeasureLayout& measure) {
  check_enough_blocks(problem);
  GIMBAL_USER_CHECK(
      options.radius >= 0 && options.keep_best >= 1,
      "omnibal: the radius is at least 0 and the number of cuts kept at least 1, not ",
      options.radius, " and ", options.keep_best);
  GIMBAL_CHECK(measure != nullptr, "omnibal measures its candidates");
  const CostModel& costs = *problem.costs;
  std::vector<Seconds> times;
  std::vector<Bytes> bytes;
  for (std::size_t block = 0; block < costs.num_blocks(); ++block) {
    times.push_back(costs.forward(block, problem.mean));
    bytes.push_back(costs.cut_bytes(block, problem.mean));
  }
  const CutList anchor = anchor_cuts(times, static_cast<std::size_t>(problem.num_stages));
  const auto radius = static_cast<std::size_t>(options.radius);
  const auto keep = static_cast<std::size_t>(options.keep_best);
  std::set<CutList> candidates;
  const std::vector<Bytes> nothing(bytes.size(), 0);
  for (const std::vector<Bytes>& sent : {nothing, bytes}) {
    for (CutScore& score : best_cuts(times, sent, anchor, radius, keep)) {
      candidates.insert(std::move(score.cuts));
    }
  }
  std::optional<StageLayout> best;
  Seconds best_seconds = std::numeric_limits<Seconds>::infinity();
  for (const CutList& cuts : candidates) {
    StageLayout layout = full_recompute_layout(problem, cuts);
    const Seconds seconds = measure(layout);
    if (best && !(seconds < best_seconds)) continue;
    best_seconds = seconds;
    best = std::move(layout);
  }
  GIMBAL_CHECK(best.has_value(), "no candidate");
  return *best;
}

}  // namespace gimbal
