#include "gimbal/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "gimbal/base/error.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using ::gimbal::testing::message_of;
using ::gimbal::testing::TempFolder;
using ::testing::HasSubstr;

auto num_entries(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

TEST(ReadFile, GivesTheBytes) {
  const TempFolder folder;
  const std::string content("a\0b\n\xff", 5);
  std::ofstream(folder / "x", std::ios::binary) << content;
  EXPECT_EQ(read_file(folder / "x"), content);
}

TEST(ReadFile, NamesTheFileThatIsMissing) {
  const std::string message = message_of<UserError>([] { read_file("/nowhere/x.json"); });
  EXPECT_EQ(message, "/nowhere/x.json: cannot read: No such file or directory");
}

TEST(ReadFile, RefusesAFolder) {
  const TempFolder folder;
  EXPECT_THAT(message_of<UserError>([&] { read_file(folder.path()); }),
              HasSubstr("Is a directory"));
}

TEST(WriteFileAtomic, ReplacesTheContentAndLeavesNothingElse) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "old and longer");
  write_file_atomic(folder / "x", "new");
  EXPECT_EQ(read_file(folder / "x"), "new");
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(WriteFileAtomic, NamesTheFolderThatIsMissing) {
  EXPECT_THAT(message_of<UserError>([] { write_file_atomic("/nowhere/x", "a"); }),
              ::testing::AllOf(HasSubstr("/nowhere/x"), HasSubstr("No such file")));
}

TEST(WriteFileAtomic, LeavesNoTemporaryWhenTheTargetIsAFolder) {
  const TempFolder folder;
  fs::create_directory(folder / "x");
  EXPECT_THAT(message_of<UserError>([&] { write_file_atomic(folder / "x", "a"); }),
              HasSubstr("cannot replace"));
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(OutputFile, ReportsAFullDisk) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "/dev/full is a Linux device";
  OutputFile file("/dev/full");
  EXPECT_EQ(message_of<UserError>([&] { file.write("x", 1); }),
            "/dev/full: cannot write: No space left on device");
}

TEST(OutputFile, WritesAtOffsets) {
  const TempFolder folder;
  OutputFile file(folder / "x");
  file.write_at(3, "def", 3);
  file.write_at(0, "abc", 3);
  file.close();
  EXPECT_EQ(read_file(folder / "x"), "abcdef");
  EXPECT_THROW(file.write("x", 1), InternalError);
}

TEST(AtomicFolder, IsInvisibleUntilCommitted) {
  const TempFolder folder;
  AtomicFolder made(folder / "final/");
  write_file_atomic(made.path() / "x", "1");
  EXPECT_FALSE(fs::exists(folder / "final"));
  made.commit();
  EXPECT_EQ(read_file(folder / "final" / "x"), "1");
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(AtomicFolder, IsRemovedWhenNotCommitted) {
  const TempFolder folder;
  {
    const AtomicFolder made(folder / "final");
    write_file_atomic(made.path() / "x", "1");
  }
  EXPECT_EQ(num_entries(folder.path()), 0);
}

TEST(AtomicFolder, ReplacesTheFormerContent) {
  const TempFolder folder;
  for (const char* name : {"a", "b"}) {
    AtomicFolder made(folder / "final");
    write_file_atomic(made.path() / name, name);
    made.commit();
  }
  EXPECT_FALSE(fs::exists(folder / "final" / "a"));
  EXPECT_TRUE(fs::exists(folder / "final" / "b"));
  EXPECT_EQ(num_entries(folder.path()), 1);
}

TEST(AtomicFolder, RemovesWhatAKilledProcessLeft) {
  const TempFolder folder;
  fs::create_directories(folder / "final.partial");
  std::ofstream(folder / "final.partial" / "stale") << "x";
  const AtomicFolder made(folder / "final");
  EXPECT_EQ(num_entries(made.path()), 0);
}

TEST(MakeFolders, NamesTheFileInTheWay) {
  const TempFolder folder;
  std::ofstream(folder / "x") << "a file";
  EXPECT_THAT(message_of<UserError>([&] { make_folders(folder / "x" / "y"); }),
              ::testing::AllOf(HasSubstr("x/y"), HasSubstr("cannot make the folder")));
  EXPECT_THROW(make_folders(folder / "x"), UserError);
}

}  // namespace
}  // namespace gimbal
