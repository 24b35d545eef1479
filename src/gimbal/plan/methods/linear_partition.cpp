#include "gimbal/plan/methods/linear_partition.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr double kNoCut = std::numeric_limits<double>::infinity();

// best[end]: least value of cutting the first `end` weights into the parts so far; `from` remembers
// where the last part begins. `join` adds a part's sum to the value of the parts before it.
template <typename Join>
std::vector<std::size_t> cut_by_table(const std::vector<double>& sums, std::size_t parts,
                                      Join&& join) {
  const std::size_t count = sums.size() - 1;
  std::vector<double> best(count + 1, kNoCut), next(count + 1);
  std::vector<std::vector<std::size_t>> from(parts, std::vector<std::size_t>(count + 1, 0));
  best[0] = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    std::fill(next.begin(), next.end(), kNoCut);
    for (std::size_t end = part + 1; end + (parts - part - 1) <= count; ++end) {
      for (std::size_t begin = part; begin < end; ++begin) {
        if (best[begin] == kNoCut) continue;
        const double value = join(best[begin], sums[end] - sums[begin]);
        if (value < next[end]) {
          next[end] = value;
          from[part][end] = begin;
        }
      }
    }
    std::swap(best, next);
  }
  GIMBAL_CHECK(best[count] < kNoCut, "no way to cut ", count, " weights into ", parts);
  std::vector<std::size_t> cuts(parts + 1, count);
  for (std::size_t part = parts; part-- > 0;) cuts[part] = from[part][cuts[part + 1]];
  return cuts;
}

}  // namespace

std::vector<std::size_t> balanced_cuts(const std::vector<double>& weights, int parts) {
  GIMBAL_CHECK(parts >= 1 && weights.size() >= static_cast<std::size_t>(parts),
               "weights: ", weights.size(), ", parts: ", parts);
  std::vector<double> sums(weights.size() + 1, 0);
  for (std::size_t i = 0; i < weights.size(); ++i) sums[i + 1] = sums[i] + weights[i];
  const auto num_parts = static_cast<std::size_t>(parts);
  const std::vector<std::size_t> cuts = cut_by_table(
      sums, num_parts, [](double before, double sum) { return std::max(before, sum); });
  double largest = 0;
  for (std::size_t part = 0; part < num_parts; ++part) {
    largest = std::max(largest, sums[cuts[part + 1]] - sums[cuts[part]]);
  }
  // Many cuts share the least largest sum; among them the even ones are what is meant.
  return cut_by_table(sums, num_parts, [largest](double before, double sum) {
    return sum <= largest ? before + sum * sum : kNoCut;
  });
}

void check_enough_blocks(const CutProblem& problem) {
  const std::size_t num_blocks = problem.costs->num_blocks();
  GIMBAL_USER_CHECK(num_blocks >= static_cast<std::size_t>(problem.num_stages),
                    "a pipeline stage needs a block: the model has ", num_blocks,
                    " blocks and the pipeline ", problem.num_stages,
                    " stages; use a smaller pp (or fewer stages per rank)");
}

Recompute full_level(const CostModel& costs, std::size_t block) {
  const std::vector<Recompute>& levels = costs.levels(block);
  const bool has_full = std::find(levels.begin(), levels.end(), Recompute::kFull) != levels.end();
  return has_full ? Recompute::kFull : Recompute::kKeep;
}

StageLayout full_recompute_layout(const CutProblem& problem, std::vector<std::size_t> stage_begin) {
  StageLayout layout;
  layout.stage_begin = std::move(stage_begin);
  layout.recompute.resize(problem.costs->num_blocks());
  for (std::size_t block = 0; block < layout.recompute.size(); ++block) {
    layout.recompute[block] = full_level(*problem.costs, block);
  }
  return layout;
}

}  // namespace gimbal
