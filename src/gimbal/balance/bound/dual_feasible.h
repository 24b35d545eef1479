// Dual feasible functions: rounding of demands that no pack can see through.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace gimbal {

/// The demands of the samples in one limit. Every demand is at most the cap.
class DemandHistogram {
 public:
  __extension__ using Wide = unsigned __int128;

  /// `counts`: (demand, number of samples), ascending by demand.
  DemandHistogram(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& counts,
                  std::uint64_t cap);

  std::uint64_t cap() const { return cap_; }
  /// Distinct demands, ascending.
  const std::vector<std::uint64_t>& demands() const { return demands_; }
  /// Number of samples of the i-th distinct demand.
  std::uint64_t count_at(std::size_t i) const { return counts_[i + 1] - counts_[i]; }
  /// Number of samples of less than `demand`.
  std::uint64_t count_below(std::uint64_t demand) const;
  std::uint64_t count() const { return counts_.back(); }
  /// Total demand.
  Wide volume() const { return volume_; }

 private:
  std::uint64_t cap_;
  std::vector<std::uint64_t> demands_;
  std::vector<std::uint64_t> counts_;  // [i]: samples of the first i demands
  Wide volume_ = 0;
};

/// A lower bound on the packs that the demands need. A function f is dual feasible when demands
/// that add up to at most the cap have f that add up to at most 1; so the sum of f over all samples
/// is a bound. The largest of volume and four families of such functions. Its time does not depend
/// on the number of samples, and but for one pass not on the number of distinct demands.
std::uint64_t dual_feasible_bound(const DemandHistogram& histogram);

}  // namespace gimbal
