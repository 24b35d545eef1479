#include "gimbal/train/layout/run_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/schedule/validate.h"
#include "train/small_models.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using ::testing::SizeIs;

class RunLayouts : public ::testing::Test {
 protected:
  RunLayouts() {
    work.mean = {100, 2000, 40, 6, 0};
    work.frozen.assign(model.blocks.size(), false);
    work.levels.assign(model.blocks.size(), Recompute::kKeep);
  }
  RunLayout layout(int world_size) const {
    return make_run_layout(config, model, work, world_size, "models/small");
  }
  std::string refused(int world_size) const {
    return message_of<UserError>([&] { layout(world_size); });
  }

  ModelDesc model = make_model(small_models::internvl_config("qwen2", false), "test").desc;
  ParallelConfig config;
  LayoutWork work;
};

TEST_F(RunLayouts, ReplicasAreWhatTheOtherAxesLeave) {
  config.dp_shard = 2;
  config.tp = 2;
  EXPECT_EQ(layout(12).mesh, (MeshShape{1, 3, 2, 1, 2, 1}));
  EXPECT_THAT(refused(6), AllOf(HasSubstr("is 4, which does not divide the 6 processes"),
                                HasSubstr("--nproc")));
  config.dp_replicate = 2;
  EXPECT_EQ(layout(8).mesh.dp_replicate, 2);
  EXPECT_THAT(refused(4), HasSubstr("is 8 processes, but this run has 4"));
  EXPECT_EQ(make_run_layout({}, model, work, 3, "").mesh, (MeshShape{.dp_replicate = 3}));
}

TEST_F(RunLayouts, HeadsMustBeDivided) {
  // 4 text heads, 2 key-value heads, 3 vision heads.
  for (const auto& [tp, sp] : {std::pair{1, 2}, {2, 1}, {2, 2}, {1, 4}}) {
    config.tp = tp;
    config.sp = sp;
    EXPECT_EQ(layout(tp * sp).mesh.tp, tp);
  }
  config.tp = 3;
  config.sp = 1;
  EXPECT_THAT(refused(3),
              AllOf(HasSubstr("parallel.tp and parallel.sp do not fit the model in 'models/small'"),
                    HasSubstr("tp 3 x sp 1 = 3 does not divide the text model's 4 attention")));
  config.tp = 2;
  config.sp = 4;
  EXPECT_THAT(refused(8), HasSubstr("tp 2 x sp 4 = 8 does not divide the text model's 4"));
  config.tp = 4;
  config.sp = 1;
  EXPECT_THAT(refused(4), AllOf(HasSubstr("models/small"),
                                HasSubstr("tp 4 is above the vision tower's 3 attention heads")));
  model.text_heads = 12;
  model.text_kv_heads = 4;
  config.tp = 3;
  config.sp = 2;
  EXPECT_THAT(refused(6), HasSubstr("tp 3 x sp 2 = 6 and the text model's 4 key-value heads do "
                                    "not divide one another"));
}

TEST_F(RunLayouts, FeedForwardWidthsMayBeUneven) {
  model.text_ffn = 25;
  model.vision_ffn = 21;
  config.tp = 2;
  EXPECT_EQ(layout(2).mesh.tp, 2);
}

TEST_F(RunLayouts, ChoicesWithoutEffectAreNoted) {
  const auto notes = [&](const MeshShape& mesh) { return layout_notes(config, mesh); };
  EXPECT_THAT(notes({}), IsEmpty());
  config.schedule = PipelineChoice::kZeroBubble;
  config.weights = WeightsChoice::kReshard;
  config.prefetch = false;
  EXPECT_THAT(notes({.sp = 2}),
              ElementsAre(AllOf(HasSubstr("parallel.schedule: zb-h1 has no effect"),
                                HasSubstr("parallel.pp is 1")),
                          AllOf(HasSubstr("parallel.weights: reshard has no effect"),
                                HasSubstr("parallel.dp_shard is 1")),
                          AllOf(HasSubstr("parallel.prefetch: false has no effect"),
                                HasSubstr("parallel.dp_shard is 1"))));
  EXPECT_THAT(notes({.pp = 2, .dp_shard = 2}), IsEmpty());
  EXPECT_THAT(notes({.pp = 2}), SizeIs(2));
  config = {};
  config.schedule = PipelineChoice::kInterleaved;
  config.stages_per_rank = 3;
  EXPECT_THAT(notes({}), ElementsAre(AllOf(HasSubstr("parallel.stages_per_rank: 3 saves nothing"),
                                           HasSubstr("parallel.pp is 1"))));
}

TEST_F(RunLayouts, StagesCoverTheBlocksAndWeighAlike) {
  config.pp = 2;
  const RunLayout halves = layout(2);
  ASSERT_EQ(halves.stages.size(), 2U);
  EXPECT_EQ(halves.stages[0].begin, 0U);
  EXPECT_EQ(halves.stages[0].end, halves.stages[1].begin);
  EXPECT_EQ(halves.stages[1].end, model.blocks.size());
  // A heavier text part moves the cut into it.
  work.mean.vision_rows = 0;
  EXPECT_GT(layout(2).stages[0].end, halves.stages[0].end);
}

TEST_F(RunLayouts, GivenStartsAreTaken) {
  config.pp = 2;
  config.stage_starts = {"text.0"};
  const RunLayout cut = layout(2);
  EXPECT_EQ(model.blocks[cut.stages[1].begin].name, "text.0");
  EXPECT_EQ(cut.rank_of_block(0), 0);
  EXPECT_EQ(cut.rank_of_block(cut.stages[1].begin), 1);
  EXPECT_TRUE(cut.blocks_of(1, model.blocks.size()).back());
  EXPECT_FALSE(cut.blocks_of(1, model.blocks.size()).front());
  config.stage_starts = {"text.9"};
  EXPECT_THAT(refused(2), HasSubstr("the model has no block 'text.9'; its blocks are vision.embed, "
                                    "vision.0 .. vision.1, projector, text.embed, text.0 .. "
                                    "text.1, text.norm, text.head"));
  config.stage_starts = {model.blocks.front().name};
  EXPECT_THAT(refused(2), HasSubstr("'vision.embed' is the first block, where the first stage"));
  config.pp = 3;
  config.stage_starts = {"text.1", "text.0"};
  EXPECT_THAT(refused(3), HasSubstr("must come after the start of the stage before"));
  config.stage_starts.clear();
  config.pp = 64;
  EXPECT_THAT(refused(64), HasSubstr("64 stages are more than the model's"));
}

TEST_F(RunLayouts, InterleavedStagesGoRoundTheRanks) {
  config.pp = 2;
  config.stages_per_rank = 2;
  config.schedule = PipelineChoice::kInterleaved;
  const RunLayout wound = layout(2);
  ASSERT_EQ(wound.stages.size(), 4U);
  const std::vector<BlockRange> own = wound.stages_of(1);
  ASSERT_EQ(own.size(), 2U);
  EXPECT_EQ(own[0].begin, wound.stages[1].begin);
  EXPECT_EQ(own[1].end, model.blocks.size());
  EXPECT_EQ(wound.padded_micro_batches(3), 4U);
  for (const std::size_t count : {1U, 2U, 3U, 5U, 8U}) {
    const Schedule schedule = wound.make(wound.padded_micro_batches(count));
    EXPECT_TRUE(check_schedule(schedule).problems.empty());
  }
}

TEST_F(RunLayouts, OneStageRunsOneMicroBatchAtATime) {
  config.schedule = PipelineChoice::kGpipe;
  EXPECT_EQ(check_schedule(layout(1).make(5)).in_flight, std::vector<int>{1});
  config.pp = 2;
  EXPECT_EQ(check_schedule(layout(2).make(5)).in_flight, (std::vector<int>{5, 5}));
}

}  // namespace
}  // namespace gimbal
