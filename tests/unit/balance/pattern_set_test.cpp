#include "gimbal/balance/patterns/pattern_set.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "balance/brute_force.h"
#include "balance/pack_cases.h"
#include "balance/sample_sets.h"
#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/bound/lp.h"
#include "gimbal/balance/pack/methods.h"
#include "gimbal/base/error.h"
#include "gimbal/base/file.h"

namespace gimbal {
namespace {

using testing::SampleSet;

// Keeps the patterns where the heuristic is as good.
const PatternOptions kKeep = [] {
  PatternOptions options;
  options.compare = false;
  return options;
}();

std::vector<std::uint32_t> shuffled_samples(const SampleSizes& sizes, std::uint64_t seed) {
  return random_permutation(static_cast<std::uint32_t>(sizes.num_samples()), CounterRng(seed));
}

// Every entry once, no cap exceeded.
void expect_sound(const Packs& packs, const PackLimits& limits, std::vector<std::uint32_t> order) {
  std::vector<std::uint32_t> packed = packs.samples;
  std::sort(packed.begin(), packed.end());
  std::sort(order.begin(), order.end());
  ASSERT_EQ(packed, order);
  for (std::size_t p = 0; p < packs.size(); ++p) {
    ASSERT_FALSE(packs[p].empty());
    for (int l = 0; l < limits.count(); ++l) {
      std::uint64_t used = 0;
      for (const std::uint32_t sample : packs[p]) used += limits.demand(sample, l);
      ASSERT_LE(used, limits.cap(l));
    }
  }
}

// Solved once for all tests.
class PatternSetOfPictures : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { patterns_ = new PatternSet(solve()); }
  static void TearDownTestSuite() { delete patterns_; }
  static PatternSet solve(const PatternOptions& options = kKeep) {
    const SampleSet pictures = testing::tiled_pictures(kSamples, 3);
    const SampleSizes picture_sizes = pictures.sizes();
    return solve_patterns(PackLimits(picture_sizes, pictures.caps, {}),
                          shuffled_samples(picture_sizes, 1), options);
  }

  static constexpr std::uint32_t kSamples = 3000;
  static PatternSet* patterns_;
  const PatternSet& patterns = *patterns_;
  SampleSet set = testing::tiled_pictures(kSamples, 3);
  SampleSizes sizes = set.sizes();
  PackLimits limits{sizes, set.caps, {}};
  std::vector<std::uint32_t> order = shuffled_samples(sizes, 1);
};
PatternSet* PatternSetOfPictures::patterns_ = nullptr;

TEST_F(PatternSetOfPictures, PacksWithinAFewPacksOfTheBound) {
  ASSERT_FALSE(patterns.empty());
  const Packs packs = pattern_packs(patterns, limits, order);
  expect_sound(packs, limits, order);
  const LpBound bound = lp_lower_bound(limits, order, 20, packs.size());
  EXPECT_GE(bound.packs, fast_lower_bound(limits, order));
  EXPECT_LE(bound.packs, packs.size());
  EXPECT_LE(static_cast<double>(packs.size()), 1.003 * static_cast<double>(bound.packs) + 2);
}

TEST_F(PatternSetOfPictures, OtherOrdersGiveOtherCompanionsAndAsManyPacks) {
  const Packs first = pattern_packs(patterns, limits, order);
  const Packs second = pattern_packs(patterns, limits, shuffled_samples(sizes, 2));
  expect_sound(second, limits, order);
  EXPECT_NEAR(static_cast<double>(first.size()), static_cast<double>(second.size()), 3);
  std::set<std::pair<std::uint32_t, std::uint32_t>> pairs;
  for (std::size_t p = 0; p < first.size(); ++p) {
    for (const std::uint32_t a : first[p]) {
      for (const std::uint32_t b : first[p]) pairs.emplace(a, b);
    }
  }
  std::size_t same = 0, all = 0;
  for (std::size_t p = 0; p < second.size(); ++p) {
    for (const std::uint32_t a : second[p]) {
      for (const std::uint32_t b : second[p]) {
        if (a == b) continue;
        ++all;
        same += pairs.contains({a, b}) ? 1U : 0U;
      }
    }
  }
  EXPECT_LT(static_cast<double>(same), 0.1 * static_cast<double>(all));
}

TEST_F(PatternSetOfPictures, APartOfTheSamplesIsPackedAsWell) {
  std::vector<std::uint32_t> part(order.begin(), order.begin() + 2000);
  part.insert(part.end(), order.begin(), order.begin() + 500);  // some twice
  const Packs packs = pattern_packs(patterns, limits, part);
  expect_sound(packs, limits, part);
  const auto bound = static_cast<double>(fast_lower_bound(limits, part));
  EXPECT_LE(static_cast<double>(packs.size()), 1.01 * bound + 3);
}

TEST_F(PatternSetOfPictures, SamplesLargerThanTheirTypeAreNotLost) {
  // Solved for the smaller half; the others exceed what the types allow for.
  std::vector<std::uint32_t> small;
  for (const std::uint32_t sample : order) {
    if (sizes.at(sample, 1) < 900) small.push_back(sample);
  }
  const PatternSet others = solve_patterns(limits, small, kKeep);
  ASSERT_FALSE(others.empty());
  expect_sound(pattern_packs(others, limits, order), limits, order);
}

TEST_F(PatternSetOfPictures, OtherCapsAreRefused) {
  PackCaps caps = set.caps;
  caps.rows[1] += 1;
  const PackLimits others(sizes, caps, {});
  EXPECT_FALSE(patterns.fits(others));
  EXPECT_THROW(pattern_packs(patterns, others, order), UserError);
}

TEST_F(PatternSetOfPictures, OtherStreamsOfTheSameCapAreRefused) {
  const std::vector<std::string> names = {"vision", "tokens"}, others = {"tokens", "vision"};
  SampleSizes named = sizes;
  named.names = names;
  const PackCaps one{{0, 5376}};
  const PatternSet tokens = solve_patterns(PackLimits(named, one, {}), order, kKeep);
  ASSERT_FALSE(tokens.empty());
  EXPECT_TRUE(tokens.fits(PackLimits(named, one, {})));
  EXPECT_TRUE(tokens.fits(PackLimits(sizes, one, {})));  // without names the place decides
  EXPECT_FALSE(tokens.fits(PackLimits(named, PackCaps{{5376}}, {})));
  named.names = others;
  EXPECT_FALSE(tokens.fits(PackLimits(named, one, {})));
}

TEST_F(PatternSetOfPictures, OtherCostsUnderTheSameCapAreRefused) {
  PackCaps caps = set.caps;
  caps.cost = 5000;
  const std::vector<StreamCost> costs = {{100, 0}, {1, 0}}, others = {{90, 0}, {1, 0}};
  const PatternSet with_cost = solve_patterns(PackLimits(sizes, caps, costs), order, kKeep);
  EXPECT_TRUE(with_cost.fits(PackLimits(sizes, caps, costs)));
  EXPECT_FALSE(with_cost.fits(PackLimits(sizes, caps, others)));
  caps.cost = 6000;
  EXPECT_FALSE(with_cost.fits(PackLimits(sizes, caps, costs)));
}

TEST_F(PatternSetOfPictures, OtherDataIsPackedBySearch) {
  // Under the same caps, but sizes that the types are far too coarse for.
  SampleSet wide = testing::modality_mix(2, 3000, 1);
  const SampleSizes wide_sizes = wide.sizes();
  PackCaps caps{{4096, 8192}};
  SampleSet small = testing::tiled_pictures(3000, 3);
  const SampleSizes small_sizes = small.sizes();
  const PatternSet others =
      solve_patterns(PackLimits(small_sizes, caps, {}), shuffled_samples(small_sizes, 1), kKeep);
  ASSERT_FALSE(others.empty());
  const PackLimits wide_limits(wide_sizes, caps, {});
  const auto wide_order = shuffled_samples(wide_sizes, 2);
  const Packs packs = pattern_packs(others, wide_limits, wide_order);
  expect_sound(packs, wide_limits, wide_order);
  EXPECT_EQ(packs.size(), window_packs(wide_limits, wide_order).size());
}

TEST_F(PatternSetOfPictures, SolvingIsDeterministicAndReportsProgress) {
  PatternOptions options = kKeep;
  int calls = 0;
  options.progress = [&](double share) {
    ++calls;
    return share >= 0 && share <= 1;
  };
  EXPECT_EQ(patterns.fingerprint(), solve(options).fingerprint());
  EXPECT_GT(calls, 0);
}

TEST_F(PatternSetOfPictures, AFileHoldsThemAll) {
  const auto file = std::filesystem::temp_directory_path() / "gimbal_pattern_set_test.json";
  save_patterns(patterns, file);
  const PatternSet loaded = load_patterns(file);
  EXPECT_EQ(loaded.fingerprint(), patterns.fingerprint());
  EXPECT_EQ(pattern_packs(loaded, limits, order).samples,
            pattern_packs(patterns, limits, order).samples);

  const std::string good = read_file(file);
  const auto refused = [&](const std::string& content, const std::string& what) {
    write_file_atomic(file, content);
    try {
      load_patterns(file);
      ADD_FAILURE() << "accepted: " << what;
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(file.string()), std::string::npos) << error.what();
    }
  };
  refused(good.substr(0, good.size() / 2), "half a file");
  refused("{}", "no pattern file");
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  refused(replaced("\"version\":1", "\"version\":9"), "another version");
  refused(replaced("\"caps\":[16,", "\"caps\":[15,"), "another cap");
  refused(replaced("\"patterns\":[[[", "\"patterns\":[[[9999,1],["), "an unknown type");
  refused(replaced("\"patterns\":[[[", "\"patterns\":[[[1],["), "half an entry");
  refused(replaced("\"nodes\":[[", "\"nodes\":[[1,2],["), "half a node");
  std::filesystem::remove(file);
}

TEST(PatternSet, NoSamplesGiveNoPatternsAndThatIsKeptToo) {
  const SampleSet set = testing::tiled_pictures(10, 3);
  const SampleSizes sizes = set.sizes();
  const PackLimits limits(sizes, set.caps, {});
  const PatternSet none = solve_patterns(limits, {});
  EXPECT_TRUE(none.empty());
  const auto file = std::filesystem::temp_directory_path() / "gimbal_no_patterns_test.json";
  save_patterns(none, file);
  const PatternSet loaded = load_patterns(file);
  EXPECT_TRUE(loaded.empty());
  EXPECT_TRUE(loaded.fits(limits));
  std::filesystem::remove(file);
}

TEST(PatternSet, SamplesWithoutAnyRowsAreNotLost) {
  SampleSet set = testing::tiled_pictures(1500, 3);
  for (std::size_t i = 0; i < 400; ++i) set.rows[i] = 0;
  const SampleSizes sizes = set.sizes();
  const PackLimits limits(sizes, set.caps, {});
  const auto order = shuffled_samples(sizes, 1);
  const PatternSet patterns = solve_patterns(limits, order, kKeep);
  ASSERT_FALSE(patterns.empty());
  expect_sound(pattern_packs(patterns, limits, order), limits, order);
}

TEST(PatternSet, CapsOnCostAndSamplesAreKept) {
  SampleSet set = testing::tiled_pictures(2000, 3);
  set.caps.samples = 4;
  set.caps.cost = 5000;
  const SampleSizes sizes = set.sizes();
  const std::vector<StreamCost> costs = {{100, 0}, {1, 1e-4}};
  const PackLimits limits(sizes, set.caps, costs);
  ASSERT_EQ(limits.count(), 4);
  const auto order = shuffled_samples(sizes, 1);
  const PatternSet patterns = solve_patterns(limits, order, kKeep);
  if (!patterns.empty()) expect_sound(pattern_packs(patterns, limits, order), limits, order);
  EXPECT_LE(lp_lower_bound(limits, order, 5).packs, window_packs(limits, order).size());
}

// Wide sizes in several streams: whatever the patterns are, nothing is lost and the bound is one.
TEST(PatternSet, HoldsForAnyStreams) {
  rc::check("sound packs and a bound below them", [] {
    const int streams = *rc::gen::inRange(1, 5);
    const auto samples = static_cast<std::uint32_t>(*rc::gen::inRange(1, 400));
    const SampleSet set = testing::modality_mix(
        streams, samples, static_cast<std::uint64_t>(*rc::gen::inRange(0, 1000)));
    const SampleSizes sizes = set.sizes();
    const PackLimits limits(sizes, set.caps, {});
    const auto order = shuffled_samples(sizes, 1);
    PatternOptions options;
    options.max_rounds = *rc::gen::inRange(1, 20);
    options.compare = false;
    const PatternSet patterns = solve_patterns(limits, order, options);
    if (!patterns.empty()) expect_sound(pattern_packs(patterns, limits, order), limits, order);
    RC_ASSERT(lp_lower_bound(limits, order, 0.05).packs <= window_packs(limits, order).size());
  });
}

TEST(LpBound, IsNeverAboveTheFewestPacks) {
  rc::check("at most the optimum, at least the fast bound", [] {
    const int streams = *rc::gen::inRange(1, 4);
    const auto samples = static_cast<std::uint32_t>(*rc::gen::inRange(1, 10));
    SampleSet set{
        streams, {}, {std::vector<std::uint64_t>(static_cast<std::size_t>(streams), 20), 0}};
    for (std::uint32_t i = 0; i < samples * static_cast<std::uint32_t>(streams); ++i)
      set.rows.push_back(static_cast<std::uint32_t>(*rc::gen::inRange(0, 23)));
    const SampleSizes sizes = set.sizes();
    const PackLimits limits(sizes, set.caps, {});
    const auto order = shuffled_samples(sizes, 1);
    const std::uint64_t fewest = testing::fewest_packs(limits, order);
    const LpBound bound = lp_lower_bound(limits, order, 5);
    RC_ASSERT(bound.packs <= fewest);
    RC_ASSERT(bound.packs >= fast_lower_bound(limits, order));
  });
}

TEST(LpBound, StoppedEarlyItIsStillABound) {
  const SampleSet set = testing::tiled_pictures(1500, 5);
  const SampleSizes sizes = set.sizes();
  const PackLimits limits(sizes, set.caps, {});
  const auto order = shuffled_samples(sizes, 1);
  const LpBound full = lp_lower_bound(limits, order, 20);
  int calls = 0;
  const LpBound stopped = lp_lower_bound(limits, order, 20, 0, [&](double) { return ++calls < 2; });
  EXPECT_LE(stopped.packs, full.packs);
  EXPECT_LE(full.packs, window_packs(limits, order).size());
}

}  // namespace
}  // namespace gimbal
