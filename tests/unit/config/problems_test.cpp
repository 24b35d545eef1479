#include "gimbal/config/problems.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/config/scalar.h"

namespace gimbal {
namespace {

using ::testing::Contains;

TEST(EditDistance, CountsEdits) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("abc", ""), 3U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
  EXPECT_EQ(edit_distance("trian", "train"), 1U);  // neighbours swapped
}

RC_GTEST_PROP(EditDistance, IsSymmetricAndZeroForEqualTexts,
              (const std::string& a, const std::string& b)) {
  RC_ASSERT(edit_distance(a, b) == edit_distance(b, a));
  RC_ASSERT((edit_distance(a, b) == 0) == (a == b));
  RC_ASSERT(edit_distance(a, b) <= std::max(a.size(), b.size()));
}

TEST(Nearest, TakesTheBestAndRefusesTheFar) {
  EXPECT_EQ(nearest("evalute", {"export", "evaluate", "generate"}), "evaluate");
  EXPECT_EQ(nearest("xyz", {"export", "evaluate"}), "");
  EXPECT_EQ(nearest("", {"a"}), "");
}

TEST(AllKeys, AreDotted) {
  EXPECT_THAT(all_keys(), Contains("optimizer.lr"));
  EXPECT_THAT(all_keys(), Contains("name"));
  EXPECT_THAT(all_keys(), ::testing::Not(Contains("optimizer")));
}

TEST(Problems, ThrowOnceWithAllLines) {
  Problems problems;
  EXPECT_NO_THROW(problems.throw_if_any());
  problems.add("r.yaml:1:2", "a", "is odd");
  problems.add("r.yaml:1:2", "a", "is odd");
  EXPECT_FALSE(problems.empty());
  EXPECT_THROW(problems.throw_if_any(), UserError);
}

TEST(FindNonUtf8, FindsTheFirstBadByte) {
  EXPECT_FALSE(find_non_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
  EXPECT_EQ(find_non_utf8("ab\xff"), 2U);
  EXPECT_EQ(find_non_utf8("\xc3"), 0U);              // cut off
  EXPECT_EQ(find_non_utf8("\xc0\x80"), 0U);          // over-long
  EXPECT_EQ(find_non_utf8("\xe0\x80\x80"), 0U);      // over-long
  EXPECT_EQ(find_non_utf8("\xed\xa0\x80"), 0U);      // surrogate
  EXPECT_EQ(find_non_utf8("\xf4\x90\x80\x80"), 0U);  // above U+10FFFF
  EXPECT_EQ(find_non_utf8("\xf0\x80\x80\x80"), 0U);  // over-long
}

TEST(ParseScalar, TakesTheWholeTextOnly) {
  std::int64_t number = 0;
  EXPECT_TRUE(parse_scalar("+5", number));
  EXPECT_EQ(number, 5);
  for (const char* text : {"", "5x", " 5", "5.0", "0x5", "+", "+-5"}) {
    EXPECT_FALSE(parse_scalar(text, number)) << text;
  }
  double real = 0;
  EXPECT_TRUE(parse_scalar("-1.5e-3", real));
  EXPECT_EQ(real, -1.5e-3);
  for (const char* text : {"", "nan", "inf", "1e", "1,5"}) {
    EXPECT_FALSE(parse_scalar(text, real)) << text;
  }
}

}  // namespace
}  // namespace gimbal
