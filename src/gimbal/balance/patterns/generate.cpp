#include "gimbal/balance/patterns/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <set>

#include "gimbal/balance/patterns/master.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// A price of 1 in the whole numbers of the knapsack: sums stay below 2^31 up to a pattern value of
// 64.
constexpr double kPriceUnit = 1 << 25;
// Share of the best known prices in the ones that are tried (Wentges 1997): damps the swings of the
// prices between iterations.
constexpr double kSmoothing = 0.6;

class ColumnGenerator {
 public:
  ColumnGenerator(const PatternProblem& problem, const ColumnOptions& options)
      : problem_(problem),
        options_(options),
        knapsack_(problem.cells, problem.caps),
        master_(problem.demand, MasterProblem::Changes::kColumns),
        start_(std::chrono::steady_clock::now()) {}

  GeneratedPatterns run(std::vector<PatternColumn> start) {
    const std::size_t num_types = problem_.demand.size();
    for (std::uint32_t type = 0; type < num_types; ++type) start.push_back(filled_with(type));
    add(start);
    std::vector<double> best_prices;
    double first_gap = 0;
    while (true) {
      result_.value = master_.solve();
      const std::vector<double>& prices = master_.prices();
      std::vector<double> tried = prices;
      if (!best_prices.empty()) {
        for (std::size_t t = 0; t < num_types; ++t)
          tried[t] = kSmoothing * best_prices[t] + (1 - kSmoothing) * prices[t];
      }
      bool added = price(tried, prices, best_prices);
      // Smoothed prices may miss; the true ones decide.
      if (!added) added = price(prices, prices, best_prices);
      const double gap = (result_.value - result_.bound) / std::max(result_.value, 1e-9);
      first_gap = std::max(first_gap, gap);
      result_.complete = !added || gap <= options_.gap;
      ++rounds_;
      if (result_.complete || stalled() || rounds_ >= options_.max_rounds ||
          result_.bound > options_.enough || result_.value < options_.hopeless ||
          stop(gap, first_gap))
        break;
    }
    // The last columns are not in the solution yet.
    result_.value = master_.solve();
    result_.use = master_.use();
    return std::move(result_);
  }

 private:
  // As many of one type as fit.
  PatternColumn filled_with(std::uint32_t type) const {
    const std::size_t dims = problem_.caps.size();
    std::uint32_t count = std::numeric_limits<std::uint32_t>::max();
    for (std::size_t d = 0; d < dims; ++d) {
      const std::uint32_t cell = problem_.cells[type * dims + d];
      if (cell > 0) count = std::min(count, problem_.caps[d] / cell);
    }
    return {{type, count}};
  }

  void add(const std::vector<PatternColumn>& columns) {
    std::vector<PatternColumn> fresh;
    for (const PatternColumn& column : columns) {
      if (known_.insert(key(column)).second) fresh.push_back(column);
    }
    master_.add_columns(fresh);
    for (PatternColumn& column : fresh) result_.columns.push_back(std::move(column));
  }

  static std::vector<std::uint32_t> key(const PatternColumn& column) {
    std::vector<std::uint32_t> key;
    for (const TypeCount& entry : column) {
      key.push_back(entry.type);
      key.push_back(entry.count);
    }
    return key;
  }

  // Looks for patterns at the prices `tried` and adds those that are worth more than 1 at the true
  // prices. Improves the bound. False when none was found.
  bool price(const std::vector<double>& tried, const std::vector<double>& prices,
             std::vector<double>& best_prices) {
    const std::size_t num_types = problem_.demand.size();
    std::vector<std::int32_t> values(num_types);
    const double most = *std::max_element(tried.begin(), tried.end());
    const double unit = kPriceUnit / std::max(1.0, most);
    for (std::size_t t = 0; t < num_types; ++t)
      values[t] = static_cast<std::int32_t>(tried[t] * unit);
    const auto best = static_cast<double>(knapsack_.solve(values));
    if (best <= 0) return false;
    double worth = 0;
    for (std::size_t t = 0; t < num_types; ++t) worth += problem_.demand[t] * values[t];
    if (worth / best > result_.bound) {
      result_.bound = worth / best;
      best_prices.resize(num_types);
      for (std::size_t t = 0; t < num_types; ++t) best_prices[t] = values[t] / best;
    }
    std::vector<std::pair<double, PatternColumn>> found;
    for (std::uint32_t t = 0; t < num_types; ++t) {
      if (problem_.demand[t] <= 0) continue;
      // Only patterns near the best are worth tracing.
      if (static_cast<double>(knapsack_.value_with(t)) < 0.9 * best) continue;
      PatternColumn column = knapsack_.pattern_with(t);
      double value = 0;
      for (const TypeCount& entry : column) value += entry.count * prices[entry.type];
      if (value > 1 + 1e-6 && !known_.contains(key(column)))
        found.emplace_back(value, std::move(column));
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<PatternColumn> columns;
    for (auto& [value, column] : found) {
      columns.push_back(std::move(column));
      if (columns.size() >= std::max<std::size_t>(50, num_types / 2)) break;
    }
    add(columns);
    return !columns.empty();
  }

  bool stalled() {
    values_.push_back(result_.value);
    const auto back = static_cast<std::size_t>(options_.stall_rounds);
    if (back == 0 || values_.size() <= back) return false;
    return values_[values_.size() - 1 - back] - result_.value < options_.gap / 4 * result_.value;
  }

  bool stop(double gap, double first_gap) const {
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    if (seconds > options_.max_seconds) return true;
    if (!options_.progress) return false;
    // The gap falls by roughly equal factors.
    const double whole = std::log(std::max(first_gap / options_.gap, 1.001));
    return !options_.progress(1.0 - std::log(std::max(gap / options_.gap, 1.0)) / whole);
  }

  const PatternProblem& problem_;
  const ColumnOptions& options_;
  Knapsack knapsack_;
  MasterProblem master_;
  std::chrono::steady_clock::time_point start_;
  std::set<std::vector<std::uint32_t>> known_;
  std::vector<double> values_;  // of the rounds so far
  int rounds_ = 0;
  GeneratedPatterns result_;
};

}  // namespace

GeneratedPatterns generate_patterns(const PatternProblem& problem, std::vector<PatternColumn> start,
                                    const ColumnOptions& options) {
  GIMBAL_CHECK(!problem.demand.empty());
  return ColumnGenerator(problem, options).run(std::move(start));
}

}  // namespace gimbal
