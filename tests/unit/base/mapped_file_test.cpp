#include "gimbal/base/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::gimbal::testing::message_of;
using ::gimbal::testing::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(MappedFile, ShowsRecords) {
  const TempFolder folder;
  const std::uint32_t values[] = {1, 2, 0xffffffffU};
  write_file_atomic(folder / "x", {reinterpret_cast<const char*>(values), sizeof(values)});
  const MappedFile file(folder / "x");
  EXPECT_THAT(file.as<std::uint32_t>(), ElementsAre(1, 2, 0xffffffffU));
  EXPECT_EQ(file.bytes().size(), 12U);
}

TEST(MappedFile, MovesItsMapping) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "abcd");
  write_file_atomic(folder / "y", "efgh");
  MappedFile first(folder / "x");
  MappedFile second(folder / "y");
  second = std::move(first);
  EXPECT_THAT(second.as<char>(), ElementsAre('a', 'b', 'c', 'd'));
  const MappedFile third(std::move(second));
  EXPECT_EQ(third.bytes().size(), 4U);
}

TEST(MappedFile, TakesAnEmptyFile) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "");
  EXPECT_TRUE(MappedFile(folder / "x").as<std::uint64_t>().empty());
}

TEST(MappedFile, NamesTheFileThatIsMissing) {
  EXPECT_EQ(message_of<UserError>([] { MappedFile("/nowhere/x.bin"); }),
            "/nowhere/x.bin: cannot open: No such file or directory");
}

TEST(MappedFile, RefusesAFolder) {
  EXPECT_THAT(message_of<UserError>([] { MappedFile("/tmp"); }),
              HasSubstr("is not a file that can be mapped"));
}

TEST(MappedFile, NamesTheFileWithAPartOfARecord) {
  const TempFolder folder;
  write_file_atomic(folder / "x.bin", "abcde");
  const MappedFile file(folder / "x.bin");
  EXPECT_THAT(message_of<UserError>([&] { file.as<std::uint32_t>(); }),
              ::testing::AllOf(HasSubstr("x.bin: has 5 bytes"), HasSubstr("record size 4")));
}

}  // namespace
}  // namespace gimbal
