#include "gimbal/balance/patterns/grid.h"

#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::size_t kUnitSamples = 4096;

std::uint64_t cells_up(std::uint64_t demand, std::uint64_t unit) {
  return demand / unit + (demand % unit != 0 ? 1 : 0);
}

// The cap, or the sum of all demands where that is less.
std::uint64_t needed_cap(const PackLimits& limits, int limit,
                         std::span<const std::uint32_t> order) {
  std::uint64_t left = limits.cap(limit);
  for (const std::uint32_t sample : order) {
    const std::uint64_t demand = limits.demand(sample, limit);
    if (demand >= left) return limits.cap(limit);
    left -= demand;
  }
  return std::max<std::uint64_t>(1, limits.cap(limit) - left);
}

// One limit: the demands of some samples, and what a cell size loses.
class LimitUnits {
 public:
  LimitUnits(const PackLimits& limits, int limit, std::span<const std::uint32_t> order)
      : cap_(needed_cap(limits, limit, order)) {
    const std::size_t step = std::max<std::size_t>(1, order.size() / kUnitSamples);
    for (std::size_t i = 0; i < order.size(); i += step)
      demands_.push_back(limits.demand(order[i], limit));
    // Above this a cap means the same; below, the grid has no more cells than the samples can fill.
    unit_ = std::max<std::uint64_t>(1, cap_ / (std::uint64_t{1} << 24));
  }

  std::uint64_t unit() const { return unit_; }
  std::uint64_t cells() const { return cap_ / unit_; }
  double log_cells(std::uint64_t unit) const {
    return std::log(static_cast<double>(cap_ / unit) + 1);
  }
  // Mean share of the cap that is lost per sample, and what the cap loses.
  double loss(std::uint64_t unit) const {
    double sum = 0, total = 0;
    for (const std::uint64_t demand : demands_) {
      sum += static_cast<double>(cells_up(demand, unit)) * static_cast<double>(unit) -
             static_cast<double>(demand);
      total += static_cast<double>(demand);
    }
    const double lost = total > 0 ? sum / total : 0;
    return lost + static_cast<double>(cap_ % unit) / static_cast<double>(cap_);
  }
  // How binding the limit is: its share of the volume.
  double volume() const {
    double total = 0;
    for (const std::uint64_t demand : demands_) total += static_cast<double>(demand);
    return total / static_cast<double>(cap_);
  }

  // The next coarser unit that loses least per factor of cells.
  struct Step {
    std::uint64_t unit;
    double price;
  };
  Step coarser(double scarce) const {
    Step best{0, 0};
    const double now = loss(unit_);
    const std::uint64_t stride = std::max<std::uint64_t>(1, unit_ / 8);
    const std::uint64_t most = unit_ > cap_ / 2 ? cap_ : 2 * unit_;
    for (std::uint64_t unit = unit_; unit <= most - std::min(most, stride);) {
      unit += stride;
      const double saved = log_cells(unit_) - log_cells(unit);
      if (saved <= 0) continue;
      const double price = std::max(0.0, scarce * (loss(unit) - now)) / saved;
      if (best.unit == 0 || price < best.price) best = {unit, price};
    }
    return best;
  }
  void set(std::uint64_t unit) { unit_ = unit; }

 private:
  std::uint64_t cap_;
  std::uint64_t unit_;
  std::vector<std::uint64_t> demands_;
};

}  // namespace

PatternGrid choose_grid(const PackLimits& limits, std::span<const std::uint32_t> order,
                        std::size_t max_states) {
  std::vector<LimitUnits> dims;
  double most = 0;
  for (int l = 0; l < limits.count(); ++l) {
    dims.emplace_back(limits, l, order);
    most = std::max(most, dims.back().volume());
  }
  const double goal = std::log(static_cast<double>(max_states));
  while (true) {
    double states = 0;
    for (const LimitUnits& dim : dims) states += dim.log_cells(dim.unit());
    if (states <= goal) break;
    std::size_t at = dims.size();
    LimitUnits::Step best{0, 0};
    for (std::size_t d = 0; d < dims.size(); ++d) {
      const double scarce = most > 0 ? dims[d].volume() / most : 1;
      const LimitUnits::Step step = dims[d].coarser(scarce * scarce);
      if (step.unit == 0 || (best.unit != 0 && step.price >= best.price)) continue;
      best = step;
      at = d;
    }
    if (at == dims.size()) break;
    dims[at].set(best.unit);
  }
  PatternGrid grid;
  for (const LimitUnits& dim : dims) {
    grid.units.push_back(dim.unit());
    grid.caps.push_back(static_cast<std::uint32_t>(dim.cells()));
  }
  return grid;
}

GridProblem grid_problem(const TypeTree& tree, const PatternGrid& pattern_grid,
                         std::span<const std::uint64_t> demand, Rounding rounding) {
  GridProblem grid;
  const std::vector<std::uint64_t>& units = pattern_grid.units;
  const std::size_t dims = units.size();
  grid.problem.caps = pattern_grid.caps;
  std::vector<std::uint32_t> cells(dims);
  for (std::uint32_t type = 0; type < tree.num_types(); ++type) {
    bool fits = true;
    bool any = false;
    for (std::size_t d = 0; d < dims; ++d) {
      const std::size_t at = type * dims + d;
      const std::uint64_t cell =
          rounding == Rounding::kUp ? cells_up(tree.high[at], units[d]) : tree.low[at] / units[d];
      fits = fits && cell <= grid.problem.caps[d];
      any = any || cell > 0;
      cells[d] = static_cast<std::uint32_t>(std::min<std::uint64_t>(cell, grid.problem.caps[d]));
    }
    // Rounded down, a size above the cap cannot be: members fit alone.
    if (!any || demand[type] == 0 || (!fits && rounding == Rounding::kUp)) continue;
    grid.problem.cells.insert(grid.problem.cells.end(), cells.begin(), cells.end());
    grid.problem.demand.push_back(static_cast<double>(demand[type]));
    grid.types.push_back(type);
  }
  return grid;
}

std::vector<PatternColumn> name_types(std::vector<PatternColumn> columns,
                                      std::span<const std::uint32_t> types) {
  for (PatternColumn& column : columns) {
    for (TypeCount& entry : column) entry.type = types[entry.type];
  }
  return columns;
}

}  // namespace gimbal
