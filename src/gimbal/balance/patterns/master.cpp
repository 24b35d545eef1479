#include "gimbal/balance/patterns/master.h"

#include <interfaces/highs_c_api.h>

#include <algorithm>
#include <limits>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// Values of HiGHS's option simplex_strategy.
constexpr HighsInt kDualSimplex = 1;
constexpr HighsInt kPrimalSimplex = 4;

}  // namespace

// Owns a HiGHS instance.
struct MasterProblem::Solver {
  Solver() : highs(Highs_create()) {
    call(Highs_setBoolOptionValue(highs, "output_flag", 0), "output_flag");
    call(Highs_setIntOptionValue(highs, "threads", 1), "threads");
    call(Highs_setStringOptionValue(highs, "solver", "simplex"), "solver");
    call(Highs_setStringOptionValue(highs, "presolve", "off"), "presolve");
    call(Highs_setStringOptionValue(highs, "parallel", "off"), "parallel");
    call(Highs_setIntOptionValue(highs, "random_seed", 0), "random_seed");
  }
  ~Solver() { Highs_destroy(highs); }
  Solver(const Solver&) = delete;
  Solver& operator=(const Solver&) = delete;

  static void call(HighsInt status, const char* what) {
    GIMBAL_CHECK(status != kHighsStatusError, "HiGHS refused ", what);
  }

  void* highs;
};

MasterProblem::MasterProblem(std::span<const double> demand, Changes changes)
    : solver_(std::make_unique<Solver>()) {
  const HighsInt strategy = changes == Changes::kColumns ? kPrimalSimplex : kDualSimplex;
  Solver::call(Highs_setIntOptionValue(solver_->highs, "simplex_strategy", strategy), "strategy");
  const std::vector<double> upper(demand.size(), std::numeric_limits<double>::infinity());
  const std::vector<HighsInt> starts(demand.size(), 0);
  Solver::call(Highs_addRows(solver_->highs, static_cast<HighsInt>(demand.size()), demand.data(),
                             upper.data(), 0, starts.data(), nullptr, nullptr),
               "rows");
  prices_.resize(demand.size());
}

MasterProblem::~MasterProblem() = default;

void MasterProblem::add_columns(std::span<const PatternColumn> columns) {
  std::vector<HighsInt> starts, index;
  std::vector<double> value;
  for (const PatternColumn& column : columns) {
    starts.push_back(static_cast<HighsInt>(index.size()));
    for (const TypeCount& entry : column) {
      index.push_back(static_cast<HighsInt>(entry.type));
      value.push_back(entry.count);
    }
  }
  const std::vector<double> cost(columns.size(), 1.0), lower(columns.size(), 0.0),
      upper(columns.size(), std::numeric_limits<double>::infinity());
  Solver::call(Highs_addCols(solver_->highs, static_cast<HighsInt>(columns.size()), cost.data(),
                             lower.data(), upper.data(), static_cast<HighsInt>(index.size()),
                             starts.data(), index.data(), value.data()),
               "columns");
  num_columns_ += columns.size();
}

void MasterProblem::set_demand(std::span<const double> demand) {
  GIMBAL_CHECK_EQ(demand.size(), prices_.size());
  const std::vector<double> upper(demand.size(), std::numeric_limits<double>::infinity());
  Solver::call(
      Highs_changeRowsBoundsByRange(solver_->highs, 0, static_cast<HighsInt>(demand.size()) - 1,
                                    demand.data(), upper.data()),
      "bounds");
}

double MasterProblem::solve() {
  Solver::call(Highs_run(solver_->highs), "to run");
  const HighsInt status = Highs_getModelStatus(solver_->highs);
  GIMBAL_CHECK_EQ(status, kHighsModelStatusOptimal, "HiGHS model status");
  use_.resize(num_columns_);
  std::vector<double> column_dual(num_columns_), row_value(prices_.size());
  Solver::call(Highs_getSolution(solver_->highs, use_.data(), column_dual.data(), row_value.data(),
                                 prices_.data()),
               "to give the solution");
  for (double& price : prices_) price = std::max(price, 0.0);
  return Highs_getObjectiveValue(solver_->highs);
}

}  // namespace gimbal
