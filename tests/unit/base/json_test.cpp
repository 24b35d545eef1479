#include "gimbal/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::gimbal::testing::message_of;
using ::gimbal::testing::TempFolder;
using ::testing::HasSubstr;

TEST(ReadJson, NamesFileAndPlaceOfASyntaxError) {
  const TempFolder folder;
  write_file_atomic(folder / "config.json", "{\n \"a\": }");
  EXPECT_THAT(message_of<UserError>([&] { read_json(folder / "config.json"); }),
              ::testing::AllOf(HasSubstr("config.json: is not valid JSON: parse error at line 2"),
                               ::testing::Not(HasSubstr("json.exception"))));
}

TEST(ReadJson, ReadsValues) {
  const TempFolder folder;
  write_file_atomic(folder / "config.json", R"({"size": 3, "name": null})");
  const Json json = read_json(folder / "config.json");
  EXPECT_EQ(json_get<int>(json, "size", "config.json"), 3);
  EXPECT_EQ(json_get_or<std::string>(json, "name", "none", "config.json"), "none");
  EXPECT_EQ(json_get_or(json, "absent", 7, "config.json"), 7);
}

TEST(JsonGet, NamesAMissingKeyAndAWrongType) {
  const Json json = {{"size", "three"}};
  EXPECT_EQ(message_of<UserError>([&] { json_get<int>(json, "width", "config.json"); }),
            "config.json: key 'width' is missing");
  EXPECT_THAT(message_of<UserError>([&] { json_get<int>(json, "size", "config.json"); }),
              HasSubstr("config.json: key 'size' has a wrong type"));
  EXPECT_THROW(json_get_or(json, "size", 1, "config.json"), UserError);
}

}  // namespace
}  // namespace gimbal
