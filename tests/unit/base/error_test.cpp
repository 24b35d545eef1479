#include "gimbal/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::gimbal::testing::message_of;
using ::testing::HasSubstr;

TEST(UserCheck, ThrowsTheMessage) {
  EXPECT_NO_THROW(GIMBAL_USER_CHECK(true, "unused"));
  EXPECT_EQ(message_of<UserError>([] { GIMBAL_USER_CHECK(1 > 2, "a.json: ", 3, " keys"); }),
            "a.json: 3 keys");
}

TEST(Check, NamesPlaceConditionAndValues) {
  const int rows = 3;
  EXPECT_THAT(message_of<InternalError>([&] { GIMBAL_CHECK_EQ(rows, 4, "rows of the pack"); }),
              ::testing::AllOf(HasSubstr("error_test.cpp:"), HasSubstr("(rows) == (4)"),
                               HasSubstr("3 vs 4"), HasSubstr("rows of the pack")));
  EXPECT_NO_THROW(GIMBAL_CHECK_LE(rows, 3, ""));
  EXPECT_THROW(GIMBAL_CHECK_LE(rows, 2, ""), InternalError);
}

}  // namespace
}  // namespace gimbal
