#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <nlohmann/json.hpp>

#include "gimbal/base/file.h"
#include "gimbal/config/load.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::gimbal::testing::TempFolder;
using ::testing::HasSubstr;

std::vector<StageRecipe> read_back(const std::string& yaml) {
  const TempFolder folder;
  write_file_atomic(folder / "r.yaml", yaml);
  return load_recipe(folder / "r.yaml", {});
}

void expect_same(const std::vector<StageRecipe>& a, const std::vector<StageRecipe>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    EXPECT_EQ(to_json(a[i].recipe), to_json(b[i].recipe));
  }
}

Recipe unusual_recipe() {
  Recipe recipe;
  recipe.name = "null";
  recipe.model.path = "a b: #c\n\"d\" \xc3\xa9 \x01";
  recipe.model.freeze = {"*", "", "- x", "...", "true", "~"};
  recipe.model.freeze[1] = "@";
  recipe.prepare.sources = {{"a", {"x.jsonl", "y, z.jsonl"}, 0.1, ""}, {"b", {"-"}, 3, "/m"}};
  recipe.data.weights = {{"null", 1.0 / 3.0}, {"a b", 1e-300}};
  recipe.optimizer.groups = {{"vision.*", 1e-17, -1.0}};
  recipe.optimizer.eps = 1e-12;
  recipe.train.seed = 9007199254740993;  // no double holds it
  return recipe;
}

TEST(ToYaml, ReadsBackUnusualValues) {
  const std::vector<StageRecipe> stages = {{"null", unusual_recipe()}};
  const auto again = read_back(to_yaml(stages));
  expect_same(stages, again);
  EXPECT_EQ(again[0].recipe.model.path, stages[0].recipe.model.path);
  EXPECT_EQ(again[0].recipe.train.seed, 9007199254740993);
  EXPECT_EQ(again[0].recipe.data.weights, stages[0].recipe.data.weights);
}

TEST(ToYaml, ReadsBackStages) {
  std::vector<StageRecipe> stages(3);
  const char* names[] = {"align", "ask", "polish"};
  for (std::size_t i = 0; i < 3; ++i) stages[i].name = names[i];
  stages[0].recipe = unusual_recipe();
  stages[1].recipe = unusual_recipe();
  stages[1].recipe.data.weights = {{"a b", 2.0}};  // one entry fewer than the base
  stages[1].recipe.optimizer.groups.clear();
  stages[2].recipe = unusual_recipe();
  stages[2].recipe.model.freeze.clear();
  stages[2].recipe.train.max_steps = 3;
  expect_same(stages, read_back(to_yaml(stages)));
}

TEST(ToYaml, ReadsBackOneStageOfAnotherName) {
  const std::vector<StageRecipe> stages = {{"align", Recipe{}}};
  EXPECT_THAT(to_yaml(stages), HasSubstr("stages:\n  - name: align\n"));
  expect_same(stages, read_back(to_yaml(stages)));
}

TEST(ToYaml, HoldsDefaults) {
  const std::string yaml = to_yaml({{"run", Recipe{}}});
  EXPECT_THAT(yaml, HasSubstr("balance:\n  method: gimbal\n  text_cap: 4096\n"));
  EXPECT_THAT(yaml, HasSubstr("  groups: []\n"));
  EXPECT_THAT(yaml, HasSubstr("  weights: {}\n"));
}

RC_GTEST_PROP(ToYaml, ReadsBackAnyAsciiText, ()) {
  Recipe recipe;
  recipe.train.run = *rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127));
  recipe.optimizer.lr = *rc::gen::positive<double>();
  recipe.train.seed = *rc::gen::nonNegative<std::int64_t>();
  const auto again = read_back(to_yaml({{"run", recipe}}));
  RC_ASSERT(again.at(0).recipe.train.run == recipe.train.run);
  RC_ASSERT(again.at(0).recipe.optimizer.lr == recipe.optimizer.lr);
  RC_ASSERT(again.at(0).recipe.train.seed == recipe.train.seed);
}

TEST(ToJson, HasTheKeysOfTheRecipe) {
  const auto json = nlohmann::json::parse(to_json(unusual_recipe()));
  EXPECT_EQ(json.at("prepare").at("sources").at(1).at("media_root"), "/m");
  EXPECT_EQ(json.at("model").at("dtype"), "float32");
  EXPECT_EQ(json.at("train").at("seed"), 9007199254740993);
  EXPECT_EQ(json.at("data").at("weights").at("a b"), 1e-300);
}

}  // namespace
}  // namespace gimbal
