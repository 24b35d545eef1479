#include "gimbal/balance/limits.h"

#include <cmath>
#include <limits>

#include "unit/balance/pack_cases.h"

namespace gimbal {
namespace {

using testing::message_of;

const std::vector<std::uint32_t> kRows{3, 40, 0, 100, 7, 0};  // 3 samples of 2 streams
const std::vector<std::string> kNames{"vision", "tokens"};
const std::vector<StreamCost> kCosts{{2.0, 0.0}, {1.0, 0.5}};

SampleSizes named_sizes() { return {kRows, 2, {}, kNames}; }

TEST(PackLimits, AreTheCapsThatAreSetInOrder) {
  PackCaps caps{{0, 128}, 5, 9000.0};
  const PackLimits limits(named_sizes(), caps, kCosts);
  ASSERT_EQ(limits.count(), 3);
  EXPECT_EQ(limits.name(0), "tokens");
  EXPECT_EQ(limits.name(1), "samples");
  EXPECT_EQ(limits.name(2), "cost");
  EXPECT_EQ(limits.stream(0), 1);
  EXPECT_EQ(limits.stream(1), -1);
  EXPECT_EQ(limits.stream(2), -1);
  EXPECT_EQ(limits.cap(0), 128U);
  EXPECT_EQ(limits.cap(1), 5U);
  EXPECT_EQ(limits.demand(1, 0), 100U);
  EXPECT_EQ(limits.demand(1, 1), 1U);
  std::vector<std::uint64_t> demands(3);
  limits.demands(1, demands.data());
  for (int l = 0; l < 3; ++l) {
    EXPECT_EQ(demands[static_cast<std::size_t>(l)], limits.demand(1, l));
  }
}

TEST(PackLimits, CostIsRoundedUpInSteps) {
  // Sample 0: 2*3 + 40 + 0.5*1600 = 846.
  PackCaps caps{{}, 0, 846.0};
  const PackLimits exact(named_sizes(), caps, kCosts);
  EXPECT_EQ(exact.demand(0, 0), exact.cap(0));
  EXPECT_TRUE(exact.fits_alone(0));
  EXPECT_FALSE(exact.fits_alone(1));
  caps.cost = std::nextafter(846.0, 0.0);
  EXPECT_FALSE(PackLimits(named_sizes(), caps, kCosts).fits_alone(0));
  caps.cost = 3 * 846.0;
  const PackLimits third(named_sizes(), caps, kCosts);
  EXPECT_EQ(third.demand(0, 0), (third.cap(0) + 2) / 3);
  EXPECT_GT(third.demand(2, 0), 0U);
}

TEST(PackLimits, GivenPairsReplaceTheSquares) {
  const std::vector<std::uint64_t> pairs{0, 100, 0, 0, 0, 0};
  const SampleSizes sizes{kRows, 2, pairs, kNames};
  const PackLimits limits(sizes, {{}, 0, 6.0 + 40.0 + 50.0}, kCosts);
  EXPECT_EQ(limits.demand(0, 0), limits.cap(0));
}

TEST(PackLimits, AHopelessCostIsAboveTheCapAndNoOverflow) {
  const std::vector<std::uint32_t> rows{~0U};
  const std::vector<StreamCost> costs{{1e300, 1e300}};
  const PackLimits limits({rows, 1}, {{}, 0, 1e-200}, costs);
  EXPECT_GT(limits.demand(0, 0), limits.cap(0));
  EXPECT_FALSE(limits.fits_alone(0));
}

TEST(PackLimits, SamplesAboveOneCapDoNotFit) {
  const PackLimits limits(named_sizes(), {{3, 99}}, kCosts);
  EXPECT_TRUE(limits.fits_alone(0));
  EXPECT_FALSE(limits.fits_alone(1));
  EXPECT_FALSE(limits.fits_alone(2));
  EXPECT_EQ(limits.comparison(1, 1), "100 tokens, cap 99");
}

TEST(PackLimits, ComparisonsNameWhatIsCompared) {
  const PackLimits unnamed({kRows, 2}, {{3, 99}}, kCosts);
  EXPECT_EQ(unnamed.comparison(1, 1), "100 rows in stream 1, cap 99");
  const PackLimits cost(named_sizes(), {{}, 7, 100.0}, kCosts);
  EXPECT_EQ(cost.comparison(0, 0), "1 samples, cap 7");
  EXPECT_EQ(cost.comparison(0, 1), "cost 846, cap 100");
}

TEST(PackLimits, WithoutACapIsAnError) {
  const std::string message = message_of<UserError>([] {
    PackLimits(named_sizes(), {{0, 0}}, kCosts);
  });
  EXPECT_NE(message.find("no cap is set"), std::string::npos) << message;
  EXPECT_NE(message.find("--cap"), std::string::npos) << message;
}

TEST(PackLimits, CapsOnCostMustBeUsableNumbers) {
  for (const double cap :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const std::string message = message_of<UserError>([&] {
      PackLimits(named_sizes(), {{4}, 0, cap}, kCosts);
    });
    EXPECT_NE(message.find("cap on cost"), std::string::npos) << message;
  }
  const std::string tiny = message_of<UserError>([] {
    PackLimits(named_sizes(), {{4}, 0, 1e-310}, kCosts);
  });
  EXPECT_NE(tiny.find("too small to count with"), std::string::npos) << tiny;
}

TEST(PackLimits, CostCoefficientsMustBeNumbersOfAtLeastZero) {
  for (const double bad :
       {-0.5, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (const StreamCost& cost : {StreamCost{bad, 0}, StreamCost{1, bad}}) {
      const std::vector<StreamCost> costs{{1, 0}, cost};
      const std::string message =
          message_of<UserError>([&] { PackLimits(named_sizes(), {{4}}, costs); });
      EXPECT_NE(message.find("tokens has a cost coefficient"), std::string::npos) << message;
    }
  }
}

TEST(PackLimits, CapsOrCostsOfOtherStreamsAreDefects) {
  EXPECT_THROW(PackLimits(named_sizes(), {{1, 2, 3}}, kCosts), InternalError);
  const std::vector<StreamCost> one{{1, 0}};
  EXPECT_THROW(PackLimits(named_sizes(), {{1}, 0, 5.0}, one), InternalError);
}

TEST(SampleSizes, CountsAndLabels) {
  EXPECT_EQ(named_sizes().num_samples(), 3U);
  EXPECT_EQ(SampleSizes{}.num_samples(), 0U);
  EXPECT_EQ(named_sizes().stream_label(0), "vision");
  EXPECT_EQ((SampleSizes{kRows, 2}).stream_label(1), "stream 1");
  EXPECT_DOUBLE_EQ(sample_cost(named_sizes(), 0, kCosts), 846.0);
  EXPECT_THROW(sample_cost(named_sizes(), 0, {}), InternalError);
}

}  // namespace
}  // namespace gimbal
