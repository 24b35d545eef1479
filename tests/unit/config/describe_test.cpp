#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "gimbal/base/file.h"
#include "gimbal/config/load.h"
#include "gimbal/config/problems.h"

namespace gimbal {
namespace {

// tests/unit/config/describe_test.cpp -> tests/golden/options.txt
std::filesystem::path golden_file() {
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "golden" /
         "options.txt";
}

// After a wanted change: .venv/bin/gimbal train --help, from the line after "Options of a recipe"
// on, is the new file; running with GIMBAL_WRITE_GOLDEN=1 writes it.
TEST(DescribeOptions, EqualsTheGoldenFile) {
  if (std::getenv("GIMBAL_WRITE_GOLDEN") != nullptr) {
    write_file_atomic(golden_file(), describe_options());
  }
  EXPECT_EQ(describe_options(), read_file(golden_file()));
}

TEST(DescribeOptions, ListsEveryKey) {
  const std::string text = describe_options();
  for (const std::string& key : all_keys()) {
    EXPECT_THAT(text, ::testing::HasSubstr("  " + key + "  ")) << key;
  }
}

}  // namespace
}  // namespace gimbal
