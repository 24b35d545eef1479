#include "gimbal/plan/partition/stage_knapsack.h"

#include <algorithm>
#include <bit>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

bool same_option(const PartitionOption& a, const PartitionOption& b) {
  return a.time == b.time && a.saved == b.saved && a.workspace == b.workspace;
}

// Fastest option of the mask; of equally fast ones that which keeps least.
const PartitionOption& fastest(const std::vector<PartitionOption>& options, std::uint32_t mask) {
  const PartitionOption* best = nullptr;
  for (std::size_t k = 0; k < options.size(); ++k) {
    if ((mask >> k & 1U) == 0) continue;
    if (best == nullptr || options[k].time < best->time ||
        (options[k].time == best->time && options[k].saved < best->saved)) {
      best = &options[k];
    }
  }
  return *best;
}

std::int64_t least_saved(const std::vector<PartitionOption>& options, std::uint32_t mask) {
  std::int64_t least = StageKnapsack::kInfeasible;
  for (std::size_t k = 0; k < options.size(); ++k) {
    if ((mask >> k & 1U) != 0) least = std::min(least, options[k].saved);
  }
  return least;
}

// Leaves the points that nothing beats: ascending in saved, descending in time.
template <typename P>
void keep_pareto(std::vector<P>& points) {
  std::sort(points.begin(), points.end(), [](const P& a, const P& b) {
    return a.saved != b.saved ? a.saved < b.saved : a.time < b.time;
  });
  std::size_t kept = 0;
  for (const P& point : points) {
    if (kept > 0 && points[kept - 1].time <= point.time) continue;
    points[kept++] = point;
  }
  points.resize(kept);
}

struct SavedTime {
  std::int64_t saved;
  std::int64_t time;
};

}  // namespace

StageKnapsack::StageKnapsack(const PartitionProblem& problem) : problem_(problem), state_(problem) {
  for (const PartitionBlock& block : problem.blocks) {
    GIMBAL_CHECK(!block.options.empty() && block.options.size() <= 32, "a block has ",
                 block.options.size(), " options");
    const auto known = std::find_if(kinds_.begin(), kinds_.end(), [&](const auto& options) {
      return std::equal(options.begin(), options.end(), block.options.begin(), block.options.end(),
                        same_option);
    });
    kind_.push_back(static_cast<std::size_t>(known - kinds_.begin()));
    if (known == kinds_.end()) kinds_.push_back(block.options);
  }
}

std::vector<StageKnapsack::Group> StageKnapsack::groups_of(std::size_t begin,
                                                           std::size_t end) const {
  std::vector<Group> groups;
  for (std::size_t i = begin; i < end; ++i) {
    const auto known = std::find_if(groups.begin(), groups.end(),
                                    [&](const Group& group) { return group.kind == kind_[i]; });
    if (known != groups.end())
      ++known->count;
    else
      groups.push_back({kind_[i], 1, 0});
  }
  return groups;
}

std::vector<std::int64_t> StageKnapsack::workspaces(const std::vector<Group>& groups) const {
  std::vector<std::int64_t> values;
  for (const Group& group : groups) {
    for (const PartitionOption& option : kinds_[group.kind]) values.push_back(option.workspace);
  }
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

bool StageKnapsack::allow(std::vector<Group>& groups, std::int64_t workspace) const {
  for (Group& group : groups) {
    group.mask = 0;
    const auto& options = kinds_[group.kind];
    for (std::size_t k = 0; k < options.size(); ++k) {
      if (options[k].workspace <= workspace) group.mask |= 1U << k;
    }
    if (group.mask == 0) return false;
  }
  return true;
}

std::int64_t StageKnapsack::least_bytes(std::size_t begin, std::size_t end,
                                        std::int64_t in_flight) const {
  std::vector<Group> groups = groups_of(begin, end);
  std::int64_t least = kInfeasible;
  for (const std::int64_t workspace : workspaces(groups)) {
    if (!allow(groups, workspace)) continue;
    std::int64_t saved = 0;
    for (const Group& group : groups) {
      saved += static_cast<std::int64_t>(group.count) * least_saved(kinds_[group.kind], group.mask);
    }
    least = std::min(least, workspace + in_flight * saved);
  }
  return least + state_.bytes(begin, end);
}

const StageKnapsack::Front& StageKnapsack::front(const Group& group) {
  std::vector<Front>& fronts = fronts_[{group.kind, group.mask}];
  if (fronts.empty()) fronts.push_back({Point{}});
  const auto& options = kinds_[group.kind];
  while (fronts.size() <= group.count) {
    const Front& last = fronts.back();
    Front next;
    next.reserve(last.size() * options.size());
    for (std::size_t k = 0; k < options.size(); ++k) {
      if ((group.mask >> k & 1U) == 0) continue;
      for (std::size_t i = 0; i < last.size(); ++i) {
        next.push_back({last[i].saved + options[k].saved, last[i].time + options[k].time,
                        static_cast<std::uint32_t>(k), static_cast<std::uint32_t>(i)});
      }
    }
    keep_pareto(next);
    fronts.push_back(std::move(next));
  }
  return fronts[group.count];
}

std::int64_t StageKnapsack::combine(const std::vector<Group>& groups, std::int64_t budget) {
  std::vector<std::vector<SavedTime>> fronts;
  for (const Group& group : groups) {
    std::vector<SavedTime> points;
    for (const Point& point : front(group)) {
      if (point.saved > budget) break;
      points.push_back({point.saved, point.time});
    }
    if (points.empty()) return kInfeasible;
    fronts.push_back(std::move(points));
  }
  if (fronts.size() == 1) return fronts[0].back().time;
  const auto smaller = [](const auto& a, const auto& b) { return a.size() > b.size(); };
  while (fronts.size() > 2) {
    std::sort(fronts.begin(), fronts.end(), smaller);
    const std::vector<SavedTime> a = std::move(fronts.back());
    fronts.pop_back();
    std::vector<SavedTime> merged;
    merged.reserve(a.size() * fronts.back().size());
    for (const SavedTime& x : a) {
      for (const SavedTime& y : fronts.back()) {
        if (x.saved + y.saved > budget) break;
        merged.push_back({x.saved + y.saved, x.time + y.time});
      }
    }
    keep_pareto(merged);
    if (merged.empty()) return kInfeasible;
    fronts.back() = std::move(merged);
  }
  std::int64_t best = kInfeasible;
  auto other = fronts[1].rbegin();
  for (const SavedTime& point : fronts[0]) {
    while (other != fronts[1].rend() && point.saved + other->saved > budget) ++other;
    if (other == fronts[1].rend()) break;
    best = std::min(best, point.time + other->time);
  }
  return best;
}

StageKnapsack::Choice StageKnapsack::best_choice(std::size_t begin, std::size_t end,
                                                 std::int64_t in_flight) {
  const std::int64_t room = problem_.capacity - state_.bytes(begin, end);
  std::vector<Group> groups = groups_of(begin, end);
  Choice best;
  for (const std::int64_t workspace : workspaces(groups)) {
    if (workspace > room) break;
    if (!allow(groups, workspace)) continue;
    const std::int64_t budget = (room - workspace) / in_flight;
    std::int64_t time = 0, saved = 0, at_least = 0;
    for (const Group& group : groups) {
      const auto count = static_cast<std::int64_t>(group.count);
      const PartitionOption& option = fastest(kinds_[group.kind], group.mask);
      time += count * option.time;
      saved += count * option.saved;
      at_least += count * least_saved(kinds_[group.kind], group.mask);
    }
    if (time >= best.time || at_least > budget) continue;
    if (saved > budget) time = combine(groups, budget);
    if (time < best.time) best = {time, budget, groups};
  }
  return best;
}

std::int64_t StageKnapsack::least_time(std::size_t begin, std::size_t end, std::int64_t in_flight) {
  return best_choice(begin, end, in_flight).time;
}

bool StageKnapsack::pick(const std::vector<Group>& groups, std::size_t first, std::int64_t budget,
                         std::int64_t time, std::vector<std::size_t>& points) {
  const Front& mine = front(groups[first]);
  if (first + 1 == groups.size()) {
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (mine[i].time == time && mine[i].saved <= budget) {
        points[first] = i;
        return true;
      }
    }
    return false;
  }
  const std::vector<Group> rest(groups.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                                groups.end());
  for (std::size_t i = 0; i < mine.size() && mine[i].saved <= budget; ++i) {
    if (combine(rest, budget - mine[i].saved) != time - mine[i].time) continue;
    points[first] = i;
    return pick(groups, first + 1, budget - mine[i].saved, time - mine[i].time, points);
  }
  return false;
}

void StageKnapsack::choose(std::size_t begin, std::size_t end, std::int64_t in_flight,
                           std::vector<std::size_t>& option) {
  const Choice best = best_choice(begin, end, in_flight);
  GIMBAL_CHECK(best.time != kInfeasible, "no choice for a stage that was found to fit");
  std::vector<std::size_t> points(best.groups.size());
  GIMBAL_CHECK(pick(best.groups, 0, best.budget, best.time, points), "the choice is lost");
  for (std::size_t g = 0; g < best.groups.size(); ++g) {
    const Group& group = best.groups[g];
    const std::vector<Front>& fronts = fronts_[{group.kind, group.mask}];
    std::vector<std::size_t> chosen;
    std::size_t at = points[g];
    for (std::size_t count = group.count; count > 0; --count) {
      const Point& point = fronts[count][at];
      chosen.push_back(point.option);
      at = point.before;
    }
    // Equal blocks are told apart by their place only: those in front save most.
    std::sort(chosen.begin(), chosen.end(), [&](std::size_t a, std::size_t b) {
      const auto& options = kinds_[group.kind];
      return options[a].saved != options[b].saved ? options[a].saved < options[b].saved : a < b;
    });
    std::size_t next = 0;
    for (std::size_t i = begin; i < end; ++i) {
      if (kind_[i] == group.kind) option[i] = chosen[next++];
    }
  }
}

}  // namespace gimbal
