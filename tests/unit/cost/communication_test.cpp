#include "gimbal/cost/communication.h"

#include <gtest/gtest.h>

#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

const LinkCost kLink{.latency = 1e-6, .bytes_per_second = 1e9};

TEST(Communication, FollowsTheRingFormulas) {
  // 4 ranks: 3 messages of 1,000 bytes, 1 us + 1 us each.
  EXPECT_DOUBLE_EQ(all_gather_seconds(kLink, 4, 4000), 6e-6);
  EXPECT_DOUBLE_EQ(reduce_scatter_seconds(kLink, 4, 4000), 6e-6);
  EXPECT_DOUBLE_EQ(all_reduce_seconds(kLink, 4, 4000), 12e-6);
  EXPECT_DOUBLE_EQ(all_to_all_seconds(kLink, 4, 4000), 6e-6);
}

TEST(Communication, OfOneRankIsFree) {
  EXPECT_EQ(all_gather_seconds(kLink, 1, 1e9), 0);
  EXPECT_EQ(reduce_scatter_seconds(kLink, 1, 1e9), 0);
  EXPECT_EQ(all_reduce_seconds(kLink, 1, 1e9), 0);
  EXPECT_EQ(all_to_all_seconds(kLink, 1, 1e9), 0);
}

TEST(Communication, CostsMoreWithBytesAndRanks) {
  testing::check_cases(200, [] {
    const int ranks = *testing::between(2, 64);
    const double bytes = *testing::between(0, 1000000);
    for (auto* collective :
         {all_gather_seconds, reduce_scatter_seconds, all_reduce_seconds, all_to_all_seconds}) {
      RC_ASSERT(collective(kLink, ranks, bytes) > 0);
      RC_ASSERT(collective(kLink, ranks, bytes) < collective(kLink, ranks + 1, bytes));
      RC_ASSERT(collective(kLink, ranks, bytes) < collective(kLink, ranks, bytes + 1000));
    }
  });
}

TEST(GroupLink, IsInsideANodeOnlyWhenEveryGroupIs) {
  LinkTable links;
  links.devices_per_node = 8;
  links.inside_node.bytes_per_second = 2;
  links.between_nodes.bytes_per_second = 1;
  const auto inside = [&](int ranks, int stride) {
    return group_link(links, ranks, stride).bytes_per_second == 2;
  };
  EXPECT_TRUE(inside(8, 1));
  EXPECT_TRUE(inside(2, 4));
  EXPECT_TRUE(inside(4, 2));
  EXPECT_FALSE(inside(16, 1));
  EXPECT_FALSE(inside(2, 8));
  EXPECT_FALSE(inside(4, 4));
  // Groups of 3: the third group of a machine of 8 ends in the next one.
  EXPECT_FALSE(inside(3, 1));
  // One rank sends nothing.
  EXPECT_TRUE(inside(1, 64));
}

}  // namespace
}  // namespace gimbal
