#include "gimbal/train/report/cut_log.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <optional>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

class CutLog : public ::testing::Test {
 protected:
  /// What is left of `content`.
  std::string cut(const std::string& content, std::int64_t step) {
    write_file_atomic(path_, content);
    last_ = cut_log(path_, step);
    return read_file(path_);
  }

  static std::string line(std::int64_t step) {
    return concat("{\"step\":", step, ",\"samples\":\"", std::string(200, 'x'), "\"}\n");
  }

  ino_t inode() const {
    struct stat info {};
    GIMBAL_CHECK(::stat(path_.c_str(), &info) == 0, "stat");
    return info.st_ino;
  }

  testing::TempFolder folder_;
  std::filesystem::path path_ = folder_.path() / "log.jsonl";
  std::optional<std::int64_t> last_;
};

TEST_F(CutLog, LinesWithoutAStepStayWhereverTheyAre) {
  EXPECT_EQ(cut("{\"kind\":\"summary\"}\n{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n"
                "{\"kind\":\"summary\",\"n\":2}\n{\"step\":4}\n",
                2),
            "{\"kind\":\"summary\"}\n{\"step\":1}\n{\"step\":2}\n{\"kind\":\"summary\",\"n\":2}\n");
  EXPECT_EQ(last_, 2);
}

TEST_F(CutLog, TornLinesGoAndAWholeLastOneGetsItsEnd) {
  EXPECT_EQ(cut("{\"step\":1}\n{\"step\":2}\n{\"st", 2), "{\"step\":1}\n{\"step\":2}\n");
  EXPECT_EQ(cut("{\"step\":1}\n{\"step\":2}", 2), "{\"step\":1}\n{\"step\":2}\n");
  EXPECT_EQ(cut("{\"step\":1}\n{\"st\n{\"step\":2}\n", 2), "{\"step\":1}\n{\"step\":2}\n");
  EXPECT_EQ(last_, 2);
}

TEST_F(CutLog, TheLastStepThatIsLeftIsTold) {
  cut("{\"step\":1}\n{\"step\":2}\n", 5);
  EXPECT_EQ(last_, 2);
  EXPECT_EQ(cut("{\"step\":3}\n", 2), "");
  EXPECT_FALSE(last_);
  EXPECT_EQ(cut("", 2), "");
  EXPECT_FALSE(last_);
}

TEST_F(CutLog, OnlyTheEndOfALongLogIsReadAndWritten) {
  std::string kept = "not read\n", dropped;
  for (int step = 1; step <= 3000; ++step) kept += line(step);
  for (int step = 3001; step <= 4000; ++step) dropped += line(step);  // more than one tail
  write_file_atomic(path_, kept + dropped + "{\"st");
  const ino_t before = inode();
  EXPECT_EQ(cut_log(path_, 3000), 3000);
  EXPECT_EQ(read_file(path_), kept);
  EXPECT_EQ(inode(), before) << "cut in its place";
  EXPECT_EQ(cut_log(path_, 3000), 3000);
  EXPECT_EQ(read_file(path_), kept);
}

TEST_F(CutLog, ALineLongerThanTheFirstTailIsFound) {
  const std::string first = concat("{\"step\":1,\"x\":\"", std::string(200000, 'x'), "\"}\n");
  const std::string second = concat("{\"step\":2,\"x\":\"", std::string(300000, 'x'), "\"}\n");
  EXPECT_EQ(cut(first + second, 1), first);
  EXPECT_EQ(last_, 1);
  EXPECT_EQ(cut(first + second, 2), first + second);
  EXPECT_EQ(last_, 2);
}

TEST_F(CutLog, StepsOutOfOrderAreSoughtInTheWholeFile) {
  std::string kept, content;
  for (int step = 1; step <= 3000; ++step) kept += line(step);
  content = line(3001) + kept;
  // The tail has a part of the steps that were run again.
  content += line(2999) + line(3002);
  EXPECT_EQ(cut(content, 3000), kept + line(2999));
  EXPECT_EQ(last_, 3000);
}

TEST_F(CutLog, AFileThatIsNotThereIsAnError) {
  EXPECT_THROW(cut_log(folder_.path() / "no.jsonl", 1), UserError);
}

}  // namespace
}  // namespace gimbal
