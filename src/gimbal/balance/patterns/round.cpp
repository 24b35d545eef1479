#include "gimbal/balance/patterns/round.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "gimbal/balance/patterns/master.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// What is left when it fills about this many packs is better packed sample by sample.
constexpr double kRestPacks = 2;

class PatternRounding {
 public:
  PatternRounding(std::span<const PatternColumn> columns, std::span<const std::uint64_t> demand)
      : columns_(columns), left_(demand.begin(), demand.end()), use_(columns.size()) {
    std::vector<bool> covered(demand.size());
    for (const PatternColumn& column : columns) {
      for (const TypeCount& entry : column) covered[entry.type] = true;
    }
    for (std::size_t t = 0; t < demand.size(); ++t) {
      if (!covered[t]) left_[t] = 0;
    }
  }

  std::vector<std::uint64_t> run() {
    std::vector<double> demand(left_.begin(), left_.end());
    MasterProblem master(demand, MasterProblem::Changes::kDemand);
    master.add_columns(columns_);
    while (master.solve() > kRestPacks) {
      if (!take(master.use())) break;
      demand.assign(left_.begin(), left_.end());
      master.set_demand(demand);
    }
    return std::move(use_);
  }

 private:
  // Serves up to `times` packs of a column.
  void take_column(std::size_t column, std::uint64_t times) {
    for (const TypeCount& entry : columns_[column])
      left_[entry.type] -= std::min(left_[entry.type], times * entry.count);
    use_[column] += times;
  }

  // Whether enough is left for one more full use of the column.
  bool whole(const PatternColumn& column) const {
    return std::all_of(column.begin(), column.end(),
                       [&](const TypeCount& entry) { return left_[entry.type] >= entry.count; });
  }

  // Takes the whole parts; when there are none, the columns that are nearest to one.
  bool take(const std::vector<double>& use) {
    constexpr double kNearlyWhole = 1e-6;
    bool any = false;
    for (std::size_t c = 0; c < use.size(); ++c) {
      const double whole = std::floor(use[c] + kNearlyWhole);
      if (whole < 1) continue;
      take_column(c, static_cast<std::uint64_t>(whole));
      any = true;
    }
    if (any) return true;
    std::vector<std::size_t> order(use.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return use[a] > use[b]; });
    // A tenth of the open columns at a time, so that the program can correct what they leave. Those
    // that the rest of the demand fills come first.
    std::size_t open = 0;
    while (open < order.size() && use[order[open]] > kNearlyWhole) ++open;
    std::size_t taken = 0;
    for (std::size_t i = 0; i < open && taken < open / 10 + 1; ++i) {
      if (!whole(columns_[order[i]])) continue;
      take_column(order[i], 1);
      ++taken;
    }
    return taken > 0;
  }

  std::span<const PatternColumn> columns_;
  std::vector<std::uint64_t> left_;
  std::vector<std::uint64_t> use_;
};

}  // namespace

std::vector<std::uint64_t> whole_patterns(std::span<const PatternColumn> columns,
                                          std::span<const std::uint64_t> demand) {
  return PatternRounding(columns, demand).run();
}

}  // namespace gimbal
