#include "gimbal/config/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::gimbal::testing::message_of;
using ::gimbal::testing::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

class LoadRecipe : public ::testing::Test {
 protected:
  std::vector<StageRecipe> load(const std::string& yaml,
                                const std::vector<std::string>& overrides = {},
                                const std::vector<std::string>& required = {}) {
    write_file_atomic(folder_ / "r.yaml", yaml);
    return load_recipe(folder_ / "r.yaml", overrides, required);
  }

  // The error's text with the folder's name cut out, so that places begin with r.yaml.
  std::string error(const std::string& yaml, const std::vector<std::string>& overrides = {},
                    const std::vector<std::string>& required = {}) {
    std::string text = message_of<UserError>([&] { load(yaml, overrides, required); });
    const std::string name = folder_.path().string() + "/";
    for (std::size_t at = 0; (at = text.find(name)) != std::string::npos;) {
      text.erase(at, name.size());
    }
    return text;
  }

  TempFolder folder_;
};

TEST_F(LoadRecipe, ReadsEveryKindOfValue) {
  const auto stages = load(R"(
name: digits
prepare:
  out: data/x
  sources:
    - {name: a, files: [a.jsonl, "b c.jsonl"], weight: 2}
    - name: b
      files: [c.parquet]
      media_root: /pictures
model: {path: m, init: random, dtype: bfloat16, freeze: ["vision.*"]}
data: {weights: {a: 1.5, b: 0}}
optimizer:
  lr: 1e-3
  schedule: linear
  groups: [{pattern: "vision.*", lr_scale: 0.1}]
train: {seed: 7, resume: false}
)");
  ASSERT_EQ(stages.size(), 1U);
  EXPECT_EQ(stages[0].name, "digits");
  const Recipe& recipe = stages[0].recipe;
  ASSERT_EQ(recipe.prepare.sources.size(), 2U);
  EXPECT_THAT(recipe.prepare.sources[0].files, ElementsAre("a.jsonl", "b c.jsonl"));
  EXPECT_EQ(recipe.prepare.sources[0].weight, 2.0);
  EXPECT_EQ(recipe.prepare.sources[1].media_root, "/pictures");
  EXPECT_EQ(recipe.model.init, WeightInit::kRandom);
  EXPECT_EQ(recipe.model.dtype, DType::kBFloat16);
  EXPECT_THAT(recipe.model.freeze, ElementsAre("vision.*"));
  EXPECT_THAT(recipe.data.weights, ElementsAre(Pair("a", 1.5), Pair("b", 0.0)));
  EXPECT_EQ(recipe.optimizer.lr, 1e-3);
  EXPECT_EQ(recipe.optimizer.schedule, ScheduleKind::kLinear);
  EXPECT_EQ(recipe.optimizer.groups.at(0).lr_scale, 0.1);
  EXPECT_EQ(recipe.train.seed, 7);
  EXPECT_FALSE(recipe.train.resume);
  EXPECT_EQ(recipe.balance.text_cap, 4096);  // untouched default
}

TEST_F(LoadRecipe, SaysWhichKeysWereGivenAndWhere) {
  const auto stages = load(
      "balance: {text_cap: 4096}\nmodel:\n  recompute_groups:\n"
      "    - {blocks: text.*, level: mlp}\n",
      {"train.plan=p.json"});
  const auto& given = stages[0].given;
  EXPECT_THAT(given.at("balance.text_cap"), HasSubstr("r.yaml:1:21"));
  EXPECT_EQ(given.at("train.plan"), "command line");
  EXPECT_TRUE(given.contains("model.recompute_groups"));
  EXPECT_FALSE(given.contains("balance.vision_cap"));
  EXPECT_EQ(stages[0].recipe.train.plan, "p.json");
  EXPECT_EQ(stages[0].recipe.model.recompute_groups.at(0).level, Recompute::kMlp);
}

TEST_F(LoadRecipe, TakesAnEmptyFileAndNoFile) {
  EXPECT_EQ(load("").at(0).recipe.name, "run");
  EXPECT_EQ(load("train:\n").at(0).recipe.train.seed, 0);
  EXPECT_EQ(load_recipe("", {"train.seed=3"}).at(0).recipe.train.seed, 3);
}

TEST_F(LoadRecipe, ListsAllProblemsAtOnce) {
  EXPECT_EQ(error("train:\n  sed: 1\nmodel:\n  dtype: bfloat\n  path: [a]\noptimizer:\n  lr: -1\n",
                  {"log.every_steps=x"}),
            "the recipe has 5 problems:\n"
            "  r.yaml:5:9: model.path: expects text in UTF-8, not a list\n"
            "  r.yaml:4:10: model.dtype: expects one of float32, bfloat16, float64, not 'bfloat'; "
            "did you mean bfloat16?\n"
            "  r.yaml:2:3: train.sed: unknown key; did you mean train.seed?\n"
            "  command line: log.every_steps: expects a whole number, not 'x'\n"
            "  r.yaml:7:7: optimizer.lr: is -1; must not be negative");
}

TEST_F(LoadRecipe, SuggestsKeysOfOtherSections) {
  EXPECT_THAT(error("train: {lr: 1}"),
              HasSubstr("r.yaml:1:9: train.lr: unknown key; did you mean optimizer.lr?"));
  EXPECT_THAT(error("optimzer: {lr: 1}"),
              HasSubstr("optimzer: unknown key; did you mean optimizer?"));
  EXPECT_THAT(error("log: {xyzzy: 1}"),
              HasSubstr("log.xyzzy: unknown key; valid here: every_steps"));
  EXPECT_THAT(
      error("prepare: {sources: [{nam: a, files: [b]}]}"),
      HasSubstr("prepare.sources[0].nam: unknown key; did you mean prepare.sources[0].name?"));
}

TEST_F(LoadRecipe, NamesWrongTypes) {
  const char* cases[][2] = {
      {"train: {seed: 1.5}", "r.yaml:1:15: train.seed: expects a whole number, not '1.5'"},
      {"train: {seed: \"1\"}", "expects a whole number, not the quoted text '1'"},
      {"train: {seed: 99999999999999999999}", "train.seed: expects a whole number"},
      {"train: {seed: }", "train.seed: expects a whole number, not nothing"},
      {"train: {resume: yes}", "train.resume: expects true or false, not 'yes'"},
      {"train: {epochs: .inf}", "train.epochs: expects a number, not '.inf'"},
      {"train: {epochs: 1e999}", "train.epochs: expects a number, not '1e999'"},
      {"train: 3", "train: expects keys, not '3'"},
      {"- train", "expects keys, not a list"},
      {"train: {run: {a: 1}}", "train.run: expects text in UTF-8, not keys"},
      {"model: {freeze: vision}", "model.freeze: expects a list such as [a, b], not 'vision'"},
      {"model: {freeze: [[a]]}", "model.freeze[0]: expects text in UTF-8, not a list"},
      {"data: {weights: [1]}", "data.weights: expects names with numbers, not a list"},
      {"data: {weights: {a: b}}", "data.weights.a: expects a number, not 'b'"},
      {"prepare: {sources: [a]}", "prepare.sources[0]: expects keys, not 'a'"},
      {"optimizer: {schedule: cosin}",
       "expects one of constant, linear, cosine, not 'cosin'; did you mean cosine?"},
      {"train: {seed: 1, seed: 2}", "r.yaml:1:18: train.seed: is given twice"},
      {"train: {[a]: 1}", "train: a key must be a word, not a list"},
  };
  for (const auto& [yaml, expected] : cases) EXPECT_THAT(error(yaml), HasSubstr(expected)) << yaml;
}

TEST_F(LoadRecipe, NamesThePlaceOfASyntaxError) {
  EXPECT_THAT(error("train:\n  seed: [1"), HasSubstr("r.yaml:2"));
  EXPECT_THAT(error("train:\n  seed: [1"), HasSubstr("is not valid YAML"));
  EXPECT_EQ(error("a: 1\nb: \xff\n"), "r.yaml:2: is not UTF-8 text");
  EXPECT_EQ(error("name: a\n---\nname: b\n"), "r.yaml: holds 2 YAML documents; a recipe is one");
  EXPECT_THAT(message_of<UserError>([] { load_recipe("/nowhere/r.yaml", {}); }),
              HasSubstr("/nowhere/r.yaml: cannot read: No such file"));
}

TEST_F(LoadRecipe, ReportsRequiredKeys) {
  EXPECT_EQ(error("model: {path: m}", {}, {"model.path", "data.train", "prepare.sources"}),
            "the recipe has 2 problems:\n"
            "  r.yaml: data.train: is needed and has no value\n"
            "  r.yaml: prepare.sources: is needed and has no value");
  EXPECT_NO_THROW(load("model: {path: m}", {"data.train=d"}, {"model.path", "data.train"}));
  EXPECT_THROW(load("", {}, {"model.pth"}), InternalError);
}

constexpr const char* kStages = R"(
optimizer: {lr: 1e-3}
train: {max_steps: 10}
stages:
  - name: align
    model: {freeze: ["vision.*"]}
    train: {max_steps: 20}
  - name: ask
    optimizer: {lr: 1e-4}
)";

TEST_F(LoadRecipe, StagesOverrideTheBase) {
  const auto stages = load(kStages);
  ASSERT_EQ(stages.size(), 2U);
  EXPECT_EQ(stages[0].name, "align");
  EXPECT_EQ(stages[0].recipe.name, "run");
  EXPECT_EQ(stages[0].recipe.train.max_steps, 20);
  EXPECT_EQ(stages[0].recipe.optimizer.lr, 1e-3);
  EXPECT_EQ(stages[1].name, "ask");
  EXPECT_EQ(stages[1].recipe.train.max_steps, 10);
  EXPECT_EQ(stages[1].recipe.optimizer.lr, 1e-4);
  EXPECT_TRUE(stages[1].recipe.model.freeze.empty());
}

TEST_F(LoadRecipe, OverridesReachAllStagesOrOne) {
  const auto stages =
      load(kStages, {"train.max_steps=5", "stages.ask.train.max_steps=6", "train.seed=9"});
  EXPECT_EQ(stages[0].recipe.train.max_steps, 5);
  EXPECT_EQ(stages[1].recipe.train.max_steps, 6);
  EXPECT_EQ(stages[0].recipe.train.seed, 9);
  EXPECT_EQ(stages[1].recipe.train.seed, 9);
}

TEST_F(LoadRecipe, NamesProblemsOfStages) {
  const char* cases[][2] = {
      {"stages: 3", "stages: expects a list of stages, each with a name, not '3'"},
      {"stages: []", "stages: expects a list of stages, each with a name, not an empty one"},
      {"stages: [a]", "stages[0]: expects a name and keys, not 'a'"},
      {"stages: [{train: {seed: 1}}]", "stages[0]: has no name"},
      {"stages: [{name: a.b}]", "stages[0].name: 'a.b' may hold letters, digits, - and _ only"},
      {"stages: [{name: a}, {name: a}]", "stages[1].name: 'a' is the name of two stages"},
      {"stages: [{name: a, prepare: {out: x}}]",
       "stages[0].prepare: belongs to the whole recipe, not to a stage"},
      {"stages: [{name: a, train: {threads: 1}}]",
       "stages.a.train.threads: belongs to the whole recipe, not to a stage"},
      {"stages: [{name: a, train: {sed: 1}}]",
       "stages.a.train.sed: unknown key; did you mean stages.a.train.seed?"},
  };
  for (const auto& [yaml, expected] : cases) EXPECT_THAT(error(yaml), HasSubstr(expected)) << yaml;
}

TEST_F(LoadRecipe, ReportsAProblemOfTheBaseOnceAndOfAStageByName) {
  EXPECT_EQ(error("log: {every_steps: 0}\nstages: [{name: a}, {name: b}]"),
            "the recipe has a problem:\n"
            "  r.yaml:1:20: log.every_steps: is 0; must be at least 1");
  EXPECT_EQ(error("stages: [{name: a}, {name: b, log: {every_steps: 0}}]"),
            "the recipe has a problem:\n"
            "  r.yaml:1:50: stages.b.log.every_steps: is 0; must be at least 1");
}

TEST_F(LoadRecipe, ReadsAnchors) {
  const auto stages = load("train: &t {seed: 4}\nstages:\n - {name: a, train: *t}\n");
  EXPECT_EQ(stages[0].recipe.train.seed, 4);
}

}  // namespace
}  // namespace gimbal
