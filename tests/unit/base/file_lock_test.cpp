#include "gimbal/base/file_lock.h"

#include <gtest/gtest.h>

#include <memory>

#include "gimbal/base/error.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

TEST(FileLock, SecondHolderIsRefusedUntilTheFirstLetsGo) {
  const testing::TempFolder folder;
  auto first = std::make_unique<FileLock>(folder / "lock", "the run folder");
  const std::string message =
      testing::message_of<UserError>([&] { FileLock(folder / "lock", "the run folder"); });
  EXPECT_NE(message.find("the run folder is in use by another process"), std::string::npos);
  first.reset();
  EXPECT_NO_THROW(FileLock(folder / "lock", "the run folder"));
}

TEST(FileLock, FolderThatIsMissingIsAnError) {
  EXPECT_THROW(FileLock("/nowhere/at/all/lock", "it"), UserError);
}

}  // namespace
}  // namespace gimbal
