#include "gimbal/balance/arrange/mix_sources.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>

#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::SampleSet;

// `count` packs of the samples 0, 1, 2, ... with `size` samples each.
Packs ascending_packs(std::uint32_t count, std::uint32_t size) {
  Packs packs;
  for (std::uint32_t p = 0; p < count; ++p) {
    std::vector<std::uint32_t> pack(size);
    std::iota(pack.begin(), pack.end(), p * size);
    packs.add(pack);
  }
  return packs;
}

TEST(SourceClasses, TheLargestSourcesHaveAClassEach) {
  std::vector<std::uint32_t> sources;
  for (std::uint32_t source = 0; source < 20; ++source)
    sources.insert(sources.end(), source + 1, source);
  const auto samples = static_cast<std::uint32_t>(sources.size());  // 210
  const Packs packs = ascending_packs(samples, 1);
  const SourceClasses classes(packs, sources);
  ASSERT_EQ(classes.count(), 16U);
  EXPECT_EQ(classes.of(samples - 1), 0U);  // source 19
  EXPECT_DOUBLE_EQ(classes.share(0), 20.0 / 210);
  EXPECT_EQ(classes.of(0), 15U);  // sources 0 to 4 share the last class
  EXPECT_EQ(classes.of(14), 15U);
  EXPECT_NEAR(classes.share(15), (1 + 2 + 3 + 4 + 5) / 210.0, 1e-12);
}

TEST(SourceClasses, NoSourcesAreOneClass) {
  EXPECT_EQ(SourceClasses(ascending_packs(2, 2), {}).count(), 1U);
}

TEST(MixSources, EqualSamplesSpreadOverTheSlots) {
  // 32 samples of one size; the first half is of source 0 and fills slots 0 and 1.
  const SampleSet set{1, std::vector<std::uint32_t>(32, 5), {{20}, 0}};
  std::vector<std::uint32_t> sources(32);
  std::fill(sources.begin() + 16, sources.end(), 1U);
  Packs packs = ascending_packs(8, 4);
  mix_sources(packs, set.sizes(), SourceClasses(packs, sources), 2, CounterRng(1));
  for (std::size_t slot = 0; slot < 4; ++slot) {
    int of_first = 0;
    for (std::size_t i = 8 * slot; i < 8 * (slot + 1); ++i)
      of_first += sources[packs.samples[i]] == 0 ? 1 : 0;
    EXPECT_NEAR(of_first, 4, 1) << slot;
  }
}

TEST(MixSources, SamplesOfOtherSizesStay) {
  // Source 1 has other sizes: no exchange is possible.
  SampleSet set{1, std::vector<std::uint32_t>(32, 5), {{40}, 0}};
  std::fill(set.rows.begin() + 16, set.rows.end(), 6U);
  std::vector<std::uint32_t> sources(32);
  std::fill(sources.begin() + 16, sources.end(), 1U);
  Packs packs = ascending_packs(8, 4);
  const auto before = packs.samples;
  mix_sources(packs, set.sizes(), SourceClasses(packs, sources), 2, CounterRng(1));
  EXPECT_EQ(packs.samples, before);
}

TEST(MixSources, SamplesOfOtherPairsStay) {
  const std::vector<std::uint32_t> rows(32, 5);
  std::vector<std::uint64_t> pairs(32, 25);
  std::fill(pairs.begin() + 16, pairs.end(), 13U);  // of two media items
  std::vector<std::uint32_t> sources(32);
  std::fill(sources.begin() + 16, sources.end(), 1U);
  Packs packs = ascending_packs(8, 4);
  const auto before = packs.samples;
  const SampleSizes sizes{rows, 1, pairs, {}};
  mix_sources(packs, sizes, SourceClasses(packs, sources), 2, CounterRng(1));
  EXPECT_EQ(packs.samples, before);
}

RC_GTEST_PROP(MixSources, EachPlaceKeepsItsSize, (std::uint64_t seed)) {
  const auto count = *rc::gen::inRange<std::uint32_t>(0, 40);
  const auto per_slot = *rc::gen::inRange<std::uint64_t>(1, 9);
  const CounterRng rng(seed);
  SampleSet set{2, {}, {{100, 100}, 0}};
  std::vector<std::uint32_t> sources;
  for (std::uint32_t i = 0; i < 4 * count; ++i) {
    set.rows.push_back(static_cast<std::uint32_t>(rng.below(3 * i, 2)));
    set.rows.push_back(static_cast<std::uint32_t>(rng.below(3 * i + 1, 3)));
    sources.push_back(static_cast<std::uint32_t>(rng.below(3 * i + 2, 4)));
  }
  Packs packs = ascending_packs(count, 4);
  const Packs before = packs;
  mix_sources(packs, set.sizes(), SourceClasses(packs, sources), per_slot, rng);
  RC_ASSERT(packs.offsets == before.offsets);
  for (std::size_t i = 0; i < packs.samples.size(); ++i) {
    for (int k = 0; k < 2; ++k)
      RC_ASSERT(set.sizes().at(packs.samples[i], k) == set.sizes().at(before.samples[i], k));
    // The incomplete last slot is left alone.
    if (i >= count / per_slot * per_slot * 4) RC_ASSERT(packs.samples[i] == before.samples[i]);
  }
  auto sorted = packs.samples;
  std::sort(sorted.begin(), sorted.end());
  RC_ASSERT(sorted == before.samples);
}

}  // namespace
}  // namespace gimbal
