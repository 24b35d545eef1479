#include "gimbal/balance/bound/lp.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/patterns/generate.h"
#include "gimbal/balance/patterns/grid.h"
#include "gimbal/balance/patterns/types.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// Coarse types give a good bound at once and the patterns to start the fine ones from.
constexpr std::size_t kTypeSteps[] = {256, 1024};
constexpr std::size_t kBoundStates = 1 << 16;
// The bound is exact but for a division: a pack is never claimed for its rounding error.
constexpr double kSlack = 1e-3;

LpEnd end_of(const GeneratedPatterns& found, const ColumnOptions& options) {
  if (found.complete) return LpEnd::kSolved;
  if (found.bound > options.enough) return LpEnd::kMetKnown;
  return found.value < options.hopeless ? LpEnd::kBelowFast : LpEnd::kStopped;
}

}  // namespace

LpBound lp_lower_bound(const PackLimits& limits, std::span<const std::uint32_t> order,
                       double max_seconds, std::uint64_t known_packs,
                       const std::function<bool(double)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  LpBound bound;
  bound.packs = fast_lower_bound(limits, order);
  // Entries that do not fit alone are a pack each.
  std::vector<std::uint32_t> fitting;
  fitting.reserve(order.size());
  for (const std::uint32_t sample : order) {
    if (limits.fits_alone(sample)) fitting.push_back(sample);
  }
  const auto alone = static_cast<double>(order.size() - fitting.size());
  if (fitting.empty() || bound.packs == known_packs) {
    bound.end = bound.packs == known_packs ? LpEnd::kMetKnown : LpEnd::kSolved;
    return bound;
  }
  const PatternGrid cells = choose_grid(limits, fitting, kBoundStates);
  constexpr auto kSteps = static_cast<double>(std::size(kTypeSteps));
  for (std::size_t step = 0; step < std::size(kTypeSteps); ++step) {
    if (seconds() >= max_seconds) {
      bound.end = LpEnd::kStopped;
      break;
    }
    const TypeTree tree = build_types(limits, fitting, cells.units, kTypeSteps[step]);
    const std::vector<std::uint64_t> demand = type_samples(tree, limits, fitting).demand;
    const GridProblem grid = grid_problem(tree, cells, demand, Rounding::kDown);
    if (grid.types.empty()) {  // nothing has rows
      bound.end = LpEnd::kSolved;
      break;
    }
    ColumnOptions options;
    options.max_seconds = max_seconds - seconds();
    if (known_packs > 0) options.enough = static_cast<double>(known_packs) - 1 + kSlack - alone;
    options.hopeless = static_cast<double>(bound.packs) - alone;
    if (progress) {
      options.progress = [&](double share) {
        return progress((static_cast<double>(step) + share) / kSteps);
      };
    }
    const GeneratedPatterns found = generate_patterns(grid.problem, {}, options);
    bound.value = std::max(bound.value, found.bound + alone);
    bound.end = end_of(found, options);
    const double whole = std::ceil(bound.value - kSlack);
    bound.packs = std::max(bound.packs, static_cast<std::uint64_t>(whole));
    if (bound.packs == known_packs) bound.end = LpEnd::kMetKnown;
    if (bound.end == LpEnd::kMetKnown || bound.end == LpEnd::kStopped ||
        tree.num_types() < kTypeSteps[step]) {
      break;
    }
  }
  bound.seconds = seconds();
  return bound;
}

}  // namespace gimbal
