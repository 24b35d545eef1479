// The restricted master problem: how often each known pattern is used, as a linear program.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gimbal/balance/patterns/knapsack.h"

namespace gimbal {

/// Least sum of x over the columns such that every type's demand is covered: sum of count * x >=
/// demand, x >= 0. Solved with HiGHS, one thread, starting from the last basis.
class MasterProblem {
 public:
  /// What changes between two solutions, so that the simplex method starts from a feasible basis.
  enum class Changes { kColumns, kDemand };
  MasterProblem(std::span<const double> demand, Changes changes);
  ~MasterProblem();
  MasterProblem(const MasterProblem&) = delete;
  MasterProblem& operator=(const MasterProblem&) = delete;

  void add_columns(std::span<const PatternColumn> columns);
  void set_demand(std::span<const double> demand);
  /// Solves; every type with demand must be in a column. Returns the least sum.
  double solve();
  /// Of the last solution: the price of each type (>= 0), and the use of each column.
  const std::vector<double>& prices() const { return prices_; }
  const std::vector<double>& use() const { return use_; }

 private:
  struct Solver;
  std::unique_ptr<Solver> solver_;
  std::size_t num_columns_ = 0;
  std::vector<double> prices_;
  std::vector<double> use_;
};

}  // namespace gimbal
