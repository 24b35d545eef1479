// Patterns: how many samples of each type fill a pack (cutting stock), solved once per data set and
// caps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"
#include "gimbal/balance/patterns/grid.h"
#include "gimbal/balance/patterns/knapsack.h"
#include "gimbal/balance/patterns/types.h"

namespace gimbal {

struct PatternOptions {
  /// Column generation stops after this many rounds; the patterns found so far are kept. A number
  /// and not a time, so that every rank finds the same.
  int max_rounds = 80;
  /// It stops after this time too; then other machines may find other patterns.
  double max_seconds = std::numeric_limits<double>::infinity();
  /// Whether the result is empty when window_packs needs fewer packs, by a trial.
  bool compare = true;
  /// Called now and then with the share of the work that is done, in [0, 1]. Returning false stops
  /// early.
  std::function<bool(double)> progress;
};

/// The patterns of a data set under caps. Empty when the heuristic packs the samples better.
struct PatternSet {
  std::vector<std::uint64_t> caps;  // of the limits, in order
  std::vector<std::string> kinds;   // PackLimits::kind of each
  std::vector<std::string> names;   // PackLimits::given_name of each
  PatternGrid grid;
  TypeTree tree;
  /// Patterns over the tree's types. Any choice of samples of these types fits into a pack, as long
  /// as none demands more than its type's `high`.
  std::vector<PatternColumn> patterns;
  /// Per type the number of samples that the patterns were solved for, and per pattern how often it
  /// is used for them.
  std::vector<std::uint64_t> demand;
  std::vector<std::uint64_t> use;
  double lp_value = 0;    // packs by the linear program over all patterns of these types
  bool complete = false;  // false: stopped before lp_value was proven to be within 0.01 %
  double seconds = 0;     // that solving took

  bool empty() const { return patterns.empty(); }
  /// Whether the patterns were solved for these limits: the same streams, caps and costs. Names are
  /// compared where both have them.
  bool fits(const PackLimits& limits) const;
  /// Equal for equal patterns: what ranks compare. Does not depend on `seconds`.
  std::uint64_t fingerprint() const;
};

/// The set that says: window_packs packs these samples better.
PatternSet no_patterns(const PackLimits& limits);

/// Solves the patterns for the samples in `order`, which must be in a random order. Empty when
/// window_packs needs fewer packs, or when sizes are too many-sided for patterns. Deterministic but
/// for max_seconds.
PatternSet solve_patterns(const PackLimits& limits, std::span<const std::uint32_t> order,
                          const PatternOptions& options = {});

/// Writes and reads a pattern file (docs/balance.md). Writing is atomic. Reading throws UserError
/// for a file that is damaged or of another version.
void save_patterns(const PatternSet& patterns, const std::filesystem::path& file);
PatternSet load_patterns(const std::filesystem::path& file);

/// Packs `order` by drawing real samples into the patterns at random; what the patterns leave over
/// is packed by window_packs. No cap is exceeded and every entry is in exactly one pack. Linear in
/// the number of samples when the numbers per type are those that the patterns were solved for;
/// else a small linear program comes before. Throws UserError when the patterns are of other caps.
Packs pattern_packs(const PatternSet& patterns, const PackLimits& limits,
                    std::span<const std::uint32_t> order);

}  // namespace gimbal
