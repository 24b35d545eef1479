#include "gimbal/data/length_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "gimbal/base/error.h"
#include "support/dataset_fixture.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;

class LengthTableTest : public ::testing::Test {
 protected:
  fs::path file(const std::string& name, const std::string& content) {
    const fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  LengthTable read(const std::string& content) {
    return read_length_csv(std::vector{file("a.csv", content)});
  }
  // The message without the folder in front.
  std::string refused(const std::string& content) {
    const std::string message = message_of<UserError>([&] { read(content); });
    const std::size_t at = message.find("a.csv");
    EXPECT_NE(at, std::string::npos) << message;
    return at == std::string::npos ? message : message.substr(at);
  }

  testing::TempFolder folder_;
};

TEST_F(LengthTableTest, ReadsHeaderAndRows) {
  const LengthTable table = read("vision,tokens\n5,1359\n0,4294967295\n");
  EXPECT_THAT(table.streams, ElementsAre("vision", "tokens"));
  EXPECT_THAT(table.rows, ElementsAre(5, 1359, 0, 4294967295U));
  EXPECT_THAT(table.pairs, IsEmpty());
  EXPECT_THAT(table.sources, ElementsAre(0, 0));
  EXPECT_THAT(table.source_names, ElementsAre("a"));
  EXPECT_THAT(table.source_weights, ElementsAre(1.0));
  EXPECT_EQ(table.num_samples(), 2U);
  EXPECT_THAT(table.describe_sample(1), HasSubstr("a.csv line 3"));
}

TEST_F(LengthTableTest, TakesWindowsLinesBlanksAndAnEndWithoutNewline) {
  const std::vector<std::string> same = {"a,b\r\n1,2\r\n3,4\r\n", "a,b\n1,2\n3,4",
                                         "\xef\xbb\xbf"
                                         "a,b\n1,2\n3,4\n\n\r\n \t\n",
                                         " a ,\tb\n 1 , 2 \n3\t,4 \r\n", "a,b\n01,2\n3,004\n"};
  for (const std::string& content : same) {
    EXPECT_THAT(read(content).rows, ElementsAre(1, 2, 3, 4)) << content;
  }
}

TEST_F(LengthTableTest, AHeaderAloneIsNoSamples) {
  for (const char* content : {"vision,tokens", "vision,tokens\n", "vision,tokens\r\n\r\n"}) {
    const LengthTable table = read(content);
    EXPECT_EQ(table.num_samples(), 0U);
    EXPECT_EQ(table.streams.size(), 2U);
  }
}

TEST_F(LengthTableTest, OneColumnAndEightColumns) {
  EXPECT_THAT(read("tokens\n7\n8\n").rows, ElementsAre(7, 8));
  EXPECT_THAT(read("a,b,c,d,e,f,g,h\n1,2,3,4,5,6,7,8\n").rows, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
}

TEST_F(LengthTableTest, ReadsPairsAndSquaresTheRest) {
  const LengthTable table = read("vision.pairs,vision,tokens\n18446744073709551615,5,3\n9,5,4\n");
  EXPECT_THAT(table.streams, ElementsAre("vision", "tokens"));
  EXPECT_THAT(table.rows, ElementsAre(5, 3, 5, 4));
  EXPECT_THAT(table.pairs, ElementsAre(18446744073709551615U, 9, 9, 16));
}

TEST_F(LengthTableTest, JoinsFilesWithOtherColumnOrderAndPairs) {
  const fs::path a = file("a.csv", "vision,tokens\n1,2\n\n");
  const fs::path empty = file("empty.csv", "tokens,vision\n");
  const fs::path b = file("b.csv", "tokens,vision.pairs,vision\n40,5,3\n50,6,4\n");
  const fs::path c = file("c.csv", "tokens,vision\n7,8\n");
  const LengthTable table = read_length_csv(std::vector{a, empty, b, c});
  EXPECT_THAT(table.rows, ElementsAre(1, 2, 3, 40, 4, 50, 8, 7));
  EXPECT_THAT(table.pairs, ElementsAre(1, 4, 5, 1600, 6, 2500, 64, 49));
  EXPECT_THAT(table.sources, ElementsAre(0, 2, 2, 3));
  EXPECT_THAT(table.source_names, ElementsAre("a", "empty", "b", "c"));
  EXPECT_THAT(table.describe_sample(0), HasSubstr("a.csv line 2"));
  EXPECT_THAT(table.describe_sample(1), HasSubstr("b.csv line 2"));
  EXPECT_THAT(table.describe_sample(2), HasSubstr("b.csv line 3"));
  EXPECT_THAT(table.describe_sample(3), HasSubstr("c.csv line 2"));
  EXPECT_THROW(table.describe_sample(4), InternalError);
}

TEST_F(LengthTableTest, NamesEqualStemsByTheirFolders) {
  std::vector<fs::path> files;
  for (const char* name : {"x/train/a.csv", "y/train/a.csv", "y/b.csv"}) {
    files.push_back(file(name, "tokens\n1\n"));
  }
  files.push_back(files.back());
  EXPECT_THAT(read_length_csv(files).source_names,
              ElementsAre("x/train/a", "y/train/a", ::testing::EndsWith("y/b"),
                          ::testing::EndsWith("y/b#2")));
}

TEST_F(LengthTableTest, MalformedValuesAreNamedWithFileLineAndColumn) {
  const std::string number = "expected a whole number from 0 to 4294967295";
  EXPECT_EQ(refused("vision,tokens\n1,2\n1,-2\n"), "a.csv:3: column tokens: found '-2', " + number);
  EXPECT_EQ(refused("vision,tokens\n1.5,2\n"), "a.csv:2: column vision: found '1.5', " + number);
  EXPECT_EQ(refused("vision,tokens\n1,2e3\n"), "a.csv:2: column tokens: found '2e3', " + number);
  EXPECT_EQ(refused("vision,tokens\n1,text\n"), "a.csv:2: column tokens: found 'text', " + number);
  EXPECT_EQ(refused("vision,tokens\n,2\n"), "a.csv:2: column vision: found '', " + number);
  EXPECT_EQ(refused("vision,tokens\n1,\n"), "a.csv:2: column tokens: found '', " + number);
  EXPECT_EQ(refused("vision,tokens\n1,4294967296\n"),
            "a.csv:2: column tokens: found '4294967296', " + number);
  EXPECT_EQ(refused("vision,tokens\n1,99999999999999999999999\n"),
            "a.csv:2: column tokens: found '99999999999999999999999', " + number);
  EXPECT_EQ(refused("vision,tokens\n1,+2\n"), "a.csv:2: column tokens: found '+2', " + number);
  EXPECT_EQ(refused("vision,tokens\n1,nan\n"), "a.csv:2: column tokens: found 'nan', " + number);
  EXPECT_EQ(refused("vision,tokens\n\"1\",2\n"),
            "a.csv:2: column vision: found '\"1\"', " + number);
  EXPECT_EQ(refused("vision,tokens\n1\r,2\n"), "a.csv:2: column vision: found '1?', " + number);
  EXPECT_EQ(refused("a,a.pairs\n1,18446744073709551616\n"),
            "a.csv:2: column a.pairs: found '18446744073709551616', expected a whole number from 0 "
            "to 18446744073709551615");
  EXPECT_THAT(refused("tokens\n" + std::string(1000, 'x') + "\n"),
              HasSubstr("found '" + std::string(40, 'x') + "...', expected"));
}

TEST_F(LengthTableTest, MissingAndSpareFieldsAreNamed) {
  EXPECT_EQ(refused("vision,tokens\n1,2\n3\n"),
            "a.csv:3: has 1 field, expected 2 (vision,tokens); found '3'");
  EXPECT_EQ(refused("vision,tokens\n1,2,3\n"),
            "a.csv:2: has 3 fields, expected 2 (vision,tokens); found '1,2,3'");
  EXPECT_EQ(refused("vision,tokens\n1,2\n\n3,4\n"),
            "a.csv:3: the line is empty; blank lines may stand at the end only");
  EXPECT_EQ(refused("vision,tokens\r\n1,2\r\n\r\n3,4\r\n"),
            "a.csv:3: the line is empty; blank lines may stand at the end only");
}

TEST_F(LengthTableTest, HeadersThatNameNoStreamsAreRefused) {
  EXPECT_EQ(refused(""),
            "a.csv: is empty; the first line must name the streams, for example: "
            "vision,tokens");
  EXPECT_THAT(refused("\n1,2\n"), HasSubstr("a.csv:1: the line is empty; the first line must"));
  EXPECT_THAT(refused("5,1359\n"), HasSubstr("a.csv:1: '5' cannot name a stream"));
  EXPECT_THAT(refused("vision,\n"), HasSubstr("a.csv:1: '' cannot name a stream"));
  EXPECT_THAT(refused("\"vision\",tokens\n"), HasSubstr("a.csv:1: '\"vision\"' cannot name"));
  EXPECT_THAT(refused("vision;tokens\n"), HasSubstr("a.csv:1: 'vision;tokens' cannot name"));
  EXPECT_THAT(refused("vision,tokens,vision\n"), HasSubstr("a.csv:1: column vision occurs twice"));
  EXPECT_THAT(refused("a,a.pairs,a.pairs\n"), HasSubstr("a.csv:1: column a.pairs occurs twice"));
  EXPECT_THAT(refused("a,b.pairs\n"), HasSubstr("a.csv:1: column b.pairs has no column b"));
  EXPECT_THAT(refused("a.pairs\n"), HasSubstr("a.csv:1: has columns of pairs alone"));
  EXPECT_THAT(refused("a,b,c,d,e,f,g,h,i\n"), HasSubstr("a.csv:1: names 9 streams, the most is 8"));
}

TEST_F(LengthTableTest, FilesThatCannotBeReadAreNamed) {
  EXPECT_THAT(message_of<UserError>([&] { read_length_csv({}); }), HasSubstr("no file of lengths"));
  EXPECT_THAT(message_of<UserError>([&] { read_length_csv(std::vector{folder_ / "none.csv"}); }),
              HasSubstr("none.csv: no such file"));
  EXPECT_THAT(message_of<UserError>([&] { read_length_csv(std::vector{folder_.path()}); }),
              HasSubstr("is a folder"));
}

TEST_F(LengthTableTest, FilesOfOtherStreamsAreRefused) {
  const fs::path a = file("a.csv", "vision,tokens\n1,2\n");
  for (const char* header : {"vision,text\n", "vision\n", "vision,tokens,audio\n"}) {
    const fs::path b = file("b.csv", header);
    EXPECT_THAT(
        message_of<UserError>([&] {
          read_length_csv(std::vector{a, b});
        }),
        AllOf(HasSubstr("b.csv:1: names the streams"), HasSubstr("a.csv has vision,tokens")))
        << header;
  }
}

// A table as Python sends it.
std::string binary_table(const std::vector<std::string>& names,
                         const std::vector<std::uint32_t>& rows) {
  std::string bytes = "GBTABLE1";
  const auto add = [&](const auto value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  add(static_cast<std::uint32_t>(names.size()));
  add(static_cast<std::uint64_t>(names.empty() ? 0 : rows.size() / names.size()));
  for (const std::string& name : names) {
    add(static_cast<std::uint32_t>(name.size()));
    bytes += name;
  }
  for (const std::uint32_t value : rows) add(value);
  return bytes;
}

TEST_F(LengthTableTest, AddsBinaryTables) {
  LengthTable table;
  add_length_csv(table, file("a.csv", "vision,vision.pairs,tokens\n1,7,2\n"));
  add_length_binary(table, binary_table({"tokens", "vision"}, {10, 3, 20, 4}), "b.parquet");
  name_length_sources(table);
  EXPECT_THAT(table.rows, ElementsAre(1, 2, 3, 10, 4, 20));
  EXPECT_THAT(table.pairs, ElementsAre(7, 4, 9, 100, 16, 400));
  EXPECT_THAT(table.source_names, ElementsAre("a", "b"));
  EXPECT_EQ(table.describe_sample(2), "b.parquet row 2");
}

TEST_F(LengthTableTest, RefusesDamagedBinaryTables) {
  const std::string whole = binary_table({"tokens", "vision"}, {10, 3, 20, 4});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    LengthTable table;
    EXPECT_THAT(message_of<UserError>(
                    [&] { add_length_binary(table, whole.substr(0, size), "b.parquet"); }),
                HasSubstr("b.parquet: "))
        << size;
  }
  LengthTable table;
  const auto refusal = [&](const std::string& bytes) {
    return message_of<UserError>([&] { add_length_binary(table, bytes, "b.parquet"); });
  };
  EXPECT_THAT(refusal(whole + "x"), HasSubstr("bytes of sizes instead of"));
  EXPECT_THAT(refusal(binary_table({}, {})), HasSubstr("has no columns"));
  EXPECT_THAT(refusal(binary_table({"a", "a.pairs"}, {1, 1})), HasSubstr("CSV files only"));
}

TEST_F(LengthTableTest, ReadsADatasetFolder) {
  testing::DatasetFixture fixture(folder_ / "data");
  const Image picture = testing::make_picture(8, 8);
  const std::uint32_t small = fixture.add_picture("small.png", picture);
  const std::uint32_t wide = fixture.add_picture("wide.png", picture, 2, 1);
  fixture.add_sample({1, 2, 3});
  fixture.add_sample({1, 7, 7, 4}, {{1, 3}}, {small, wide});
  fixture.manifest["sources"][0]["weight"] = 1.5;
  const LengthTable table = read_dataset_lengths(fixture.write());
  EXPECT_THAT(table.streams, ElementsAre("text", "vision"));
  EXPECT_THAT(table.rows, ElementsAre(3, 0, 4, 4));
  EXPECT_THAT(table.pairs, ElementsAre(9, 0, 16, 10));  // 1 tile and 2 tiles with a thumbnail
  EXPECT_THAT(table.sources, ElementsAre(0, 0));
  EXPECT_THAT(table.source_names, ElementsAre("digits"));
  EXPECT_THAT(table.source_weights, ElementsAre(1.5));
  EXPECT_EQ(table.describe_sample(1), "sample 1 (digits, train.jsonl line 2)");

  fixture.samples[1].audio_rows = 6;
  const LengthTable with_audio = read_dataset_lengths(fixture.write());
  EXPECT_THAT(with_audio.streams, ElementsAre("text", "vision", "audio"));
  EXPECT_THAT(with_audio.rows, ElementsAre(3, 0, 0, 4, 4, 6));
  EXPECT_THAT(with_audio.pairs, ElementsAre(9, 0, 0, 16, 10, 36));
}

}  // namespace
}  // namespace gimbal
