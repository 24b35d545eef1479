#include "gimbal/balance/pack/methods.h"
#include "unit/balance/pack_cases.h"

namespace gimbal {
namespace {

using testing::message_of;
using testing::sorted;

std::vector<std::uint32_t> pack_of(const Packs& packs, std::size_t p) {
  return {packs[p].begin(), packs[p].end()};
}

TEST(RandomPacks, KeepTheOrderInGroups) {
  const std::vector<std::uint32_t> order{4, 2, 0, 1, 3};
  const Packs packs = random_packs(order, 2);
  ASSERT_EQ(packs.size(), 3U);
  EXPECT_EQ(pack_of(packs, 0), (std::vector<std::uint32_t>{4, 2}));
  EXPECT_EQ(pack_of(packs, 2), (std::vector<std::uint32_t>{3}));
  EXPECT_EQ(random_packs(order, ~std::uint64_t{0}).size(), 1U);
  EXPECT_EQ(random_packs({}, 2).size(), 0U);
}

TEST(PaddedPacks, AGroupOfNoneIsAnError) {
  const std::vector<std::uint32_t> order{0};
  const std::string random = message_of<UserError>([&] { random_packs(order, 0); });
  EXPECT_NE(random.find("method random"), std::string::npos) << random;
  EXPECT_NE(random.find("balance.samples_per_pack in a recipe"), std::string::npos) << random;
  EXPECT_NE(random.find("--samples-per-pack on the command line"), std::string::npos) << random;
  const std::vector<std::uint32_t> rows{1};
  const std::string length = message_of<UserError>([&] { length_packs({rows, 1}, 0, order, 0); });
  EXPECT_NE(length.find("method length"), std::string::npos) << length;
}

TEST(LengthPacks, SortsWithinMegaBatchesOfFiftyGroups) {
  constexpr std::uint32_t kSamples = 230;  // two mega-batches of 100 and the rest
  const CounterRng rng(7);
  std::vector<std::uint32_t> rows;
  for (std::uint32_t i = 0; i < kSamples; ++i) {
    rows.push_back(1);
    rows.push_back(static_cast<std::uint32_t>(rng.below(i, 50)));
  }
  const SampleSizes sizes{rows, 2};
  const auto order = random_permutation(kSamples, CounterRng(8));
  const Packs packs = length_packs(sizes, 1, order, 2);
  EXPECT_EQ(packs.size(), 115U);
  for (std::uint32_t begin = 0; begin < kSamples; begin += 100) {
    const std::uint32_t end = std::min(begin + 100, kSamples);
    const std::vector<std::uint32_t> got(packs.samples.begin() + begin,
                                         packs.samples.begin() + end);
    EXPECT_EQ(sorted(got), sorted({order.begin() + begin, order.begin() + end}));
    for (std::uint32_t i = 1; i < end - begin; ++i) {
      EXPECT_GE(sizes.at(got[i - 1], 1), sizes.at(got[i], 1));
    }
  }
  EXPECT_GT(sizes.at(packs.samples[100], 1), sizes.at(packs.samples[99], 1));
}

TEST(LengthPacks, EqualLengthsKeepTheirOrder) {
  const std::vector<std::uint32_t> rows{5, 5, 9, 5};
  EXPECT_EQ(length_packs({rows, 1}, 0, std::vector<std::uint32_t>{3, 1, 2, 0}, 4).samples,
            (std::vector<std::uint32_t>{2, 3, 1, 0}));
}

TEST(LengthPacks, OneGroupMayHoldAll) {
  const std::vector<std::uint32_t> rows{5, 6, 7};
  const std::vector<std::uint32_t> order{0, 1, 2};
  const Packs packs = length_packs({rows, 1}, 0, order, ~std::uint64_t{0});
  ASSERT_EQ(packs.size(), 1U);
  EXPECT_EQ(pack_of(packs, 0), (std::vector<std::uint32_t>{2, 1, 0}));
  EXPECT_EQ(length_packs({rows, 1}, 0, {}, 3).size(), 0U);
}

TEST(LengthPacks, AStreamThatIsNotThereIsADefect) {
  const std::vector<std::uint32_t> rows{5};
  EXPECT_THROW(length_packs({rows, 1}, 1, std::vector<std::uint32_t>{0}, 3), InternalError);
}

TEST(PaddedPacks, EveryEntryOnceInFullGroups) {
  testing::check_cases(2000, [] {
    const testing::PackCase drawn = testing::any_pack_case(0, 300);
    const auto group = *rc::gen::element<std::uint64_t>(1, 2, 3, 7, 1000, ~std::uint64_t{0});
    for (const bool by_length : {false, true}) {
      const Packs packs = by_length ? length_packs(drawn.sizes(), 0, drawn.order, group)
                                    : random_packs(drawn.order, group);
      RC_ASSERT(sorted(packs.samples) == sorted(drawn.order));
      RC_ASSERT(packs.offsets.back() == drawn.order.size());
      for (std::size_t p = 0; p + 1 < packs.size(); ++p) RC_ASSERT(packs[p].size() == group);
      if (packs.size() > 0) RC_ASSERT(!packs[packs.size() - 1].empty());
    }
  });
}

}  // namespace
}  // namespace gimbal
