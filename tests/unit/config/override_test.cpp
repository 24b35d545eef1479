#include "gimbal/config/override.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/config/load.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::gimbal::testing::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

Recipe with(const std::vector<std::string>& overrides) {
  return load_recipe("", overrides).at(0).recipe;
}

std::string error(const std::string& argument) {
  return message_of<UserError>([&] { with({argument}); });
}

TEST(Override, SetsEveryKindOfValue) {
  const Recipe recipe = with({"optimizer.lr=3e-4", "model.dtype=float64", "train.resume=false",
                              "model.freeze=[vision.*, \"*.bias\"]", "data.weights={a: 1}",
                              "data.weights.b=2.5", "train={seed: 5, max_steps: 6}",
                              "optimizer.groups=[{pattern: text.*, weight_decay: 0}]"});
  EXPECT_EQ(recipe.optimizer.lr, 3e-4);
  EXPECT_EQ(recipe.model.dtype, DType::kFloat64);
  EXPECT_FALSE(recipe.train.resume);
  EXPECT_THAT(recipe.model.freeze, ElementsAre("vision.*", "*.bias"));
  EXPECT_THAT(recipe.data.weights, ElementsAre(Pair("a", 1.0), Pair("b", 2.5)));
  EXPECT_EQ(recipe.train.max_steps, 6);
  EXPECT_EQ(recipe.optimizer.groups.at(0).weight_decay, 0.0);
}

TEST(Override, TakesTextAsItIs) {
  EXPECT_EQ(with({"train.run=a: [b] #c=d"}).train.run, "a: [b] #c=d");
  EXPECT_EQ(with({"train.run=x", "train.run="}).train.run, "");
}

TEST(Override, LastOneCounts) { EXPECT_EQ(with({"train.seed=1", "train.seed=2"}).train.seed, 2); }

TEST(Override, NamesTheSingleStageLikeTheRecipe) {
  const auto stages = load_recipe("", {"name=digits"});
  EXPECT_EQ(stages.at(0).name, "digits");
}

TEST(Override, NamesProblems) {
  const char* cases[][2] = {
      {"train.seed", "command line: 'train.seed' is no override; write key=value"},
      {"=3", "'=3' is no override; write key=value"},
      {"train.sed=3", "command line: train.sed: unknown key; did you mean train.seed?"},
      {"trian.seed=3", "trian: unknown key; did you mean train?"},
      {"train.seed.x=3", "train.seed.x: there are no keys below train.seed"},
      {"train.seed=1e3", "train.seed: expects a whole number, not '1e3'"},
      {"train.resume=maybe", "train.resume: expects true or false, not 'maybe'"},
      {"model.init=rondom",
       "expects one of pretrained, random, not 'rondom'; did you mean random?"},
      {"model.freeze=[a", "model.freeze: is not valid YAML"},
      {"model.freeze=a", "model.freeze: expects a list such as [a, b], not 'a'"},
      {"data.weights.a=x", "data.weights.a: expects a number, not 'x'"},
      {"train.run=\xff", "train.run: expects text in UTF-8"},
      {"train.seed=-1", "command line: train.seed: is -1; must be at least 0"},
      {"stages=x", "stages: write stages.NAME.key=value"},
      {"stages.a=x", "stages.a: write stages.NAME.key=value"},
      {"stages.a.train.seed=1", "there is no stage 'a'; the recipe has: run"},
      {"stages.run.prepare.out=x", "belongs to the whole recipe, not to a stage"},
      {"stages.run.train.sed=1",
       "stages.run.train.sed: unknown key; did you mean stages.run.train.seed?"},
  };
  for (const auto& [argument, expected] : cases) {
    EXPECT_THAT(error(argument), HasSubstr(expected)) << argument;
  }
}

}  // namespace
}  // namespace gimbal
