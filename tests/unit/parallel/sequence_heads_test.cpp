#include "gimbal/parallel/ports/sequence_heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;
using ::testing::ElementsAre;

TEST(SequenceHeads, UnevenQueryHeadsAreCutLikeRows) {
  std::vector<std::size_t> sizes;
  for (const HeadList& heads : query_heads_of_parts(25, 4)) sizes.push_back(heads.size());
  EXPECT_THAT(sizes, ElementsAre(6, 6, 6, 7));
  EXPECT_THAT(query_heads_of_parts(5, 2), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3, 4)));
  EXPECT_THAT(query_heads_of_parts(1, 2), ElementsAre(ElementsAre(), ElementsAre(0)));
}

TEST(SequenceHeads, KvHeadsGoWhereTheirQueriesAre) {
  // Fewer kv heads than parts: each goes to two.
  EXPECT_THAT(kv_heads_of_parts(2, 14, 4),
              ElementsAre(ElementsAre(0), ElementsAre(0), ElementsAre(1), ElementsAre(1)));
  EXPECT_THAT(kv_heads_of_parts(4, 8, 2), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  // Query heads 4 to 8 of groups of 7: three use the first kv head and two the second.
  EXPECT_THAT(kv_heads_of_parts(2, 14, 3)[1], ElementsAre(0, 0, 0, 1, 1));
  EXPECT_THROW(kv_heads_of_parts(3, 8, 2), InternalError);
  EXPECT_THROW(kv_heads_of_parts(0, 8, 2), InternalError);
}

// Whether query head i may use kv[i / (n / k)].
bool serves(const HeadList& queries, const HeadList& kv, std::int64_t group) {
  if (kv.empty()) return queries.empty();
  if (queries.size() % kv.size() != 0) return false;
  for (std::size_t i = 0; i < queries.size(); ++i)
    if (kv[i / (queries.size() / kv.size())] != queries[i] / group) return false;
  return true;
}

TEST(SequenceHeads, KvHeadsServeTheQueriesAndAreFewest) {
  check_cases(500, [] {
    const auto num_kv = *between<std::int64_t>(1, 9), group = *between<std::int64_t>(1, 9);
    const int parts = *between(1, 9);
    const auto queries = query_heads_of_parts(num_kv * group, parts);
    const auto kv = kv_heads_of_parts(num_kv, num_kv * group, parts);
    RC_ASSERT(kv.size() == queries.size());
    for (std::size_t part = 0; part < kv.size(); ++part) {
      RC_ASSERT(serves(queries[part], kv[part], group));
      for (std::size_t fewer = 1; fewer < kv[part].size(); ++fewer) {
        if (queries[part].size() % fewer != 0) continue;
        HeadList shorter;
        for (std::size_t i = 0; i < fewer; ++i)
          shorter.push_back(queries[part][i * queries[part].size() / fewer] / group);
        RC_ASSERT(!serves(queries[part], shorter, group));
      }
    }
  });
}

TEST(SequenceHeads, RunsAreTheListAgain) {
  EXPECT_THAT(head_runs({0, 0, 1, 2, 5}),
              ElementsAre(HeadRun{0, 0, 1}, HeadRun{1, 0, 3}, HeadRun{4, 5, 1}));
  EXPECT_TRUE(head_runs({}).empty());
}

}  // namespace
}  // namespace gimbal
