#include "gimbal/balance/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>

#include "gimbal/base/error.h"
#include "unit/balance/real_lengths.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::SampleSet;

SamplerOptions options_for(const SampleSet& set, std::uint64_t packs_per_step) {
  SamplerOptions options;
  options.caps = set.caps;
  options.costs.assign(static_cast<std::size_t>(set.num_streams), StreamCost{});
  options.packs_per_step = packs_per_step;
  options.seed = 11;
  return options;
}

std::vector<std::vector<std::uint32_t>> packs_of(const EpochOrder& order) {
  std::vector<std::vector<std::uint32_t>> all;
  for (std::uint64_t step = 0; step < order.num_steps(); ++step) {
    for (std::uint64_t i = 0; i < order.packs_in_step(step); ++i) {
      const auto pack = order.pack(step, i);
      all.emplace_back(pack.begin(), pack.end());
    }
  }
  return all;
}

std::vector<std::uint32_t> samples_of(const EpochOrder& order) {
  std::vector<std::uint32_t> all;
  for (const auto& pack : packs_of(order)) all.insert(all.end(), pack.begin(), pack.end());
  return all;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(Sampler, ReportCountsAndWasteAreSmall) {
  const SampleSet set = testing::tiled_pictures(8000, 1);
  for (const std::uint64_t ranks : {2, 8}) {
    Sampler sampler(set.sizes(), options_for(set, 16));
    const BalanceReport report = sampler.report(0, ranks);
    EXPECT_EQ(report.samples_in, 8000U);
    EXPECT_EQ(report.samples_packed, 8000U);
    EXPECT_GE(report.packs, report.packs_lower_bound);
    EXPECT_EQ(report.steps, (report.packs + 15) / 16);
    EXPECT_EQ(report.samples_rejected, 0U);
    EXPECT_GT(report.fill[0], 0.9);
    EXPECT_LT(report.cost_waste, 0.005) << ranks;
    EXPECT_LT(report.waste[0], 0.005) << ranks;
    EXPECT_LT(report.waste[1], 0.005) << ranks;
    EXPECT_GT(report.seconds, 0);

    SamplerOptions random = options_for(set, 16);
    random.method = PackMethod::kRandom;
    random.samples_per_group = 4;
    EXPECT_GT(Sampler(set.sizes(), random).report(0, ranks).cost_waste, 10 * report.cost_waste);
  }
}

TEST(Sampler, ReportEqualsAHandMadeExample) {
  // Packs {6}, {4}, {2, 0}: one step of two ranks (the cheapest pack is the rest).
  const SampleSet set{1, {6, 4, 2, 0}, {{6}, 0}};
  SamplerOptions options = options_for(set, 2);
  options.caps.samples = 2;
  options.method = PackMethod::kRandom;
  options.samples_per_group = 4;
  const BalanceReport one = Sampler(set.sizes(), options).report(0, 2);
  EXPECT_EQ(one.packs, 1U);
  EXPECT_DOUBLE_EQ(one.fill[0], 2.0);
  EXPECT_DOUBLE_EQ(one.cost_waste, 0.0);  // no full slot
  EXPECT_EQ(one.packs_lower_bound, 2U);

  const SampleSet uneven{1, {6, 4}, {{6}, 0}};
  const BalanceReport two = Sampler(uneven.sizes(), options_for(uneven, 2)).report(0, 2);
  EXPECT_EQ(two.packs, 2U);
  EXPECT_DOUBLE_EQ(two.fill[0], 10.0 / 12.0);
  EXPECT_DOUBLE_EQ(two.waste[0], 1.0 - 5.0 / 6.0);
  EXPECT_DOUBLE_EQ(two.cost_waste, 1.0 - 5.0 / 6.0);
}

TEST(Sampler, TheRestIsTheLastStep) {
  const SampleSet set = testing::tiled_pictures(1003, 2);
  Sampler sampler(set.sizes(), options_for(set, 7));
  const EpochOrder& order = sampler.epoch(0);
  const std::uint64_t rest = order.num_packs() % 7;
  ASSERT_NE(rest, 0U);
  for (std::uint64_t step = 0; step < order.num_steps(); ++step)
    ASSERT_EQ(order.packs_in_step(step), step + 1 == order.num_steps() ? rest : 7U);
  EXPECT_TRUE(order.pack(order.num_steps() - 1, rest).empty());
  EXPECT_THROW(order.pack(order.num_steps(), 0), InternalError);
}

TEST(Sampler, OrderOfStepsHasNoTrend) {
  const SampleSet set = testing::tiled_pictures(20000, 3);
  Sampler sampler(set.sizes(), options_for(set, 4));
  const EpochOrder& order = sampler.epoch(0);
  // Mean rows of the text stream in the first and in the second half of the epoch.
  double halves[2] = {0, 0};
  const std::uint64_t whole = order.num_steps() - 1;
  for (std::uint64_t step = 0; step < whole; ++step) {
    for (std::uint64_t i = 0; i < 4; ++i) {
      for (const std::uint32_t sample : order.pack(step, i))
        halves[2 * step / whole] += set.sizes().at(sample, 1);
    }
  }
  EXPECT_NEAR(halves[0] / halves[1], 1.0, 0.01);
}

TEST(Sampler, EpochsHaveOtherCompanionsAndComeBackTheSame) {
  const SampleSet set = testing::tiled_pictures(4000, 4);
  Sampler sampler(set.sizes(), options_for(set, 4));
  const auto first = packs_of(sampler.epoch(0));
  const auto second = packs_of(sampler.epoch(1));
  EXPECT_EQ(packs_of(sampler.epoch(0)), first);
  const auto pairs_of = [](const std::vector<std::vector<std::uint32_t>>& packs) {
    std::set<std::pair<std::uint32_t, std::uint32_t>> pairs;
    for (const auto& pack : packs) {
      for (const auto a : pack) {
        for (const auto b : pack) {
          if (a < b) pairs.insert({a, b});
        }
      }
    }
    return pairs;
  };
  const auto pairs = pairs_of(first);
  std::size_t again = 0;
  for (const auto& pair : pairs_of(second)) again += pairs.count(pair);
  EXPECT_LT(static_cast<double>(again), 0.02 * static_cast<double>(pairs.size()));

  SamplerOptions other = options_for(set, 4);
  other.seed = 12;
  EXPECT_NE(packs_of(Sampler(set.sizes(), other).epoch(0)), first);
}

TEST(Sampler, SourceWeightsGiveTheExpectedOccurrences) {
  SampleSet set = testing::tiled_pictures(6000, 5);
  SamplerOptions options = options_for(set, 4);
  for (std::uint32_t i = 0; i < 6000; ++i) options.sources.push_back(i % 3);
  options.source_weights = {2.5, 0.0, 1.0};
  Sampler sampler(set.sizes(), options);
  std::vector<int> times(6000);
  for (const std::uint32_t sample : samples_of(sampler.epoch(0))) ++times[sample];
  int up = 0;
  for (std::uint32_t i = 0; i < 6000; ++i) {
    if (i % 3 == 0) {
      EXPECT_TRUE(times[i] == 2 || times[i] == 3);
      up += times[i];
    } else {
      EXPECT_EQ(times[i], i % 3 == 1 ? 0 : 1);
    }
  }
  EXPECT_NEAR(up, 5000,
              120);  // 2000 samples, 2.5 times each; 120 is more than 5 standard deviations (22)
  EXPECT_EQ(sampler.report(0, 2).samples_in, static_cast<std::uint64_t>(up) + 2000);
  // The samples that come once more differ between epochs.
  std::vector<int> next(6000);
  for (const std::uint32_t sample : samples_of(sampler.epoch(1))) ++next[sample];
  EXPECT_NE(times, next);
}

TEST(Sampler, RandomMethodIsAShuffleInGroups) {
  const SampleSet set{1, std::vector<std::uint32_t>(10, 100), {{1}, 0}};  // caps do not apply
  SamplerOptions options = options_for(set, 2);
  options.method = PackMethod::kRandom;
  options.samples_per_group = 3;
  Sampler sampler(set.sizes(), options);
  const EpochOrder& order = sampler.epoch(0);
  EXPECT_EQ(order.num_packs(), 4U);
  auto samples = samples_of(order);
  EXPECT_FALSE(std::is_sorted(samples.begin(), samples.end()));
  std::sort(samples.begin(), samples.end());
  EXPECT_EQ(samples, (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(Sampler, BadOptionsAreNamed) {
  const SampleSet set{1, {1, 2, 3}, {{4}, 0}};
  SamplerOptions options = options_for(set, 0);
  EXPECT_NE(error_of([&] { Sampler(set.sizes(), options); }).find("balance.packs_per_step"),
            std::string::npos);
  options.packs_per_step = 1;
  for (const double weight : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    options.source_weights = {weight};
    EXPECT_NE(error_of([&] { Sampler(set.sizes(), options); }).find("source 0: its weight"),
              std::string::npos);
  }
  options.source_weights = {1e12};
  EXPECT_NE(error_of([&] { Sampler(set.sizes(), options); }).find("lower the weights"),
            std::string::npos);
  options.source_weights = {1.0};
  options.sources = {0, 1, 0};
  EXPECT_THROW(Sampler(set.sizes(), options), InternalError);
}

TEST(Sampler, SlotsMustDivideTheStep) {
  const SampleSet set{1, {1, 2, 3}, {{4}, 0}};
  SamplerOptions options = options_for(set, 6);
  options.packs_per_slot = 4;
  EXPECT_NE(
      error_of([&] {
        Sampler(set.sizes(), options);
      }).find("balance.packs_per_slot is 4, which does not divide balance.packs_per_step (6)"),
      std::string::npos);
  options.packs_per_slot = 3;
  EXPECT_EQ(samples_of(Sampler(set.sizes(), options).epoch(0)).size(), 3U);
}

TEST(Sampler, PacksOfASlotAreAlikeInALargerStep) {
  const SampleSet set = testing::tiled_pictures(4000, 6);
  SamplerOptions options = options_for(set, 32);
  options.packs_per_slot = 8;
  options.sources.assign(4000, 0);
  const BalanceReport slots = Sampler(set.sizes(), options).report(0, 8);
  EXPECT_LT(slots.cost_waste, 0.002);
  EXPECT_LT(std::abs(slots.order_correlation), 0.1);
  // Larger slots order the packs of a step by cost.
  options.packs_per_slot = 0;
  EXPECT_NE(packs_of(Sampler(set.sizes(), options).epoch(0)),
            packs_of(Sampler(set.sizes(), options_for(set, 8)).epoch(0)));
}

TEST(Sampler, OversizeSamplesAreAnErrorThatNamesThem) {
  const SampleSet set{1, {1, 9}, {{4}, 0}};
  SamplerOptions options = options_for(set, 1);
  EXPECT_NE(error_of([&] { Sampler(set.sizes(), options); }).find("sample 1"), std::string::npos);
  options.describe = [](std::uint32_t sample) { return "line " + std::to_string(sample + 2); };
  EXPECT_NE(error_of([&] { Sampler(set.sizes(), options); }).find("line 3"), std::string::npos);
}

TEST(Sampler, RejectedSamplesAreLeftOutAndCounted) {
  const SampleSet set{1, {1, 9, 2, 8, 3}, {{4}, 0}};
  SamplerOptions options = options_for(set, 1);
  options.oversize = OversizePolicy::kReject;
  options.sources = {0, 0, 0, 1, 1};
  options.source_weights = {1, 3};
  Sampler sampler(set.sizes(), options);
  ASSERT_EQ(sampler.screening().rejected.size(), 2U);
  EXPECT_EQ(sampler.screening().rejected[0].sample, 1U);
  auto samples = samples_of(sampler.epoch(0));
  std::sort(samples.begin(), samples.end());
  EXPECT_EQ(samples, (std::vector<std::uint32_t>{0, 2, 4, 4, 4}));
  const BalanceReport report = sampler.report(0, 1);
  EXPECT_EQ(report.samples_in, 9U);
  EXPECT_EQ(report.samples_packed, 5U);
  EXPECT_EQ(report.samples_rejected, 4U);  // sample 3 three times
  EXPECT_EQ(sampler.source_counts(0), (std::vector<std::uint64_t>{2, 3}));
}

TEST(Sampler, OversizeSamplesCanHaveTheirOwnPacks) {
  const SampleSet set{1, {1, 9, 2, 8, 1}, {{4}, 0}};
  SamplerOptions options = options_for(set, 1);
  options.oversize = OversizePolicy::kAlone;
  Sampler sampler(set.sizes(), options);
  EXPECT_EQ(sampler.screening().oversize.size(), 2U);
  for (const auto& pack : packs_of(sampler.epoch(0))) {
    const bool alone = pack.size() == 1 && (pack[0] == 1 || pack[0] == 3);
    const bool together = std::find(pack.begin(), pack.end(), 1U) == pack.end() &&
                          std::find(pack.begin(), pack.end(), 3U) == pack.end();
    EXPECT_TRUE(alone || together);
  }
  EXPECT_EQ(sampler.report(0, 1).samples_packed, 5U);
  EXPECT_EQ(sampler.epoch(0).num_packs(), 3U);
}

TEST(Sampler, NoSamplesGiveAnEpochOfNoSteps) {
  const SampleSet set{2, {}, {{4, 4}, 0}};
  for (const PackMethod method :
       {PackMethod::kGimbal, PackMethod::kIsf, PackMethod::kBestFitDecreasing, PackMethod::kRandom,
        PackMethod::kLength}) {
    SamplerOptions options = options_for(set, 4);
    options.method = method;
    options.samples_per_group = 2;
    Sampler sampler(set.sizes(), options);
    EXPECT_EQ(sampler.epoch(0).num_steps(), 0U);
    EXPECT_EQ(sampler.report(0, 4).samples_in, 0U);
    EXPECT_EQ(sampler.source_counts(0), (std::vector<std::uint64_t>{0}));
  }
}

TEST(Sampler, EveryMethodPacksEachSampleOnce) {
  const SampleSet set = testing::tiled_pictures(3000, 7);
  for (const PackMethod method :
       {PackMethod::kGimbal, PackMethod::kIsf, PackMethod::kBestFitDecreasing, PackMethod::kRandom,
        PackMethod::kLength}) {
    SamplerOptions options = options_for(set, 8);
    options.method = method;
    options.samples_per_group = 4;
    options.length_stream = 1;
    options.isf_rounds = 5;
    Sampler sampler(set.sizes(), options);
    auto samples = samples_of(sampler.epoch(0));
    std::sort(samples.begin(), samples.end());
    ASSERT_EQ(samples.size(), 3000U);
    EXPECT_EQ(std::unique(samples.begin(), samples.end()), samples.end());
    const BalanceReport report = sampler.report(0, 8);
    const bool padded = method == PackMethod::kRandom || method == PackMethod::kLength;
    EXPECT_EQ(report.pad_ratio > 0, padded);
    EXPECT_GT(report.packs_lower_bound, 0U);
  }
}

TEST(Sampler, ArrangedMethodsWasteLessThanPublishedOnes) {
  const SampleSet set = testing::tiled_pictures(6000, 8);
  const auto waste = [&](PackMethod method) {
    SamplerOptions options = options_for(set, 8);
    options.method = method;
    return Sampler(set.sizes(), options).report(0, 8).cost_waste;
  };
  const double isf = waste(PackMethod::kIsf);
  EXPECT_LT(waste(PackMethod::kGimbal), 0.1 * isf);
  EXPECT_LT(waste(PackMethod::kBestFitDecreasing), 0.1 * isf);
}

TEST(Sampler, LengthGroupsPadLessThanRandomOnes) {
  const SampleSet set = testing::tiled_pictures(3000, 9);
  const auto padding = [&](PackMethod method) {
    SamplerOptions options = options_for(set, 8);
    options.method = method;
    options.samples_per_group = 4;
    options.length_stream = 1;
    return Sampler(set.sizes(), options).report(0, 8).pad_ratio;
  };
  EXPECT_LT(padding(PackMethod::kLength), 0.2 * padding(PackMethod::kRandom));
}

// Real lengths, and the first few rounds of their patterns.
SampleSet real_set() { return {2, testing::real_lengths().rows, {{16, 4096}, 0}}; }

SamplerOptions quick_patterns(const SampleSet& set) {
  SamplerOptions options = options_for(set, 4);
  options.pattern_options.max_rounds = 4;
  options.pattern_options.compare = false;
  return options;
}

TEST(Sampler, FewSamplesArePackedWithoutPatterns) {
  SampleSet set = real_set();
  set.rows.resize(2 * 4095);
  EXPECT_TRUE(Sampler(set.sizes(), quick_patterns(set)).patterns()->empty());
}

TEST(Sampler, PatternsAreSolvedOnceAndCanBeHandedOver) {
  const SampleSet set = real_set();
  SamplerOptions options = quick_patterns(set);
  Sampler sampler(set.sizes(), options);
  const auto patterns = sampler.patterns();
  ASSERT_FALSE(patterns->empty());
  EXPECT_EQ(sampler.patterns(), patterns);
  const auto second = packs_of(sampler.epoch(1));
  options.patterns = patterns;
  Sampler other(set.sizes(), options);
  EXPECT_EQ(other.patterns(), patterns);
  EXPECT_EQ(packs_of(other.epoch(1)), second);

  options.caps.rows[1] += 1;
  EXPECT_THROW(Sampler(set.sizes(), options), UserError);  // the patterns are of other caps

  options.method = PackMethod::kBestFitDecreasing;
  options.patterns = nullptr;
  EXPECT_TRUE(Sampler(set.sizes(), options).patterns()->empty());
}

TEST(Sampler, PatternsDoNotDependOnTheEpochAskedForFirst) {
  const SampleSet set = real_set();
  SamplerOptions options = quick_patterns(set);
  for (std::uint32_t i = 0; i < set.sizes().num_samples(); ++i) options.sources.push_back(i % 2);
  options.source_weights = {0.5, 0.2};
  Sampler one(set.sizes(), options), two(set.sizes(), options);
  one.epoch(3);
  two.epoch(0);
  ASSERT_FALSE(one.patterns()->empty());
  EXPECT_EQ(one.patterns()->fingerprint(), two.patterns()->fingerprint());
  EXPECT_EQ(packs_of(one.epoch(3)), packs_of(two.epoch(3)));
}

TEST(Sampler, SourceCountsAreExact) {
  const SampleSet set = testing::tiled_pictures(3000, 13);
  SamplerOptions options = options_for(set, 4);
  for (std::uint32_t i = 0; i < 3000; ++i) options.sources.push_back(i % 3);
  options.source_weights = {0.25, 2, 1.5, 1};  // no sample is of source 3
  Sampler sampler(set.sizes(), options);
  for (const std::uint64_t epoch : {0, 1}) {
    std::vector<std::uint64_t> counted(4);
    for (const std::uint32_t sample : samples_of(sampler.epoch(epoch)))
      ++counted[options.sources[sample]];
    EXPECT_EQ(sampler.source_counts(epoch), counted);
    EXPECT_EQ(counted[1], 2000U);
  }
}

TEST(SampleCost, AddsRowsAndPairs) {
  const SampleSet set{2, {3, 10}, {}};
  EXPECT_DOUBLE_EQ(sample_cost(set.sizes(), 0, std::vector<StreamCost>{{2.0, 0.5}, {1.0, 0.0}}),
                   6 + 4.5 + 10);
}

}  // namespace
}  // namespace gimbal
