#include "gimbal/train/layout/follow_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/config/load.h"
#include "gimbal/cost/model_fingerprint.h"
#include "gimbal/train/preflight.h"
#include "gimbal/train/tape/block_levels.h"
#include "train/small_models.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;

class FollowPlan : public ::testing::Test {
 protected:
  FollowPlan() {
    plan.model_type = model.type;
    plan.model_fingerprint = model_fingerprint(model);
    plan.streams = {"text", "vision"};
    plan.caps = {600, 12};
    plan.packs_per_step = 6;
    plan.micro_batches = 3;
    plan.mesh.dp_replicate = 2;
    for (const BlockDesc& block : model.blocks) {
      plan.blocks.push_back(block.name);
      plan.layout.recompute.push_back(Recompute::kKeep);
    }
    plan.layout.stage_begin = {0, model.blocks.size()};
    plan.layout.recompute[block("text.0")] = Recompute::kAttention;
    plan.layout.recompute[block("text.1")] = Recompute::kFull;
    plan.layout.recompute[block("projector")] = Recompute::kMlp;
  }

  std::size_t block(const std::string& name) const {
    std::size_t i = 0;
    while (model.blocks.at(i).name != name) ++i;
    return i;
  }

  /// The recipe as a file and a command line give it, with the plan worked in.
  StageRecipe applied(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
    write_file_atomic(folder_ / "r.yaml", yaml);
    StageRecipe stage = load_recipe(folder_ / "r.yaml", overrides).front();
    apply_plan(plan, "p/plan.json", model, stage);
    return stage;
  }
  std::string refused(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
    return message_of<UserError>([&] { applied(yaml, overrides); });
  }

  ModelDesc model = make_model(small_models::internvl_config("qwen2", false), "test").desc;
  Plan plan;
  testing::TempFolder folder_;
};

TEST_F(FollowPlan, CapsStepsAndLevelsAreThePlans) {
  const Recipe recipe = applied("").recipe;
  EXPECT_EQ(recipe.balance.text_cap, 600);
  EXPECT_EQ(recipe.balance.vision_cap, 12);
  EXPECT_EQ(recipe.balance.packs_per_step, 6);
  EXPECT_EQ(recipe.balance.micro_batches, 1);
  const std::vector<Recompute> levels = block_levels(recipe.model, model);
  EXPECT_EQ(levels[block("text.0")], Recompute::kAttention);
  EXPECT_EQ(levels[block("text.1")], Recompute::kFull);
  EXPECT_EQ(levels[block("projector")], Recompute::kFull) << "of one part";
  EXPECT_EQ(levels[block("vision.0")], Recompute::kKeep);
}

TEST_F(FollowPlan, ResolvedRecipeIsCompleteAndAgrees) {
  const StageRecipe once = applied("train: {plan: p/plan.json}");
  const std::string yaml = to_yaml({once});
  EXPECT_THAT(yaml, AllOf(HasSubstr("text_cap: 600"), HasSubstr("plan: p/plan.json")));
  const StageRecipe again = applied(yaml);
  EXPECT_EQ(to_json(again.recipe), to_json(once.recipe));
}

TEST_F(FollowPlan, EqualOptionsAreNoConflict) {
  EXPECT_EQ(
      applied("balance: {text_cap: 600}", {"balance.packs_per_step=6"}).recipe.balance.text_cap,
      600);
  plan.layout.recompute.assign(model.blocks.size(), Recompute::kFull);
  EXPECT_NO_THROW(applied("model: {recompute: full}"));
}

TEST_F(FollowPlan, OtherOptionsAreNamedWithThePlans) {
  const std::string message = refused("balance: {text_cap: 4096, vision_cap: 12}",
                                      {"balance.packs_per_step=4", "balance.micro_batches=0"});
  EXPECT_THAT(message, AllOf(HasSubstr("p/plan.json"),
                             HasSubstr("r.yaml:1:21: balance.text_cap is 4096; the plan has 600"),
                             HasSubstr("command line: balance.packs_per_step is 4; the plan has 6"),
                             HasSubstr("command line: balance.micro_batches is 0; the plan has 1"),
                             Not(HasSubstr("vision_cap"))));
}

TEST_F(FollowPlan, AdviceNamesTheOptionsOfAPlanThatFits) {
  plan.mesh = {.pp = 2, .dp_replicate = 2};
  plan.schedule = {PipelineKind::kZeroBubble, 2, 1, 3};
  plan.layout.stage_begin = {0, block("text.0"), model.blocks.size()};
  EXPECT_THAT(
      refused("parallel: {pp: 4, schedule: 1f1b}"),
      AllOf(HasSubstr("For a plan that fits parallel.pp, parallel.schedule: `gimbal plan "
                      "RECIPE --devices 4 --pp 4 --schedule 1f1b --profile FILE --out FILE`."),
            Not(HasSubstr("--cap"))));
  // A cap that is given alone would leave the other stream without one.
  EXPECT_THAT(
      refused("balance: {text_cap: 500}"),
      HasSubstr("RECIPE --devices 4 --cap text=500 --cap vision=12 --profile FILE --out FILE`."));
  EXPECT_THAT(refused("balance: {text_cap: 500, vision_cap: 0, packs_per_step: 4}"),
              HasSubstr("For a plan that fits balance.text_cap, balance.vision_cap, "
                        "balance.packs_per_step: `gimbal plan RECIPE --devices 4 --cap text=500 "
                        "--packs-per-step 4 --profile FILE --out FILE`."));
  // No option chooses these.
  EXPECT_THAT(refused("balance: {micro_batches: 2}",
                      {"parallel.stage_starts=[text.1]", "train.plan=p/plan.json"}),
              AllOf(HasSubstr("Remove these keys"), Not(HasSubstr("gimbal plan"))));
}

TEST_F(FollowPlan, AdviceNamesTheMachineOfThePlan) {
  plan.profile_origin = "analytic";
  plan.hardware = "a100-80g";
  EXPECT_THAT(refused("balance: {packs_per_step: 4}"),
              HasSubstr("--packs-per-step 4 --hardware a100-80g --out FILE`."));
  plan.hardware = "mine";  // from a file, whose name the plan does not know
  EXPECT_THAT(refused("balance: {packs_per_step: 4}"),
              HasSubstr("--packs-per-step 4 --profile FILE --out FILE`."));
  plan.hardware = "a100-80g";
  plan.profile_origin = "measured";
  EXPECT_THAT(refused("balance: {packs_per_step: 4}"), HasSubstr("4 --profile FILE --out FILE`."));
}

TEST_F(FollowPlan, AdviceOnAxesNamesDevicesThatTheyMake) {
  plan.mesh = {.pp = 2, .dp_replicate = 2};
  plan.layout.stage_begin = {0, block("text.0"), model.blocks.size()};
  EXPECT_THAT(refused("parallel: {pp: 1}"),
              HasSubstr("RECIPE --devices 4 --pp 1 --profile FILE --out FILE`."));
  EXPECT_THAT(refused("parallel: {pp: 8}"),
              HasSubstr("RECIPE --pp 8 --profile FILE --out FILE`, and train with --nproc 8."));
  EXPECT_THAT(refused("parallel: {pp: 1, dp_replicate: 2}"),
              HasSubstr("RECIPE --pp 1 --profile FILE --out FILE`, and train with --nproc 2."))
      << "no other axis is left for the rest";
  EXPECT_THAT(refused("parallel: {pp: 1, dp_replicate: 4}"),
              HasSubstr("RECIPE --devices 4 --pp 1 --dp-replicate 4 --profile FILE"));
  // The plan reads the recipe's file, not this command line.
  EXPECT_THAT(
      refused("", {"parallel.pp=4", "parallel.dp_replicate=2"}),
      HasSubstr(
          "RECIPE --pp 4 --dp-replicate 2 --profile FILE --out FILE`, and train with --nproc 8."));
}

TEST_F(FollowPlan, StartsOfStagesAreHeldAgainstThePlans) {
  plan.mesh.pp = 2;
  plan.layout.stage_begin = {0, block("text.0"), model.blocks.size()};
  // The plan says how many stages there are: the recipe leaves pp out.
  EXPECT_NO_THROW(applied("{train: {plan: p/plan.json}, parallel: {stage_starts: [text.0]}}"));
  EXPECT_THAT(refused("{train: {plan: p/plan.json}, parallel: {stage_starts: [text.0, text.1]}}"),
              HasSubstr("parallel.stage_starts is text.0, text.1; the plan has text.0\nRemove"));
}

TEST_F(FollowPlan, OtherRecomputeLevelsAreNamed) {
  EXPECT_THAT(refused("", {"model.recompute=keep"}),
              HasSubstr("command line: model.recompute is keep for projector; the plan has full"));
  EXPECT_THAT(refused("model: {recompute_groups: [{blocks: text.0, level: mlp}]}"),
              HasSubstr("model.recompute_groups is keep for projector; the plan has full"));
  EXPECT_THAT(refused("", {"model.recompute=keep"}),
              AllOf(HasSubstr("Remove these keys"), HasSubstr("or leave train.plan out"),
                    Not(HasSubstr("plan again"))));
}

TEST_F(FollowPlan, TheKeyThatDecidedTheLevelIsNamed) {
  const std::string all =
      "model: {recompute: full, recompute_blocks: [text.*, projector], "
      "recompute_groups: [{blocks: projector, level: LEVEL}]}";
  const auto with = [&](const std::string& level) {
    std::string yaml = all;
    return yaml.replace(yaml.find("LEVEL"), 5, level);
  };
  EXPECT_THAT(refused(with("keep")),
              HasSubstr("r.yaml:1:83: model.recompute_groups is keep for projector"));
  EXPECT_THAT(refused(with("full")),
              HasSubstr("r.yaml:1:20: model.recompute is full for text.0; the plan has attention"));
  plan.layout.recompute.assign(model.blocks.size(), Recompute::kFull);
  EXPECT_THAT(refused(with("full")),
              HasSubstr("r.yaml:1:44: model.recompute_blocks is keep for vision.0"));
}

TEST_F(FollowPlan, PacksThatNoPlanIsMadeForAreRefused) {
  const std::string message =
      refused("balance: {method: isf, samples_per_pack: 4}",
              {"balance.packs_per_step=6", "balance.packs_per_slot=2", "balance.oversize=alone"});
  EXPECT_THAT(message, AllOf(HasSubstr("r.yaml:1:19: balance.method is isf; a plan is made for "
                                       "packs of method gimbal"),
                             HasSubstr("balance.samples_per_pack is 4; a plan limits packs by"),
                             HasSubstr("command line: balance.packs_per_slot is 2; a plan makes"),
                             HasSubstr("command line: balance.oversize is alone; a plan cannot"),
                             HasSubstr("Remove these keys")));
  EXPECT_NO_THROW(applied("balance: {method: gimbal, oversize: reject}"));
}

TEST_F(FollowPlan, OtherFrozenBlocksAreNamed) {
  std::vector<bool> frozen(model.blocks.size(), false);
  const auto check = [&] { check_plan_freeze(plan, "p.json", model, frozen); };
  EXPECT_NO_THROW(check());
  frozen[block("vision.0")] = frozen[block("vision.1")] = frozen[block("projector")] = true;
  EXPECT_THAT(message_of<UserError>(check),
              HasSubstr("plan 'p.json' is for a model with no frozen blocks, the recipe has the "
                        "frozen blocks vision.0 .. vision.1, projector (model.freeze)"));
  plan.frozen = frozen;
  EXPECT_NO_THROW(check());
  frozen[block("projector")] = false;
  EXPECT_THAT(message_of<UserError>(check),
              HasSubstr("the frozen blocks vision.0 .. vision.1, projector, the recipe has the "
                        "frozen blocks vision.0 .. vision.1 (model.freeze)"));
}

TEST_F(FollowPlan, AFrozenBlockHasNoTrainableParameterOfItsOwn) {
  Model tied = make_model(small_models::internvl_config("qwen2", true), "test");
  freeze_parameters(tied, {"projector", "text.0.*bias", "text.1"});
  const std::vector<bool> frozen = frozen_blocks(tied);
  EXPECT_TRUE(frozen[block("projector")] && frozen[block("text.1")]);
  EXPECT_FALSE(frozen[block("text.0")] || frozen[block("text.embed")]);
  // The head that uses the embedding's weight counts as either.
  plan.frozen = frozen;
  EXPECT_NO_THROW(check_plan_freeze(plan, "p.json", tied.desc, frozen));
  plan.frozen[block("text.head")] = false;
  EXPECT_NO_THROW(check_plan_freeze(plan, "p.json", tied.desc, frozen));
}

TEST_F(FollowPlan, OtherModelsAreRefused) {
  const auto check = [&](const Plan& changed) {
    return message_of<UserError>([&] { check_plan_model(changed, "p.json", model, "models/m"); });
  };
  EXPECT_NO_THROW(check_plan_model(plan, "p.json", model, "models/m"));
  Plan changed = plan;
  changed.model_type = "qwen3";
  EXPECT_THAT(check(changed), HasSubstr("plan 'p.json' is for a qwen3 model, the one in 'models/m' "
                                        "is internvl"));
  changed = plan;
  changed.blocks.pop_back();
  EXPECT_THAT(check(changed), HasSubstr("has 8 blocks, the model in 'models/m' has 9"));
  changed = plan;
  changed.blocks[1] = "vision.7";
  EXPECT_THAT(check(changed), HasSubstr("block 1 is 'vision.7', in the model in 'models/m' it is "
                                        "'vision.0'"));
  changed = plan;
  changed.model_fingerprint[0] = changed.model_fingerprint[0] == '0' ? '1' : '0';
  EXPECT_THAT(check(changed), HasSubstr("same blocks but other sizes"));
}

TEST_F(FollowPlan, MeshesThatDoNotRunHereAreRefused) {
  const auto check = [&](const MeshShape& mesh, int world_size) {
    Plan changed = plan;
    changed.mesh = mesh;
    return message_of<UserError>([&] { check_plan_runs(changed, "p.json", world_size); });
  };
  for (const MeshShape& mesh : {MeshShape{.pp = 2}, MeshShape{.dp_shard = 2}, MeshShape{.sp = 2},
                                MeshShape{.tp = 2}, MeshShape{.dp_replicate = 2}}) {
    Plan changed = plan;
    changed.mesh = mesh;
    EXPECT_NO_THROW(check_plan_runs(changed, "p.json", 2));
  }
  EXPECT_THAT(check(MeshShape{.dp_shard = 2, .ep = 2}, 2),
              AllOf(HasSubstr("no expert parallelism"), HasSubstr("--ep 1")));
  EXPECT_THAT(check(MeshShape{.dp_replicate = 2}, 1),
              HasSubstr("is for 2 processes, but this run has 1. Start it with --nproc 2, or plan "
                        "again: `gimbal plan RECIPE --devices 1 --profile FILE --out FILE`."));
  EXPECT_THAT(check(MeshShape{}, 3), HasSubstr("is for 1 process, but this run has 3"));
}

TEST_F(FollowPlan, MeshCutsAndScheduleBecomeTheRecipes) {
  plan.mesh = {.pp = 2, .dp_replicate = 3, .dp_shard = 2, .sp = 1, .tp = 2};
  plan.schedule = {PipelineKind::kZeroBubble, 2, 1, 3};
  plan.shard_policy = ShardPolicy::kReshard;
  plan.layout.stage_begin = {0, block("text.0"), model.blocks.size()};
  const ParallelConfig parallel = applied("").recipe.parallel;
  EXPECT_EQ(parallel.pp, 2);
  EXPECT_EQ(parallel.dp_replicate, 3);
  EXPECT_EQ(parallel.dp_shard, 2);
  EXPECT_EQ(parallel.tp, 2);
  EXPECT_EQ(parallel.schedule, PipelineChoice::kZeroBubble);
  EXPECT_EQ(parallel.weights, WeightsChoice::kReshard);
  EXPECT_EQ(parallel.stage_starts, std::vector<std::string>{"text.0"});
  EXPECT_THAT(refused("", {"parallel.pp=4", "parallel.schedule=gpipe",
                           "parallel.stage_starts=[text.1,text.norm,text.head]"}),
              AllOf(HasSubstr("parallel.pp is 4; the plan has 2"),
                    HasSubstr("parallel.schedule is gpipe; the plan has zb-h1"),
                    HasSubstr("parallel.stage_starts is text.1, text.norm, text.head; the plan has "
                              "text.0")));
  EXPECT_NO_THROW(applied("", {"parallel.pp=2", "parallel.dp_replicate=0"}));
}

TEST_F(FollowPlan, CapsOfUnknownStreamsAndAMissingTextCapAreRefused) {
  plan.streams = {"text", "audio"};
  EXPECT_THAT(refused(""), HasSubstr("has a cap for the stream 'audio'"));
  plan.streams = {"text", "vision"};
  plan.caps = {0, 12};
  EXPECT_THAT(refused(""), HasSubstr("has no cap on text rows"));
}

TEST_F(FollowPlan, AnotherNumberFormatIsAWarning) {
  plan.dtype = "bfloat16";
  Recipe recipe;
  EXPECT_THAT(plan_warning(plan, recipe),
              HasSubstr("was made for bfloat16, this run computes in float32"));
  recipe.model.dtype = DType::kBFloat16;
  EXPECT_EQ(plan_warning(plan, recipe), "");
}

TEST_F(FollowPlan, AStageWithoutAPlanStaysAsItIs) {
  const StageRecipe stage{"run", Recipe{}};
  const PlannedStage planned = follow_plan(stage, 1);
  EXPECT_EQ(to_json(planned.stage.recipe), to_json(stage.recipe));
  EXPECT_FALSE(planned.plan);
  EXPECT_EQ(to_json(with_plan_copy(stage, "run").recipe), to_json(stage.recipe));
}

}  // namespace
}  // namespace gimbal
