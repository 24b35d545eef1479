#include "gimbal/plan/file/parallel_section.h"

#include <gtest/gtest.h>

#include "gimbal/config/enums.h"
#include "gimbal/schedule/schedule.h"

namespace gimbal {
namespace {

class ParallelSection : public ::testing::Test {
 protected:
  ParallelSection() {
    plan.mesh = {.pp = 2, .dp_replicate = 3, .dp_shard = 2, .sp = 1, .tp = 2};
    plan.schedule = {PipelineKind::kInterleaved, 2, 2, 4};
    plan.shard_policy = ShardPolicy::kReshard;
    plan.blocks = {"embed", "text.0", "text.1", "text.2", "head"};
    plan.layout.stage_begin = {0, 1, 2, 4, 5};
  }

  /// "KEY ASKED PLANNED OPTION" of each conflict of a recipe that sets the keys.
  std::vector<std::string> conflicts(const std::vector<std::string>& keys) const {
    std::map<std::string, std::string> given;
    for (const std::string& key : keys) given["parallel." + key] = "r.yaml:1:1";
    std::vector<std::string> lines;
    for (const ParallelConflict& found : parallel_conflicts(plan, config, given))
      lines.push_back(found.key + " " + found.asked + " " + found.planned + " " + found.option);
    return lines;
  }

  using Lines = std::vector<std::string>;
  Plan plan;
  ParallelConfig config;
};

TEST_F(ParallelSection, HasAllThatAPlanSaysAndKeepsTheRest) {
  config.offload_optimizer = true;
  config.prefetch = false;
  const ParallelConfig made = parallel_of_plan(plan, config);
  EXPECT_EQ(made.pp, 2);
  EXPECT_EQ(made.dp_replicate, 3);
  EXPECT_EQ(made.dp_shard, 2);
  EXPECT_EQ(made.sp, 1);
  EXPECT_EQ(made.tp, 2);
  EXPECT_EQ(made.schedule, PipelineChoice::kInterleaved);
  EXPECT_EQ(made.stages_per_rank, 2);
  EXPECT_EQ(made.stage_starts, (Lines{"text.0", "text.1", "head"}));
  EXPECT_EQ(made.weights, WeightsChoice::kReshard);
  EXPECT_TRUE(made.offload_optimizer);
  EXPECT_FALSE(made.prefetch);
}

TEST_F(ParallelSection, KeysThatAreLeftOutFollowThePlan) {
  EXPECT_EQ(conflicts({}), Lines{});
  config = parallel_of_plan(plan, config);
  EXPECT_EQ(conflicts({"pp", "dp_replicate", "dp_shard", "sp", "tp", "schedule", "stages_per_rank",
                       "stage_starts", "weights"}),
            Lines{});
  config.dp_replicate = 0;  // what the others leave
  EXPECT_EQ(conflicts({"dp_replicate"}), Lines{});
}

TEST_F(ParallelSection, OtherValuesAreNamedWithTheOptionThatPlansWithThem) {
  config.dp_replicate = 4;
  config.sp = 2;
  config.stage_starts = {"text.1"};
  EXPECT_EQ(conflicts({"pp", "dp_replicate", "dp_shard", "sp", "tp", "schedule", "stages_per_rank",
                       "stage_starts", "weights"}),
            (Lines{"parallel.pp 1 2 --pp 1", "parallel.dp_replicate 4 3 --dp-replicate 4",
                   "parallel.dp_shard 1 2 --dp-shard 1", "parallel.sp 2 1 --sp 2",
                   "parallel.tp 1 2 --tp 1", "parallel.schedule 1f1b interleaved --schedule 1f1b",
                   "parallel.stages_per_rank 1 2 parallel.stages_per_rank=1",
                   "parallel.stage_starts text.1 text.0, text.1, head ",
                   "parallel.weights keep reshard parallel.weights=keep"}));
  config.stages_per_rank = 3;
  EXPECT_EQ(conflicts({"stages_per_rank"}),
            Lines{"parallel.stages_per_rank 3 2 --stages-per-rank 3"});
}

TEST_F(ParallelSection, ChoicesWithoutEffectAreNoConflict) {
  plan.mesh = {};
  plan.schedule = {PipelineKind::kOneFOneB, 1, 1, 4};
  plan.shard_policy = ShardPolicy::kKeepWeights;
  plan.layout.stage_begin = {0, 5};
  config.schedule = PipelineChoice::kInterleaved;
  config.stages_per_rank = 2;
  config.weights = WeightsChoice::kReshard;
  EXPECT_EQ(conflicts({"schedule", "stages_per_rank", "weights"}), Lines{});
  EXPECT_EQ(parallel_of_plan(plan, config).stages_per_rank, 1);
}

TEST_F(ParallelSection, SchedulesHaveTheSameNamesOnBothSides) {
  for (const PipelineChoice choice : {PipelineChoice::kGpipe, PipelineChoice::kOneFOneB,
                                      PipelineChoice::kInterleaved, PipelineChoice::kZeroBubble}) {
    EXPECT_STREQ(enum_name(choice), pipeline_name(pipeline_kind_of(choice)));
    EXPECT_EQ(pipeline_choice_of(pipeline_kind_of(choice)), choice);
  }
}

}  // namespace
}  // namespace gimbal
