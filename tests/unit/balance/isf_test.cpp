#include "gimbal/balance/pack/methods.h"
#include "unit/balance/pack_cases.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::ascending;
using testing::message_of;
using testing::packing_fault;

std::uint64_t total(const PackLimits& limits, std::span<const std::uint32_t> pack, int limit) {
  std::uint64_t sum = 0;
  for (const std::uint32_t sample : pack) sum += limits.demand(sample, limit);
  return sum;
}

// Next fit, written out: groups as they come.
std::vector<std::vector<std::uint32_t>> next_fit(const PackLimits& limits,
                                                 std::span<const std::uint32_t> order) {
  std::vector<std::vector<std::uint32_t>> result;
  for (const std::uint32_t sample : order) {
    if (!result.empty()) {
      result.back().push_back(sample);
      if (testing::keeps_caps(limits, result.back())) continue;
      result.back().pop_back();
    }
    result.push_back({sample});
  }
  return result;
}

TEST(Isf, WithoutRoundsIsNextFit) {
  testing::check_cases(2000, [] {
    const testing::PackCase drawn = testing::any_pack_case(0, 60);
    const PackLimits limits = drawn.limits();
    const Packs packs = isf_packs(limits, {0, {}}, drawn.order, CounterRng(1));
    const auto expected = next_fit(limits, drawn.order);
    RC_ASSERT(packs.size() == expected.size());
    for (std::size_t p = 0; p < packs.size(); ++p) {
      RC_ASSERT((std::vector<std::uint32_t>(packs[p].begin(), packs[p].end()) == expected[p]));
    }
  });
}

TEST(Isf, EveryEntryOnceAndNoCapExceeded) {
  testing::check_cases(10000, [] {
    const testing::PackCase drawn = testing::any_pack_case(0, 60);
    const PackLimits limits = drawn.limits();
    const int rounds = *rc::gen::element(0, 1, 2, 5, 50);
    const CounterRng rng(*rc::gen::arbitrary<std::uint64_t>());
    const Packs packs = isf_packs(limits, {rounds, {}}, drawn.order, rng);
    RC_ASSERT(packing_fault(limits, packs, drawn.order) == "");
  });
}

// Packs that reach no threshold are the left-overs: a next fit of what the rounds did not accept,
// behind all that was accepted.
TEST(Isf, AcceptedPacksReachAThresholdAndComeFirst) {
  const testing::SampleSet set = testing::tiled_pictures(5000, 9);
  const PackLimits limits(set.sizes(), set.caps, {});
  const auto order = random_permutation(5000, CounterRng(3));
  for (const int rounds : {1, 2, 5, 20}) {
    const Packs packs = isf_packs(limits, {rounds, {}}, order, CounterRng(4));
    std::size_t accepted = 0;
    while (accepted < packs.size() && (total(limits, packs[accepted], 0) >= 16 ||
                                       total(limits, packs[accepted], 1) >= 5376 - 128)) {
      ++accepted;
    }
    ASSERT_LT(accepted, packs.size());
    EXPECT_GT(accepted, packs.size() / 4);
    const auto rest = std::span(packs.samples).subspan(packs.offsets[accepted]);
    const auto expected = next_fit(limits, rest);
    ASSERT_EQ(packs.size() - accepted, expected.size());
    for (std::size_t p = 0; p < expected.size(); ++p) {
      EXPECT_TRUE(std::ranges::equal(packs[accepted + p], expected[p]));
    }
  }
}

TEST(Isf, AThresholdBelowTheCapIsReachedFromAbove) {
  // Packs of 4 + 4 = 8 are above a threshold of 7, which no pack meets exactly: they are accepted
  // and come first. The samples of 6 share a pack with nothing and are left over.
  std::vector<std::uint32_t> rows(50, 4);
  rows.insert(rows.end(), 50, 6);
  const PackLimits limits({rows, 1}, {{9}}, {});
  const Packs packs = isf_packs(limits, {50, {7}}, ascending(100), CounterRng(2));
  for (std::size_t p = 0; p < 20; ++p) EXPECT_EQ(packs[p].size(), 2U) << p;
}

TEST(Isf, ThresholdsDefaultToThePublishedOnes) {
  // 3,968 = 4,096 - 128 is enough, 3,967 is not: those go back, and the last round emits them in
  // the order of the pool, behind.
  std::vector<std::uint32_t> rows(20, 3967);
  rows.insert(rows.end(), 20, 3968);
  const PackLimits limits({rows, 1}, {{4096}}, {});
  const Packs packs = isf_packs(limits, {3, {}}, ascending(40), CounterRng(2));
  ASSERT_EQ(packs.size(), 40U);
  for (std::size_t p = 0; p < 40; ++p) EXPECT_EQ(rows[packs[p][0]], p < 20 ? 3968U : 3967U);
}

TEST(Isf, StopsWhenThePoolIsEmpty) {
  // Every pack is full at once: more rounds change nothing, even very many.
  const std::vector<std::uint32_t> rows(64, 10);
  const PackLimits limits({rows, 1}, {{20}}, {});
  const Packs once = isf_packs(limits, {1, {}}, ascending(64), CounterRng(2));
  const Packs often = isf_packs(limits, {2000000000, {}}, ascending(64), CounterRng(2));
  EXPECT_EQ(once.samples, often.samples);
  EXPECT_EQ(once.offsets, often.offsets);
}

TEST(Isf, RoundsHaveTheirOwnRandomNumbersAndSeedsTheirs) {
  const testing::SampleSet set = testing::tiled_pictures(2000, 9);
  const PackLimits limits(set.sizes(), set.caps, {});
  const Packs a = isf_packs(limits, {5, {}}, ascending(2000), CounterRng(1));
  const Packs again = isf_packs(limits, {5, {}}, ascending(2000), CounterRng(1));
  const Packs b = isf_packs(limits, {5, {}}, ascending(2000), CounterRng(2));
  EXPECT_EQ(a.samples, again.samples);
  EXPECT_NE(a.samples, b.samples);
}

TEST(Isf, OptionsThatCannotWorkAreErrors) {
  const std::vector<std::uint32_t> rows{5};
  const PackLimits limits({rows, 1}, {{10}}, {});
  const std::string rounds = message_of<UserError>([&] {
    isf_packs(limits, {-1, {}}, ascending(1), CounterRng(1));
  });
  EXPECT_NE(rounds.find("isf rounds are -1"), std::string::npos) << rounds;
  const std::string threshold = message_of<UserError>([&] {
    isf_packs(limits, {1, {11}}, ascending(1), CounterRng(1));
  });
  EXPECT_NE(threshold.find("threshold of stream 0 is 11, above its cap of 10"), std::string::npos)
      << threshold;
  EXPECT_THROW(isf_packs(limits, {1, {1, 1}}, ascending(1), CounterRng(1)), InternalError);
}

TEST(Isf, AnEntryThatDoesNotFitIsADefect) {
  const std::vector<std::uint32_t> rows{5, 11};
  const PackLimits limits({rows, 1}, {{10}}, {});
  EXPECT_THROW(isf_packs(limits, {1, {}}, ascending(2), CounterRng(1)), InternalError);
}

}  // namespace
}  // namespace gimbal
