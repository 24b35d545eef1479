#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "gimbal/balance/arrange/split.h"
#include "gimbal/base/error.h"
#include "unit/balance/sample_sets.h"

namespace gimbal {
namespace {

using testing::SampleSet;
using Parts = std::vector<std::vector<std::uint32_t>>;

const std::vector<StreamCost> kByRows{{1.0, 0.0}};

TEST(SplitPack, CutsAtEqualCost) {
  const SampleSet set{1, {8, 2, 2, 4, 4, 4}, {}};
  const std::vector<std::uint32_t> pack{0, 1, 2, 3, 4, 5};
  EXPECT_EQ(split_pack(pack, 3, set.sizes(), kByRows), (Parts{{0}, {1, 2, 3}, {4, 5}}));
  EXPECT_EQ(split_pack(pack, 1, set.sizes(), kByRows), (Parts{pack}));
}

TEST(SplitPack, ZeroMeansOneSampleEach) {
  const SampleSet set{1, {5, 1, 1}, {}};
  EXPECT_EQ(split_pack(std::vector<std::uint32_t>{2, 0, 1}, 0, set.sizes(), kByRows),
            (Parts{{2}, {0}, {1}}));
}

TEST(SplitPack, AnEmptyPackHasNoMicroBatches) {
  const SampleSet set{1, {5}, {}};
  EXPECT_TRUE(split_pack({}, 4, set.sizes(), kByRows).empty());
  EXPECT_TRUE(split_pack({}, 0, set.sizes(), kByRows).empty());
  EXPECT_THROW(split_pack({}, -1, set.sizes(), kByRows), InternalError);
}

RC_GTEST_PROP(SplitPack, KeepsTheSamplesInOrder,
              (std::vector<std::uint8_t> sizes, std::uint8_t count)) {
  const SampleSet set{1, {sizes.begin(), sizes.end()}, {}};
  std::vector<std::uint32_t> pack, joined;
  for (std::uint32_t i = 0; i < sizes.size(); ++i) pack.push_back(i);
  const Parts parts = split_pack(pack, count, set.sizes(), kByRows);
  const std::size_t expected = count == 0 ? pack.size() : std::min<std::size_t>(pack.size(), count);
  RC_ASSERT(parts.size() == expected);
  for (const auto& part : parts) {
    RC_ASSERT(!part.empty());
    joined.insert(joined.end(), part.begin(), part.end());
  }
  RC_ASSERT(joined == pack);
}

}  // namespace
}  // namespace gimbal
