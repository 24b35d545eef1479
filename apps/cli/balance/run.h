// Packs with one method or all of them, and keeps what is shown of the result.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "apps/cli/balance/arguments.h"
#include "apps/cli/balance/setup.h"
#include "gimbal/balance/bound/lp.h"
#include "gimbal/balance/report.h"

namespace gimbal::cli {

/// One method's packs of the epoch and their figures.
struct MethodResult {
  PackMethod method;
  std::unique_ptr<Sampler> sampler;
  const Packs* packs;  // the sampler's, in the order in which they are run
  BalanceReport report;
  std::uint64_t samples_per_group = 0;  // of the padded methods
};

struct BalanceResult {
  std::vector<MethodResult> methods;        // the chosen one first
  std::optional<std::uint64_t> fast_bound;  // nothing when no method that keeps to the caps ran
  std::optional<LpBound> lp_bound;
  double bound_seconds = 0;                    // of the LP
  std::shared_ptr<const PatternSet> patterns;  // when gimbal ran
  bool patterns_loaded = false;                // from the file
  double pattern_seconds = 0;                  // solving or loading
  std::vector<std::uint64_t> source_counts;    // drawn per source
  std::uint64_t peak_bytes = 0;                // of packing with the chosen method, above the input

  const MethodResult& chosen() const { return methods.front(); }
  /// The first method that keeps to the caps; these all pack the same samples. Null: none ran.
  const MethodResult* capped() const;
  /// The best bound found on their packs.
  std::optional<std::uint64_t> bound() const;
  /// Which bound that is: "lp", or "fast" where the LP's is no higher.
  const char* bound_name() const;
  /// packs / bound - 1; nothing where caps do not apply or nothing is packed.
  std::optional<double> gap(const MethodResult& method) const;
};

/// Runs the chosen method, and the others when they are asked for (`random` also for a plot). Keeps
/// the pattern file.
BalanceResult run_methods(const BalanceArguments& arguments, const BalanceSetup& setup);

}  // namespace gimbal::cli
