#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/pack/methods.h"
#include "gimbal/balance/patterns/generate.h"
#include "gimbal/balance/patterns/grid.h"
#include "gimbal/balance/patterns/pattern_set.h"
#include "gimbal/balance/patterns/round.h"
#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

// Measured on real lengths: more types come no nearer to the bound than 0.1 %, and take longer.
constexpr std::size_t kMaxTypes = 384;
// Members of a type, on average: few would meet the same companions in every epoch.
constexpr std::size_t kTypeMembers = 32;
constexpr std::size_t kMaxStates = 1 << 16;
// Columns that are kept for epochs with other numbers of samples, per type.
constexpr std::size_t kKeptColumns = 4;
// Samples on which the heuristic is tried.
constexpr std::size_t kTrialSamples = 1 << 16;
constexpr double kTrialMargin = 5e-4;
constexpr double kNegligible = 2e-4;
constexpr int kStallRounds = 8;
// Types that are coarser than this lose more than the heuristic does.
constexpr double kMaxRoundingLoss = 0.01;

// Keeps the columns in use, and others up to a number, the latest first: they come from the best
// prices.
std::vector<PatternColumn> useful_columns(GeneratedPatterns& found, std::size_t num_types) {
  std::vector<bool> keep(found.columns.size());
  std::size_t kept = 0;
  for (std::size_t c = 0; c < keep.size(); ++c) {
    if (found.use[c] > 0) {
      keep[c] = true;
      ++kept;
    }
  }
  for (std::size_t c = keep.size(); c-- > 0 && kept < kKeptColumns * num_types;) {
    if (keep[c]) continue;
    keep[c] = true;
    ++kept;
  }
  std::vector<PatternColumn> columns;
  for (std::size_t c = 0; c < keep.size(); ++c) {
    if (keep[c]) columns.push_back(std::move(found.columns[c]));
  }
  return columns;
}

// One-by-one packing of the samples, or of a part where they are many: what patterns compete with.
struct SearchTrial {
  std::span<const std::uint32_t> samples;
  bool of_all;
  double packs;
};

SearchTrial try_search(const PackLimits& limits, std::span<const std::uint32_t> order) {
  const auto some = order.first(std::min(order.size(), kTrialSamples));
  return {some, some.size() == order.size(),
          static_cast<double>(window_packs(limits, some).size())};
}

// Whether all samples are packed at the bound one by one: nothing is left to gain.
bool search_suffices(const SearchTrial& search, const PackLimits& limits) {
  if (!search.of_all) return false;
  const auto bound = static_cast<double>(fast_lower_bound(limits, search.samples));
  return search.packs <= bound * (1 + kNegligible);
}

// Whether one-by-one packing needs fewer packs. On a part of the samples the patterns' left-overs
// weigh more than on all; it has to be clearly better there.
bool search_is_better(const SearchTrial& search, const PatternSet& set, const PackLimits& limits) {
  const double margin = search.of_all ? 0 : kTrialMargin;
  const auto by_patterns = static_cast<double>(pattern_packs(set, limits, search.samples).size());
  return search.packs < by_patterns * (1 - margin);
}

}  // namespace

PatternSet no_patterns(const PackLimits& limits) {
  PatternSet set;
  for (int l = 0; l < limits.count(); ++l) {
    set.caps.push_back(limits.cap(l));
    set.kinds.push_back(limits.kind(l));
    set.names.push_back(limits.given_name(l));
  }
  return set;
}

PatternSet solve_patterns(const PackLimits& limits, std::span<const std::uint32_t> order,
                          const PatternOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  PatternSet set = no_patterns(limits);
  if (order.empty()) return set;
  std::optional<SearchTrial> search;
  if (options.compare) search = try_search(limits, order);
  if (search && search_suffices(*search, limits)) return set;
  set.grid = choose_grid(limits, order, kMaxStates);
  set.tree = build_types(limits, order, set.grid.units,
                         std::clamp<std::size_t>(order.size() / kTypeMembers, 1, kMaxTypes));
  set.demand = type_samples(set.tree, limits, order).demand;
  const GridProblem grid = grid_problem(set.tree, set.grid, set.demand, Rounding::kUp);
  if (!grid.types.empty() &&
      (!options.compare || rounding_loss(set.tree, set.demand, limits, order) < kMaxRoundingLoss)) {
    ColumnOptions generate;
    generate.max_rounds = options.max_rounds;
    generate.max_seconds = options.max_seconds;
    generate.stall_rounds = kStallRounds;
    generate.progress = options.progress;
    GeneratedPatterns found = generate_patterns(grid.problem, {}, generate);
    set.lp_value = found.value;
    set.complete = found.complete;
    set.patterns = name_types(useful_columns(found, grid.types.size()), grid.types);
    set.use = whole_patterns(set.patterns, set.demand);
    if (search && search_is_better(*search, set, limits)) set.patterns.clear();
  }
  if (set.patterns.empty()) set = no_patterns(limits);
  set.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return set;
}

}  // namespace gimbal
