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

TEST(Validate, TakesTheDefaults) { EXPECT_THAT(validate(Recipe{}), ElementsAre()); }

TEST(Validate, ListsEveryProblem) {
  Recipe recipe;
  recipe.optimizer.beta2 = 1;
  recipe.train.timeout_seconds = 0;
  EXPECT_THAT(validate(recipe), ElementsAre("optimizer.beta2: is 1; must be from 0 to below 1",
                                            "train.timeout_seconds: is 0; must be above 0"));
}

TEST(Validate, TakesInterleavedStages) {
  Recipe recipe;
  recipe.parallel.schedule = PipelineChoice::kInterleaved;
  EXPECT_THAT(validate(recipe), ElementsAre()) << "no pipeline, nothing to interleave";
  recipe.parallel.pp = 2;
  recipe.parallel.stages_per_rank = 2;
  recipe.parallel.stage_starts = {"a", "b", "c"};
  EXPECT_THAT(validate(recipe), ElementsAre());
}

TEST(Validate, APlanSaysHowManyStartsOfStagesThereAre) {
  Recipe recipe;
  recipe.parallel.stage_starts = {"text.0"};
  EXPECT_EQ(validate(recipe).size(), 1U);
  recipe.train.plan = "plan.json";  // with two stages, maybe these
  EXPECT_THAT(validate(recipe), ElementsAre());
}

TEST(Validate, NamesEachWrongValue) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"name=a/b"}, "name: 'a/b' must be a word without /"},
      {{"name="}, "name: '' must be a word"},
      {{"prepare.sources=[{files: [a]}]"}, "prepare.sources[0]: has no name"},
      {{"prepare.sources=[{name: a}]"}, "prepare.sources[0]: has no files"},
      {{"prepare.sources=[{name: a, files: ['']}]"}, "prepare.sources[0].files[0]: is an empty"},
      {{"prepare.sources=[{name: a, files: [b]}, {name: a, files: [c]}]"},
       "prepare.sources[1].name: 'a' is the name of two sources"},
      {{"prepare.sources=[{name: a, files: [b], weight: -1}]"},
       "prepare.sources[0].weight: is -1; must not be negative"},
      {{"prepare.max_tokens=-1"}, "prepare.max_tokens: is -1; must be at least 0"},
      {{"prepare.workers=-1"}, "prepare.workers: is -1"},
      {{"model.freeze=['']"}, "model.freeze[0]: is an empty pattern"},
      {{"model.recompute=full", "model.recompute_blocks=['']"}, "model.recompute_blocks[0]"},
      {{"model.recompute_blocks=[a]"}, "model.recompute_blocks: has no effect with"},
      {{"model.recompute_groups=[{level: mlp}]"}, "model.recompute_groups[0].blocks: has no value"},
      {{"data.weights.a=-1"}, "data.weights.a: is -1; must not be negative"},
      {{"data.workers=0"}, "data.workers: is 0; must be at least 1"},
      {{"data.prefetch_packs=0"}, "data.prefetch_packs: is 0"},
      {{"balance.text_cap=0"}, "balance.text_cap: is 0"},
      {{"balance.vision_cap=-1"}, "balance.vision_cap: is -1"},
      {{"balance.packs_per_step=0"}, "balance.packs_per_step: is 0"},
      {{"balance.micro_batches=-1"}, "balance.micro_batches: is -1"},
      {{"balance.samples_per_pack=-1"}, "balance.samples_per_pack: is -1"},
      {{"balance.samples_per_pack=0", "balance.method=random"},
       "balance.samples_per_pack: is 0; must be at least 1 with balance.method: random"},
      {{"balance.samples_per_pack=0", "balance.method=length"},
       "balance.samples_per_pack: is 0; must be at least 1 with balance.method: length"},
      {{"balance.packs_per_slot=-1"}, "balance.packs_per_slot: is -1"},
      {{"balance.packs_per_step=6", "balance.packs_per_slot=4"},
       "balance.packs_per_slot: is 4; must divide balance.packs_per_step (6)"},
      {{"optimizer.lr=-1"}, "optimizer.lr: is -1"},
      {{"optimizer.warmup_steps=-1"}, "optimizer.warmup_steps: is -1"},
      {{"optimizer.min_lr_ratio=2"}, "optimizer.min_lr_ratio: is 2; must be from 0 to 1"},
      {{"optimizer.beta1=-0.1"}, "optimizer.beta1: is -0.1; must be from 0 to below 1"},
      {{"optimizer.eps=0"}, "optimizer.eps: is 0; must be above 0"},
      {{"optimizer.weight_decay=-1"}, "optimizer.weight_decay: is -1"},
      {{"optimizer.clip_norm=-1"}, "optimizer.clip_norm: is -1"},
      {{"optimizer.groups=[{lr_scale: 1}]"}, "optimizer.groups[0].pattern: has no value"},
      {{"optimizer.groups=[{pattern: a, lr_scale: -1}]"}, "optimizer.groups[0].lr_scale: is -1"},
      {{"train.seed=-1"}, "train.seed: is -1"},
      {{"train.max_steps=-1"}, "train.max_steps: is -1"},
      {{"train.epochs=-1"}, "train.epochs: is -1"},
      {{"train.epochs=0"}, "train.epochs: and train.max_steps are both 0: nothing to train"},
      {{"train.threads=-1"}, "train.threads: is -1"},
      {{"train.loss_chunk_rows=0"}, "train.loss_chunk_rows: is 0"},
      {{"train.max_bad_steps=0"}, "train.max_bad_steps: is 0"},
      {{"parallel.pp=0"}, "parallel.pp: is 0; must be at least 1"},
      {{"parallel.dp_replicate=-1"}, "parallel.dp_replicate: is -1; must be at least 0"},
      {{"parallel.dp_shard=0"}, "parallel.dp_shard: is 0; must be at least 1"},
      {{"parallel.sp=0"}, "parallel.sp: is 0; must be at least 1"},
      {{"parallel.tp=0"}, "parallel.tp: is 0; must be at least 1"},
      {{"parallel.stages_per_rank=0"}, "parallel.stages_per_rank: is 0; must be at least 1"},
      {{"parallel.pp=2", "parallel.stages_per_rank=2"},
       "parallel.stages_per_rank: is 2, which needs parallel.schedule: interleaved"},
      {{"parallel.pp=2", "parallel.schedule=interleaved"},
       "parallel.schedule: interleaved needs parallel.stages_per_rank of at least 2"},
      {{"parallel.pp=2", "parallel.stage_starts=['']"},
       "parallel.stage_starts[0]: is an empty pattern"},
      {{"parallel.pp=3", "parallel.stage_starts=[text.0]"},
       "parallel.stage_starts: names 1 block; 3 stages (parallel.pp x parallel.stages_per_rank) "
       "need the first block of each but the first, which makes 2"},
      {{"parallel.stage_starts=[text.0]"},
       "parallel.stage_starts: names 1 block; 1 stage (parallel.pp x parallel.stages_per_rank) has "
       "none to name: leave it out"},
      {{"checkpoint.keep_every=-1"}, "checkpoint.keep_every: is -1"},
      {{"evaluate.every_steps=-1"}, "evaluate.every_steps: is -1"},
      {{"evaluate.max_samples=-1"}, "evaluate.max_samples: is -1"},
      {{"evaluate.max_new_tokens=0"}, "evaluate.max_new_tokens: is 0"},
      {{"evaluate.text_cap=-1"}, "evaluate.text_cap: is -1"},
      {{"evaluate.every_steps=5"}, "evaluate.every_steps: needs a dataset in data.eval"},
      {{"checkpoint.every_steps=-1"}, "checkpoint.every_steps: is -1"},
      {{"checkpoint.keep_last=0"}, "checkpoint.keep_last: is 0"},
      {{"log.every_steps=0"}, "log.every_steps: is 0"},
  };
  for (const auto& [overrides, expected] : cases) {
    const std::string message = message_of<UserError>([&] { load_recipe("", overrides); });
    EXPECT_THAT(message,
                HasSubstr(concat("the recipe has a problem:\n  command line: ", expected)));
  }
}

}  // namespace
}  // namespace gimbal
