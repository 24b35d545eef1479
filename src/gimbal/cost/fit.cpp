#include "gimbal/cost/fit.h"

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr int kBase = 0, kRow = 1, kPair = 2;
// A column whose part outside the others is smaller than this share of it says nothing of its own.
constexpr double kCollinear = 1e-9;
// Squared relative error per measurement that rounding may leave.
constexpr double kRounding = 1e-24;

// Rows of the weighted problem: {1, rows, pairs} / value and 1 (value / value).
struct WeightedRow {
  std::array<double, 3> columns;
  double target;
};

std::vector<WeightedRow> weighted_rows(std::span<const Measurement> measurements) {
  double smallest = std::numeric_limits<double>::infinity();
  for (const Measurement& m : measurements)
    if (m.value > 0) smallest = std::min(smallest, m.value);
  std::vector<WeightedRow> rows;
  for (const Measurement& m : measurements) {
    // A value of 0 has no relative error; it weighs as the smallest value above 0.
    const double unit = m.value > 0 ? m.value : (std::isfinite(smallest) ? smallest : 1.0);
    rows.push_back({{1 / unit, m.rows / unit, m.pairs / unit}, m.value / unit});
  }
  return rows;
}

struct SubsetFit {
  std::array<double, 3> coefficients{};
  double squares = 0;  // of the weighted residuals
};

double squared_residual(const std::vector<WeightedRow>& rows, const std::array<double, 3>& c) {
  double sum = 0;
  for (const WeightedRow& row : rows) {
    const double r = row.columns[0] * c[0] + row.columns[1] * c[1] + row.columns[2] * c[2];
    sum += (r - row.target) * (r - row.target);
  }
  return sum;
}

// Least squares with the columns of `subset` alone: Householder QR of the columns scaled to length
// 1 (Golub and Van Loan, Matrix Computations, 5.2.1). Nothing: the columns are not independent.
std::optional<SubsetFit> solve_subset(const std::vector<WeightedRow>& rows,
                                      const std::vector<int>& subset) {
  const std::size_t m = rows.size(), n = subset.size();
  if (n > m) return std::nullopt;
  std::array<std::vector<double>, 3> a;
  std::array<double, 3> scale{};
  std::vector<double> b(m);
  for (std::size_t i = 0; i < m; ++i) b[i] = rows[i].target;
  for (std::size_t k = 0; k < n; ++k) {
    const auto column = static_cast<std::size_t>(subset[k]);
    for (const WeightedRow& row : rows) scale[k] = std::hypot(scale[k], row.columns[column]);
    if (scale[k] == 0) return std::nullopt;
    for (const WeightedRow& row : rows) a[k].push_back(row.columns[column] / scale[k]);
  }
  std::array<double, 3> diagonal{};
  for (std::size_t k = 0; k < n; ++k) {
    double norm = 0;
    for (std::size_t i = k; i < m; ++i) norm = std::hypot(norm, a[k][i]);
    if (norm < kCollinear) return std::nullopt;
    diagonal[k] = a[k][k] > 0 ? -norm : norm;
    // The reflection is along v = column - diagonal * e_k, which takes the column's place.
    a[k][k] -= diagonal[k];
    double v_v = 0;
    for (std::size_t i = k; i < m; ++i) v_v += a[k][i] * a[k][i];
    const auto reflect = [&](std::vector<double>& column) {
      double v_c = 0;
      for (std::size_t i = k; i < m; ++i) v_c += a[k][i] * column[i];
      for (std::size_t i = k; i < m; ++i) column[i] -= 2 * v_c / v_v * a[k][i];
    };
    for (std::size_t j = k + 1; j < n; ++j) reflect(a[j]);
    reflect(b);
  }
  SubsetFit fit;
  std::array<double, 3> x{};
  for (std::size_t k = n; k-- > 0;) {
    double rest = b[k];
    for (std::size_t j = k + 1; j < n; ++j) rest -= a[j][k] * x[j];
    x[k] = rest / diagonal[k];
    fit.coefficients[static_cast<std::size_t>(subset[k])] = x[k] / scale[k];
  }
  fit.squares = squared_residual(rows, fit.coefficients);
  return fit;
}

double relative_error(std::span<const Measurement> measurements, const CostLine& line) {
  double sum = 0;
  int count = 0;
  for (const Measurement& m : measurements) {
    if (m.value <= 0) continue;
    const double error = line.at(m.rows, m.pairs) / m.value - 1;
    sum += error * error;
    ++count;
  }
  return count > 0 ? std::sqrt(sum / count) : 0;
}

}  // namespace

FittedLine fit_line(std::span<const Measurement> measurements) {
  GIMBAL_USER_CHECK(!measurements.empty(), "there is no measurement to fit a line to");
  for (const Measurement& m : measurements) {
    const bool good = std::isfinite(m.rows) && std::isfinite(m.pairs) && std::isfinite(m.value) &&
                      m.rows >= 0 && m.pairs >= 0 && m.value >= 0;
    GIMBAL_USER_CHECK(good, "a measurement is negative or not finite: rows ", m.rows, ", pairs ",
                      m.pairs, ", value ", m.value, "; measure again on an idle machine");
  }
  // The best non-negative solution is the plain least squares solution of the columns that it uses,
  // so trying all subsets finds it. Small ones and rows come first and win ties: only a subset
  // that is really better replaces them.
  static const std::vector<std::vector<int>> kSubsets = {{},
                                                         {kRow},
                                                         {kBase},
                                                         {kPair},
                                                         {kBase, kRow},
                                                         {kRow, kPair},
                                                         {kBase, kPair},
                                                         {kBase, kRow, kPair}};
  const std::vector<WeightedRow> rows = weighted_rows(measurements);
  const double rounding = kRounding * static_cast<double>(rows.size());
  SubsetFit best;
  best.squares = squared_residual(rows, best.coefficients);
  for (const std::vector<int>& subset : kSubsets) {
    const std::optional<SubsetFit> fit = solve_subset(rows, subset);
    if (!fit) continue;
    const auto& c = fit->coefficients;
    if (c[0] < 0 || c[1] < 0 || c[2] < 0) continue;
    if (fit->squares < best.squares * (1 - 1e-9) - rounding) best = *fit;
  }
  FittedLine result;
  result.line = {best.coefficients[0], best.coefficients[1], best.coefficients[2]};
  result.residual = relative_error(measurements, result.line);
  return result;
}

}  // namespace gimbal
