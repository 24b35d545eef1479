#include "gimbal/base/byte_text.h"

#include <gtest/gtest.h>

namespace gimbal {
namespace {

TEST(ByteText, CountsInPowersOf1024) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.50 KiB");
  EXPECT_EQ(bytes_text(1001.0 * 1024 * 1024), "1001.0 MiB");
  EXPECT_EQ(bytes_text(80.0 * (1 << 30)), "80.0 GiB");
  EXPECT_EQ(bytes_text(80e9), "74.5 GiB");
  EXPECT_EQ(bytes_text(5000.0 * (1ULL << 40)), "5000.0 TiB");
}

}  // namespace
}  // namespace gimbal
