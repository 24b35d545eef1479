// Each family is the classical one, of which the source holds the proof; all are evaluated as step
// functions: the samples between two steps are counted in the histogram.
#include "gimbal/balance/bound/dual_feasible.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

using Wide = DemandHistogram::Wide;

// Steps per function: beyond about a hundred, or the number of samples, the functions are close to
// volume.
constexpr std::uint64_t kMostShares = 100;
// Where a family has a function per demand, so many of them are tried.
constexpr std::size_t kMostThresholds = 256;

std::uint64_t ceil_divide(Wide a, Wide b) { return static_cast<std::uint64_t>((a + b - 1) / b); }

// u^(k) (Fekete and Schepers 2001): with x the share of the cap, x when (k+1) x is whole, else
// floor((k+1) x) / k. k = 1 counts samples that pairwise cannot share a pack, k = 2 those of which
// no three can, and so on.
std::uint64_t share_bound(const DemandHistogram& histogram, std::uint64_t k) {
  const Wide cap = histogram.cap();
  Wide total = 0;  // in units of 1 / (k (k+1))
  for (std::uint64_t j = 1; j <= k + 1; ++j) {
    const auto step = static_cast<std::uint64_t>(cap * j / (k + 1));
    const bool whole = cap * j % (k + 1) == 0;
    const std::uint64_t below = histogram.count_below(whole ? step : step + 1);
    const std::uint64_t up_to = histogram.count_below(step + 1);
    total += Wide(up_to - below) * j * k;
    if (j == k + 1) break;  // no demand is above the cap
    const auto next = static_cast<std::uint64_t>((cap * (j + 1) + k) / (k + 1));
    total += Wide(histogram.count_below(next) - up_to) * j * (k + 1);
  }
  return ceil_divide(total, Wide(k) * (k + 1));
}

// The second function of Vanderbeck (2000) made symmetric (Clautiaux, Alves and Valerio de Carvalho
// 2010, f_VB,2): below half the cap max(0, ceil(k x) - 1) / (k - 1), at half 1/2, above it 1 - f(1
// - x).
std::uint64_t vanderbeck_bound(const DemandHistogram& histogram, std::uint64_t k) {
  const Wide cap = histogram.cap();
  const std::uint64_t upper_half = histogram.cap() / 2 + 1;    // the first demand above half
  const std::uint64_t lower_half = (histogram.cap() + 1) / 2;  // the first one not below it
  const std::uint64_t large = histogram.count() - histogram.count_below(upper_half);
  const std::uint64_t halves =
      histogram.count_below(upper_half) - histogram.count_below(lower_half);
  // In units of 1 / (2 (k - 1)). ceil(k x) - 1 >= j when x > j / k.
  Wide total = Wide(halves) * (k - 1) + Wide(large) * 2 * (k - 1);
  for (std::uint64_t j = 1; 2 * j < k; ++j) {
    const auto step = static_cast<std::uint64_t>(cap * j / k);  // x > step
    if (step + 1 < lower_half) {
      total += Wide(histogram.count_below(lower_half) - histogram.count_below(step + 1)) * 2;
    }
    // The mirror image: C - x > j C / k.
    const auto mirror = static_cast<std::uint64_t>((cap * (k - j) + k - 1) / k);  // x < mirror
    if (mirror > upper_half) {
      total -= Wide(histogram.count_below(mirror) - histogram.count_below(upper_half)) * 2;
    }
  }
  return ceil_divide(total, Wide(2) * (k - 1));
}

// phi^(e) (Fekete and Schepers 2001) as improved by Carlier, Clautiaux and Moukrim (2007, f_2):
// below half the cap floor(x / e) / floor(C / e), at half 1/2, above it 1 - f(C - x).
std::uint64_t multiple_bound(const DemandHistogram& histogram, std::uint64_t e) {
  const std::uint64_t cap = histogram.cap();
  const std::uint64_t most = cap / e;
  const std::uint64_t upper_half = cap / 2 + 1;
  const std::uint64_t lower_half = (cap + 1) / 2;
  const std::uint64_t small = histogram.count_below(lower_half);
  const std::uint64_t up_to_half = histogram.count_below(upper_half);
  // In units of 1 / (2 floor(C / e)).
  Wide total = Wide(up_to_half - small) * most + Wide(histogram.count() - up_to_half) * 2 * most;
  for (std::uint64_t step = e; step < lower_half; step += e) {
    total += Wide(small - histogram.count_below(step)) * 2;
    if (cap - step >= upper_half) {
      total -= Wide(histogram.count_below(cap - step + 1) - up_to_half) * 2;
    }
  }
  return ceil_divide(total, Wide(2) * most);
}

// U^(e) (Fekete and Schepers 2001; Martello and Toth 1990, L2): demands below e count as nothing,
// those above C - e as a whole pack. All e that can be best: the demands up to half the cap, and
// half.
std::uint64_t threshold_bound(const DemandHistogram& histogram) {
  const std::uint64_t cap = histogram.cap();
  std::uint64_t best = 0;
  const auto& demands = histogram.demands();
  Wide small = 0;                      // volume below e
  Wide large = histogram.volume();     // volume up to C - e
  std::uint64_t whole = 0;             // number above C - e
  std::size_t above = demands.size();  // first demand above C - e
  const auto look = [&](std::uint64_t e) {
    while (above > 0 && demands[above - 1] > cap - e) {
      --above;
      const std::uint64_t number = histogram.count_at(above);
      whole += number;
      large -= Wide(number) * demands[above];
    }
    best = std::max(best, ceil_divide(large - small + Wide(whole) * cap, cap));
  };
  for (std::size_t i = 0; i < demands.size() && demands[i] <= cap / 2; ++i) {
    look(demands[i]);
    small += Wide(histogram.count_at(i)) * demands[i];
  }
  look(cap / 2);
  return best;
}

// Where phi's steps are worth trying: the demands and what they leave, and even shares of the cap.
std::vector<std::uint64_t> multiple_candidates(const DemandHistogram& histogram,
                                               std::uint64_t shares) {
  const std::uint64_t cap = histogram.cap();
  std::vector<std::uint64_t> candidates;
  if (cap / 2 <= 2 * kMostThresholds) {
    for (std::uint64_t e = 1; e <= cap / 2; ++e) candidates.push_back(e);
  } else {
    for (std::uint64_t m = 2; m <= shares; ++m) {
      candidates.push_back(cap / m);
      candidates.push_back(cap / m + 1);
    }
    const auto& demands = histogram.demands();
    for (std::size_t i = 0; i < kMostThresholds; ++i) {
      const std::uint64_t demand = demands[i * demands.size() / kMostThresholds];
      candidates.push_back(demand <= cap / 2 ? demand : cap - demand + 1);
    }
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  }
  std::erase_if(candidates, [cap, shares](std::uint64_t e) {
    return e == 0 || e > cap / 2 || cap / e > 4 * shares;
  });
  return candidates;
}

}  // namespace

DemandHistogram::DemandHistogram(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& counts,
                                 std::uint64_t cap)
    : cap_(cap), counts_{0} {
  for (const auto& [demand, count] : counts) {
    GIMBAL_CHECK_LE(demand, cap, "demand above the cap");
    if (demands_.empty() || demands_.back() != demand) {
      GIMBAL_CHECK(demands_.empty() || demands_.back() < demand, "demands must ascend");
      demands_.push_back(demand);
      counts_.push_back(counts_.back());
    }
    counts_.back() += count;
    volume_ += Wide(demand) * count;
  }
}

std::uint64_t DemandHistogram::count_below(std::uint64_t demand) const {
  const auto at = std::lower_bound(demands_.begin(), demands_.end(), demand);
  return counts_[static_cast<std::size_t>(at - demands_.begin())];
}

std::uint64_t dual_feasible_bound(const DemandHistogram& histogram) {
  if (histogram.count() == 0) return 0;
  std::uint64_t bound =
      std::max<std::uint64_t>(1, ceil_divide(histogram.volume(), histogram.cap()));
  if (histogram.volume() <= histogram.cap()) return 1;
  bound = std::max(bound, threshold_bound(histogram));
  const std::uint64_t shares = std::min(kMostShares, histogram.count() + 4);
  for (std::uint64_t k = 1; k <= shares; ++k) {
    bound = std::max(bound, share_bound(histogram, k));
    if (k > 1) bound = std::max(bound, vanderbeck_bound(histogram, k));
  }
  for (const std::uint64_t e : multiple_candidates(histogram, shares)) {
    bound = std::max(bound, multiple_bound(histogram, e));
  }
  return bound;
}

}  // namespace gimbal
