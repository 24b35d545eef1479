#include "gimbal/cost/fit.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gimbal/base/error.h"
#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;

double weighted_squares(const std::vector<Measurement>& measurements, const CostLine& line) {
  double sum = 0;
  for (const Measurement& m : measurements) {
    const double error = line.at(m.rows, m.pairs) / m.value - 1;
    sum += error * error;
  }
  return sum;
}

std::vector<Measurement> measure(const CostLine& line, const std::vector<Measurement>& at) {
  std::vector<Measurement> result = at;
  for (Measurement& m : result) m.value = line.at(m.rows, m.pairs);
  return result;
}

TEST(Fit, FindsPlantedLines) {
  check_cases(200, [] {
    const CostLine planted{1e-5 * *between(1, 100), 1e-8 * *between(1, 1000),
                           1e-12 * *between(1, 1000)};
    std::vector<Measurement> at;
    for (double rows : {64.0, 256.0, 1024.0, 4096.0})
      for (double samples : {1.0, 4.0, 16.0}) at.push_back({rows, rows * rows / samples, 0});
    const FittedLine fit = fit_line(measure(planted, at));
    RC_ASSERT(std::abs(fit.line.base / planted.base - 1) < 1e-6);
    RC_ASSERT(std::abs(fit.line.per_row / planted.per_row - 1) < 1e-6);
    RC_ASSERT(std::abs(fit.line.per_pair / planted.per_pair - 1) < 1e-6);
    RC_ASSERT(fit.residual < 1e-9);
  });
}

TEST(Fit, LeavesOutWhatIsNotThere) {
  const std::vector<Measurement> at = {{10, 100, 0}, {20, 900, 0}, {40, 400, 0}, {80, 6400, 0}};
  const FittedLine rows = fit_line(measure({0, 3, 0}, at));
  EXPECT_EQ(rows.line.base, 0);
  EXPECT_NEAR(rows.line.per_row, 3, 1e-12);
  EXPECT_EQ(rows.line.per_pair, 0);
  const FittedLine pairs = fit_line(measure({0, 0, 0.5}, at));
  EXPECT_EQ(pairs.line.per_row, 0);
  EXPECT_NEAR(pairs.line.per_pair, 0.5, 1e-12);
  const FittedLine zero = fit_line(measure({0, 0, 0}, at));
  EXPECT_EQ(zero.line, CostLine{});
  EXPECT_EQ(zero.residual, 0);
}

TEST(Fit, PutsWhatCannotBeToldApartOnRows) {
  // All samples are equally long: pairs are 7 times the rows.
  const FittedLine fit =
      fit_line(std::vector<Measurement>{{7, 49, 14}, {14, 98, 28}, {28, 196, 56}});
  EXPECT_NEAR(fit.line.per_row, 2, 1e-12);
  EXPECT_EQ(fit.line.per_pair, 0);
  EXPECT_EQ(fit.line.base, 0);
  // One measurement, and one row count.
  EXPECT_NEAR(fit_line(std::vector<Measurement>{{5, 25, 10}}).line.per_row, 2, 1e-12);
  EXPECT_NEAR(fit_line(std::vector<Measurement>{{5, 25, 10}, {5, 25, 10}}).line.per_row, 2, 1e-12);
  // Nothing but the fixed part explains work on no rows.
  EXPECT_NEAR(fit_line(std::vector<Measurement>{{0, 0, 3}, {0, 0, 3}}).line.base, 3, 1e-12);
}

TEST(Fit, NeverGoesNegative) {
  // The plain line through these falls below 0 at 0 rows.
  const FittedLine fit = fit_line(std::vector<Measurement>{{1, 0, 1}, {2, 0, 4}, {3, 0, 9}});
  EXPECT_EQ(fit.line.base, 0);
  EXPECT_GT(fit.line.per_row, 0);
  EXPECT_GT(fit.residual, 0.1);
}

TEST(Fit, MinimisesRelativeErrors) {
  // value / rows is 1 and 2: the relative errors c - 1 and c / 2 - 1 are least at c = 1.2.
  const FittedLine fit = fit_line(std::vector<Measurement>{{1, 1, 1}, {1000, 1000, 2000}});
  EXPECT_LT(fit.residual, std::sqrt((0.2 * 0.2 + 0.4 * 0.4) / 2) + 1e-12);
  const FittedLine same = fit_line(std::vector<Measurement>{{4, 4, 4}, {4, 4, 8}});
  EXPECT_NEAR(same.line.per_row, 1.2, 1e-12);
  EXPECT_NEAR(same.residual, std::sqrt((0.2 * 0.2 + 0.4 * 0.4) / 2), 1e-12);
}

TEST(Fit, WithNoiseIsNearTheLine) {
  check_cases(100, [] {
    const CostLine planted{1e-4, 2e-7, 3e-11};
    std::vector<Measurement> at;
    for (double rows : {64.0, 128.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0})
      for (double samples : {1.0, 8.0}) at.push_back({rows, rows * rows / samples, 0});
    std::vector<Measurement> noisy = measure(planted, at);
    for (Measurement& m : noisy) m.value *= 1 + 0.02 * (*between(-1000, 1001) / 1000.0);
    const FittedLine fit = fit_line(noisy);
    RC_ASSERT(fit.residual < 0.02);
    for (const Measurement& m : at) {
      const double ratio = fit.line.at(m.rows, m.pairs) / planted.at(m.rows, m.pairs);
      RC_ASSERT(std::abs(ratio - 1) < 0.04);
    }
  });
}

TEST(Fit, IsNeverWorseThanAGrid) {
  check_cases(100, [] {
    std::vector<Measurement> measurements;
    const int count = *between(1, 8);
    for (int i = 0; i < count; ++i) {
      const double rows = *between(0, 50);
      measurements.push_back({rows, rows * *between(0, 50), 1.0 * *between(1, 1000)});
    }
    const FittedLine fit = fit_line(measurements);
    RC_ASSERT(fit.line.base >= 0 && fit.line.per_row >= 0 && fit.line.per_pair >= 0);
    const double squares = weighted_squares(measurements, fit.line);
    RC_ASSERT(std::abs(std::sqrt(squares / count) - fit.residual) < 1e-9);
    // Whole multiples around and away from the solution.
    const double steps[] = {0, 0.1, 0.5, 0.9, 0.99, 1, 1.01, 1.1, 2};
    const auto tries = [&](double found, double unit, double step) {
      return found > 0 ? found * step : unit * step;
    };
    for (double a : steps)
      for (double b : steps)
        for (double c : steps) {
          const CostLine other{tries(fit.line.base, 10, a), tries(fit.line.per_row, 1, b),
                               tries(fit.line.per_pair, 0.1, c)};
          RC_ASSERT(squares <= weighted_squares(measurements, other) * (1 + 1e-7) + 1e-15);
        }
  });
}

TEST(Fit, TakesZerosWithTheWeightOfTheSmallest) {
  // 0 at row 0 and 2 per row: the line passes through all.
  const FittedLine fit = fit_line(std::vector<Measurement>{{0, 0, 0}, {1, 1, 2}, {3, 9, 6}});
  EXPECT_NEAR(fit.line.per_row, 2, 1e-12);
  EXPECT_EQ(fit.line.base, 0);
  EXPECT_LT(fit.residual, 1e-12);
}

TEST(Fit, RefusesBadMeasurements) {
  const auto fit = [](double rows, double pairs, double value) {
    return fit_line(std::vector<Measurement>{{1, 1, 1}, {rows, pairs, value}});
  };
  EXPECT_THROW(fit_line({}), UserError);
  EXPECT_THROW(fit(1, 1, -1), UserError);
  EXPECT_THROW(fit(-1, 1, 1), UserError);
  EXPECT_THROW(fit(1, -1, 1), UserError);
  EXPECT_THROW(fit(1, 1, std::numeric_limits<double>::quiet_NaN()), UserError);
  EXPECT_THROW(fit(std::numeric_limits<double>::infinity(), 1, 1), UserError);
}

}  // namespace
}  // namespace gimbal
