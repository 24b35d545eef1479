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

TEST(ByteText, ChoosesUnitAndDigitsByWhatIsPrinted) {
  constexpr double kKiB = 1024, kMiB = 1024 * kKiB;
  EXPECT_EQ(bytes_text(1023.4), "1023 B");
  EXPECT_EQ(bytes_text(1023.6), "1.00 KiB");
  EXPECT_EQ(bytes_text(1023.94 * kMiB), "1023.9 MiB");
  EXPECT_EQ(bytes_text(1023.97 * kMiB), "1.00 GiB");
  EXPECT_EQ(bytes_text(9.994 * kKiB), "9.99 KiB");
  EXPECT_EQ(bytes_text(9.996 * kKiB), "10.0 KiB");
}

}  // namespace
}  // namespace gimbal
