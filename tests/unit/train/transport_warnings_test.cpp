#include "gimbal/train/report/transport_warnings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gimbal {
namespace {

using ::testing::HasSubstr;

TEST(TransportWarnings, AreNoneWithoutTrouble) {
  EXPECT_TRUE(transport_warnings({}).empty());
  EXPECT_TRUE(transport_warnings({{"n1", ""}, {"n1", ""}}).empty());
}

TEST(TransportWarnings, NameTheRanksAndHostsOfEachTroubleOnce) {
  const auto warnings = transport_warnings({{"n1", "rank 0: ftruncate: File too large"},
                                            {"n1", "rank 0: ftruncate: File too large"},
                                            {"n2", ""},
                                            {"n3", "mmap: no memory"}});
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_THAT(warnings[0], HasSubstr("carries messages of ranks 0, 1 (n1), which"));
  EXPECT_THAT(warnings[0], HasSubstr("Reason: rank 0: ftruncate: File too large. "));
  EXPECT_THAT(warnings[0], HasSubstr("GIMBAL_TRANSPORT=tcp"));
  EXPECT_THAT(warnings[1], HasSubstr("carries messages of rank 3 (n3), which"));
  EXPECT_THAT(warnings[1], HasSubstr("Reason: mmap: no memory. "));
}

}  // namespace
}  // namespace gimbal
