#include "gimbal/base/name_pattern.h"

#include <gtest/gtest.h>

namespace gimbal {
namespace {

TEST(NamePattern, StarsStandForAnyCharacters) {
  EXPECT_TRUE(matches_pattern("vision.*", "vision.12"));
  EXPECT_TRUE(matches_pattern("*.weight", "text.0.mlp.up_proj.weight"));
  EXPECT_TRUE(matches_pattern("a*b*c", "abcbc"));
  EXPECT_TRUE(matches_pattern("**", ""));
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_TRUE(matches_pattern("vision*", "vision.0"));
  EXPECT_TRUE(matches_pattern("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(matches_pattern("a*b*c", "aXbYbZ"));
  EXPECT_FALSE(matches_pattern("", "a"));
  EXPECT_FALSE(matches_pattern("vision.*", "vision"));
  EXPECT_FALSE(matches_pattern("*a", "ab"));
}

TEST(NamePattern, OtherCharactersStandForThemselves) {
  EXPECT_TRUE(matches_pattern("text.0", "text.0"));
  EXPECT_FALSE(matches_pattern("text.0", "text10"));
  EXPECT_FALSE(matches_pattern("text.0", "text.01"));
}

}  // namespace
}  // namespace gimbal
