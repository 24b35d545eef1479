// Every method on inputs at the edge of what is possible: a result that keeps every promise, or a
// clear error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "gimbal/balance/sampler.h"
#include "gimbal/base/error.h"
#include "unit/balance/check_cases.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;
using ::testing::HasSubstr;
using testing::SampleSet;

constexpr std::uint32_t kLargest = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t kGroup = 4;  // samples per pack of the padded methods
constexpr PackMethod kMethods[] = {PackMethod::kGimbal, PackMethod::kIsf,
                                   PackMethod::kBestFitDecreasing, PackMethod::kRandom,
                                   PackMethod::kLength};
constexpr OversizePolicy kPolicies[] = {OversizePolicy::kError, OversizePolicy::kReject,
                                        OversizePolicy::kAlone};

SamplerOptions options_for(const SampleSet& set, PackMethod method, OversizePolicy policy) {
  SamplerOptions options;
  options.method = method;
  options.caps = set.caps;
  options.costs.assign(static_cast<std::size_t>(set.num_streams), {1.0, 1e-6});
  options.packs_per_step = 6;
  options.packs_per_slot = 3;
  options.samples_per_group = kGroup;
  options.length_stream = set.num_streams - 1;
  options.isf_rounds = 5;
  options.oversize = policy;
  options.seed = 7;
  return options;
}

std::size_t num_oversize(const PackLimits& limits) {
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < limits.sizes().num_samples(); ++i) {
    if (!limits.fits_alone(i)) ++count;
  }
  return count;
}

void expect_caps_kept(const PackLimits& limits, const Packs& packs) {
  for (std::size_t p = 0; p < packs.size(); ++p) {
    if (packs[p].size() == 1) continue;  // alone, whatever its size
    for (int l = 0; l < limits.count(); ++l) {
      std::uint64_t sum = 0;
      for (const std::uint32_t sample : packs[p]) sum += limits.demand(sample, l);
      ASSERT_LE(sum, limits.cap(l)) << "pack " << p << " in " << limits.name(l);
    }
  }
}

void expect_sound(const BalanceReport& report) {
  EXPECT_EQ(report.samples_in, report.samples_packed + report.samples_rejected);
  EXPECT_LE(report.packs_lower_bound, report.packs);
  std::vector<double> numbers = report.fill;
  numbers.insert(numbers.end(), report.waste.begin(), report.waste.end());
  for (const double n :
       {report.cost_waste, report.order_correlation, report.source_mix_ratio, report.pad_ratio}) {
    numbers.push_back(n);
  }
  for (const double n : numbers) EXPECT_TRUE(std::isfinite(n)) << n;
}

// Builds two epochs and checks all that holds for any input.
void expect_promises(const SampleSet& set, PackMethod method, OversizePolicy policy) {
  const SamplerOptions options = options_for(set, method, policy);
  const PackLimits limits(set.sizes(), set.caps, options.costs);
  // Padded mini-batches know no caps.
  const std::size_t oversize = is_padded(method) ? 0 : num_oversize(limits);
  if (policy == OversizePolicy::kError && oversize > 0) {
    try {
      Sampler sampler(set.sizes(), options);
      FAIL() << oversize << " samples above the caps were accepted";
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr(concat(oversize, oversize == 1 ? " sample" : " samples")));
    }
    return;
  }
  Sampler sampler(set.sizes(), options);
  for (const std::uint64_t epoch : {0, 1}) {
    const EpochOrder& order = sampler.epoch(epoch);
    std::vector<std::uint32_t> seen = order.packs().samples;
    std::sort(seen.begin(), seen.end());
    std::vector<std::uint32_t> expected;
    for (std::uint32_t i = 0; i < set.sizes().num_samples(); ++i) {
      if (oversize == 0 || policy == OversizePolicy::kAlone || limits.fits_alone(i)) {
        expected.push_back(i);
      }
    }
    ASSERT_EQ(seen, expected);
    for (std::size_t p = 0; p < order.packs().size(); ++p) ASSERT_FALSE(order.packs()[p].empty());
    if (!is_padded(method)) expect_caps_kept(limits, order.packs());
    const BalanceReport report = sampler.report(epoch, 3);
    // The bound is one on packs that keep the caps.
    if (!is_padded(method)) expect_sound(report);
    EXPECT_EQ(report.samples_in, set.sizes().num_samples());
    EXPECT_EQ(report.samples_packed, expected.size());
    EXPECT_EQ(report.samples_rejected, set.sizes().num_samples() - expected.size());
  }
}

void expect_promises_of_all(const SampleSet& set, const std::string& what) {
  for (const PackMethod method : kMethods) {
    for (const OversizePolicy policy : kPolicies) {
      SCOPED_TRACE(concat(what, ", ", set.num_streams, " streams, method ",
                          static_cast<int>(method), ", policy ", static_cast<int>(policy)));
      expect_promises(set, method, policy);
    }
  }
}

// `rows(sample, stream)` for so many samples, all streams capped at `cap`.
template <typename RowsOf>
SampleSet make_set(int streams, std::uint32_t samples, std::uint64_t cap, const RowsOf& rows) {
  SampleSet set{streams, {}, {}};
  for (std::uint32_t i = 0; i < samples; ++i) {
    for (int k = 0; k < streams; ++k) set.rows.push_back(rows(i, k));
  }
  set.caps.rows.assign(static_cast<std::size_t>(streams), cap);
  return set;
}

class Extremes : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(OfStreams, Extremes, ::testing::Range(1, 9));

TEST_P(Extremes, NoSamples) {
  expect_promises_of_all(make_set(GetParam(), 0, 10, [](auto, auto) { return 0U; }), "none");
}

TEST_P(Extremes, OneSample) {
  for (const std::uint32_t rows : {0U, 1U, 10U, 11U, kLargest}) {
    const auto set = make_set(GetParam(), 1, 10, [rows](auto, auto) { return rows; });
    expect_promises_of_all(set, concat("one sample of ", rows));
  }
}

TEST_P(Extremes, AllEqual) {
  for (const std::uint32_t rows : {1U, 3U, 5U, 6U, 10U}) {
    const auto set = make_set(GetParam(), 50, 10, [rows](auto, auto) { return rows; });
    expect_promises_of_all(set, concat("all of ", rows));
  }
}

TEST_P(Extremes, AllOversize) {
  const auto set = make_set(GetParam(), 37, 10, [](std::uint32_t i, int) { return 11 + i; });
  expect_promises_of_all(set, "all oversize");
}

TEST_P(Extremes, SomeOversize) {
  const auto set = make_set(GetParam(), 40, 10, [](std::uint32_t i, int k) {
    return i % 7 == 0 && k == 0 ? 11 : i % 10;
  });
  expect_promises_of_all(set, "some oversize");
}

TEST_P(Extremes, NoRowsAtAll) {
  expect_promises_of_all(make_set(GetParam(), 40, 10, [](auto, auto) { return 0U; }), "no rows");
}

TEST_P(Extremes, NoRowsInSomeStreams) {
  const auto odd =
      make_set(GetParam(), 40, 10, [](std::uint32_t i, int k) { return k % 2 == 0 ? 0 : i % 11; });
  expect_promises_of_all(odd, "no rows in the even streams");
  const auto one = make_set(GetParam(), 40, 10, [](std::uint32_t i, int k) {
    return static_cast<std::uint32_t>(k) == i % 9 ? 7U : 0U;
  });
  expect_promises_of_all(one, "rows in one stream at most");
}

TEST_P(Extremes, TheLargestSizes) {
  const auto largest = [](auto, auto) { return kLargest; };
  const auto mixed = [](std::uint32_t i, int) { return i % 3 == 0 ? kLargest : i % 3; };
  for (const std::uint64_t cap : {std::uint64_t{kLargest}, std::uint64_t{kLargest} * 2,
                                  std::uint64_t{1} << 40, std::uint64_t{1} << 63}) {
    expect_promises_of_all(make_set(GetParam(), 40, cap, largest), concat("largest, cap ", cap));
    expect_promises_of_all(make_set(GetParam(), 40, cap, mixed), concat("mixed, cap ", cap));
  }
}

TEST_P(Extremes, CapsOnSamplesAndCost) {
  SampleSet set = make_set(GetParam(), 40, 0, [](std::uint32_t i, int) { return i % 5; });
  set.caps.samples = 1;
  expect_promises_of_all(set, "one sample per pack");
  set.caps.samples = std::numeric_limits<std::uint64_t>::max();
  expect_promises_of_all(set, "no limit on samples");
  set.caps.cost = 1e-6;
  expect_promises_of_all(set, "a cost that only empty samples keep");
  set.caps.cost = 1e300;
  expect_promises_of_all(set, "a cost that nothing reaches");
}

// Anything, in every method.
TEST(ExtremesProperty, AnyInputKeepsThePromises) {
  check_cases(10000, [] {
    const int streams = *between(1, 9);
    const auto most = *rc::gen::element<std::uint32_t>(1, 6, 100, 1U << 31, kLargest);
    const CounterRng rng(*rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint64_t>()));
    const auto samples = static_cast<std::uint32_t>(*between(0, 30));
    const bool few_sizes = *between(0, 2) == 0;
    SampleSet set = make_set(streams, samples, 0, [&](std::uint32_t i, int k) {
      const std::uint64_t index = std::uint64_t{i} * 8 + static_cast<std::uint64_t>(k);
      if (rng.below(2 * index, 8) == 0) return 0U;
      const std::uint64_t draw = rng.below(2 * index + 1, most + std::uint64_t{1});
      return few_sizes ? (draw > most / 2 ? most : most / 3) : static_cast<std::uint32_t>(draw);
    });
    for (std::size_t k = 0; k < static_cast<std::size_t>(streams); ++k) {
      const bool capped = k == 0 || *between(0, 2) == 0;
      if (capped)
        set.caps.rows[k] =
            *between<std::uint64_t>(std::max(1U, most - most / 9), 4 * std::uint64_t{most});
    }
    set.caps.samples = *rc::gen::element<std::uint64_t>(0, 0, 1, 3);
    const PackMethod method = kMethods[*between(0, 5)];
    const OversizePolicy policy = kPolicies[*between(0, 3)];
    expect_promises(set, method, policy);
    RC_ASSERT(!::testing::Test::HasFailure());
  });
}

}  // namespace
}  // namespace gimbal
