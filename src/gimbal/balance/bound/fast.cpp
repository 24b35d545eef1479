#include "gimbal/balance/bound/fast.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "gimbal/balance/bound/dual_feasible.h"

namespace gimbal {
namespace {

using DemandCounts = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

// Demands below this are counted in a table, larger ones are sorted.
constexpr std::uint64_t kTableSize = std::uint64_t{1} << 20;
// Two limits together are counted on a grid of so many cells each way.
constexpr std::uint64_t kGridSide = 1024;
// Weights that two limits are added with: 1 / kMixes, 2 / kMixes, ...
constexpr std::uint64_t kMixes = 8;

void radix_sort(std::vector<std::uint64_t>& keys, std::uint64_t largest) {
  constexpr int kBits = 11;
  std::vector<std::uint64_t> other(keys.size());
  for (int shift = 0; shift < 64 && largest >> shift > 0; shift += kBits) {
    const auto digit = [shift](std::uint64_t key) { return key >> shift & ((1U << kBits) - 1); };
    std::array<std::size_t, std::size_t{1} << kBits> start{};
    for (const std::uint64_t key : keys) ++start[digit(key)];
    std::size_t sum = 0;
    for (std::size_t& s : start) s = std::exchange(sum, sum + s);
    for (const std::uint64_t key : keys) other[start[digit(key)]++] = key;
    keys.swap(other);
  }
}

DemandCounts run_lengths(const std::vector<std::uint64_t>& sorted) {
  DemandCounts counts;
  for (const std::uint64_t demand : sorted) {
    if (counts.empty() || counts.back().first != demand) counts.emplace_back(demand, 0);
    ++counts.back().second;
  }
  return counts;
}

class FastBound {
 public:
  FastBound(const PackLimits& limits, std::span<const std::uint32_t> order)
      : limits_(limits), order_(order) {
    for (const std::uint32_t sample : order) {
      if (!limits.fits_alone(sample)) ++alone_;
    }
    if (alone_ == 0) return;
    for (const std::uint32_t sample : order) {
      if (limits.fits_alone(sample)) fitting_.push_back(sample);
    }
    order_ = fitting_;
  }

  std::uint64_t best() {
    std::uint64_t bound = 0;
    std::vector<std::pair<double, int>> scarce;  // volume in packs, limit
    for (int l = 0; l < limits_.count(); ++l) {
      const DemandHistogram histogram(counts_of(l), limits_.cap(l));
      bound = std::max(bound, dual_feasible_bound(histogram));
      if (histogram.volume() <= limits_.cap(l)) continue;  // binds nobody
      scarce.emplace_back(
          static_cast<double>(histogram.volume()) / static_cast<double>(limits_.cap(l)), -l);
    }
    // The pairs of the three scarcest limits.
    std::sort(scarce.rbegin(), scarce.rend());
    for (std::size_t x = 0; x < std::min<std::size_t>(scarce.size(), 3); ++x) {
      for (std::size_t y = 0; y < x; ++y) {
        bound = std::max(bound, pair_bound(-scarce[x].second, -scarce[y].second));
      }
    }
    return bound + alone_;
  }

 private:
  // Demands in two limits and how many samples have them.
  struct Cell {
    std::uint64_t a, b, count;
  };

  DemandCounts counts_of(int limit) const {
    std::uint64_t largest = 0;
    for (const std::uint32_t sample : order_) {
      largest = std::max(largest, limits_.demand(sample, limit));
    }
    if (largest >= kTableSize) {
      std::vector<std::uint64_t> demands;
      demands.reserve(order_.size());
      for (const std::uint32_t sample : order_) demands.push_back(limits_.demand(sample, limit));
      radix_sort(demands, largest);
      return run_lengths(demands);
    }
    std::vector<std::uint64_t> table(largest + 1, 0);
    for (const std::uint32_t sample : order_) ++table[limits_.demand(sample, limit)];
    DemandCounts counts;
    for (std::uint64_t demand = 0; demand <= largest; ++demand) {
      if (table[demand] > 0) counts.emplace_back(demand, table[demand]);
    }
    return counts;
  }

  // Two limits added up: for whole weights p and q, p a + q b of the samples of a pack add up to at
  // most p A + q B. So that is a limit as well, and dual feasible functions of it are bounds
  // (Alves, Valerio de Carvalho, Clautiaux and Rietz 2014: a dual feasible function after a sum of
  // such functions).
  std::uint64_t pair_bound(int a, int b) const {
    const std::vector<Cell> cells =
        order_.size() < kGridSide * kGridSide / 16 ? cells_of_samples(a, b) : cells_of_grid(a, b);
    std::uint64_t bound = 0;
    for (std::uint64_t mix = 1; mix < kMixes; ++mix) {
      constexpr std::uint64_t kUnit = std::uint64_t{1} << 44;
      const std::uint64_t p = kUnit / kMixes * mix / limits_.cap(a);
      const std::uint64_t q = kUnit / kMixes * (kMixes - mix) / limits_.cap(b);
      if (p == 0 || q == 0) continue;  // a cap beyond what weights can express
      DemandCounts sums;
      sums.reserve(cells.size());
      for (const Cell& cell : cells) sums.emplace_back(p * cell.a + q * cell.b, cell.count);
      std::sort(sums.begin(), sums.end());
      bound = std::max(bound, dual_feasible_bound({sums, p * limits_.cap(a) + q * limits_.cap(b)}));
    }
    return bound;
  }

  std::vector<Cell> cells_of_samples(int a, int b) const {
    std::vector<Cell> cells;
    for (const std::uint32_t sample : order_) {
      cells.push_back({limits_.demand(sample, a), limits_.demand(sample, b), 1});
    }
    return cells;
  }

  // Demands are rounded down to a grid, which can only lower the bound.
  std::vector<Cell> cells_of_grid(int a, int b) const {
    const std::uint64_t step_a = limits_.cap(a) / kGridSide + 1;
    const std::uint64_t step_b = limits_.cap(b) / kGridSide + 1;
    std::vector<std::uint64_t> grid(kGridSide * kGridSide, 0);
    for (const std::uint32_t sample : order_) {
      ++grid[limits_.demand(sample, a) / step_a * kGridSide + limits_.demand(sample, b) / step_b];
    }
    std::vector<Cell> cells;
    for (std::uint64_t i = 0; i < grid.size(); ++i) {
      if (grid[i] == 0) continue;
      cells.push_back({i / kGridSide * step_a, i % kGridSide * step_b, grid[i]});
    }
    return cells;
  }

  const PackLimits& limits_;
  std::span<const std::uint32_t> order_;  // what fits
  std::vector<std::uint32_t> fitting_;
  std::uint64_t alone_ = 0;
};

}  // namespace

std::uint64_t fast_lower_bound(const PackLimits& limits, std::span<const std::uint32_t> order) {
  return FastBound(limits, order).best();
}

}  // namespace gimbal
