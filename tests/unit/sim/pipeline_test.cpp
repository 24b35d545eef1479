#include "gimbal/sim/pipeline.h"

#include <gtest/gtest.h>

#include <set>

#include "gimbal/base/error.h"
#include "sim/sim_cases.h"

namespace gimbal {
namespace {

using testing::check_cases;
using testing::key_of;
using testing::PipelineCase;
using testing::random_pipeline;

constexpr ActionKind kF = ActionKind::kForward;
constexpr ActionKind kB = ActionKind::kBackward;
constexpr ActionKind kI = ActionKind::kBackwardInput;
constexpr ActionKind kW = ActionKind::kBackwardWeight;

/// Two stages, two micro-batches, F F B B on each; each message takes 1 + 6 / 3 = 3.
PipelineCase two_stages() {
  PipelineCase pipeline;
  pipeline.schedule = {"two", 2, 2, 2, {}};
  for (int rank = 0; rank < 2; ++rank) {
    pipeline.schedule.ranks.push_back({{rank, kF, 0}, {rank, kF, 1}, {rank, kB, 0}, {rank, kB, 1}});
  }
  StageWork work;
  work.forward = 2;
  work.backward = 4;
  work.saved = 10;
  work.forward_workspace = 3;
  work.backward_workspace = 5;
  work.send = 6;
  pipeline.input.work.assign(4, work);
  pipeline.input.links = {{1, 3}};
  pipeline.input.static_bytes = {100, 200};
  return pipeline;
}

std::vector<Seconds> starts(const PipelineResult& result, std::size_t rank) {
  std::vector<Seconds> times;
  for (const ActionTimes& action : result.ranks[rank]) times.push_back(action.start);
  return times;
}

TEST(SimulatePipeline, FollowsAnExampleWorkedByHand) {
  const PipelineCase pipeline = two_stages();
  const PipelineResult result = simulate_pipeline(pipeline.with_schedule());
  // Inputs arrive at 5 and, after the first has left the link, at 8; gradients at 17 and 21.
  EXPECT_EQ(starts(result, 0), (std::vector<Seconds>{0, 2, 17, 21}));
  EXPECT_EQ(starts(result, 1), (std::vector<Seconds>{5, 8, 10, 14}));
  EXPECT_EQ(result.seconds, 25);
  EXPECT_EQ(result.busy, (std::vector<Seconds>{12, 12}));
  EXPECT_EQ(result.send_wait, (std::vector<Seconds>{0, 0}));
  EXPECT_EQ(result.critical_path, 2 + 3 + 2 + 4 + 3 + 4);
  EXPECT_EQ(result.peak_bytes, (std::vector<Bytes>{125, 225}));
  EXPECT_EQ(result.peak_action, (std::vector<std::size_t>{2, 2}));
}

TEST(SimulatePipeline, SenderWaitsForItsMessageWithoutOverlap) {
  const PipelineCase pipeline = two_stages();
  PipelineInput input = pipeline.with_schedule();
  input.overlap_sends = false;
  const PipelineResult result = simulate_pipeline(input);
  EXPECT_EQ(starts(result, 0), (std::vector<Seconds>{0, 5, 19, 26}));
  EXPECT_EQ(starts(result, 1), (std::vector<Seconds>{5, 10, 12, 19}));
  EXPECT_EQ(result.send_wait, (std::vector<Seconds>{6, 6}));
}

TEST(SimulatePipeline, ForwardsOfAStageStartWhenItsParametersAreThere) {
  const PipelineCase pipeline = two_stages();
  PipelineInput input = pipeline.with_schedule();
  input.earliest_start = {1, 40};
  const PipelineResult result = simulate_pipeline(input);
  EXPECT_EQ(starts(result, 0), (std::vector<Seconds>{1, 3, 51, 55}));
  EXPECT_EQ(starts(result, 1), (std::vector<Seconds>{40, 42, 44, 48}));
}

TEST(SimulatePipeline, HoldsSavedBytesUntilWeightGradientsWhenSplit) {
  PipelineCase pipeline;
  pipeline.schedule = {"split", 1, 1, 2, {{}}};
  pipeline.schedule.ranks[0] = {{0, kF, 0}, {0, kI, 0}, {0, kF, 1},
                                {0, kI, 1}, {0, kW, 0}, {0, kW, 1}};
  StageWork work;
  work.forward = work.backward_input = work.backward_weight = 1;
  work.saved = 10;
  work.backward_workspace = 1;
  pipeline.input.work.assign(2, work);
  pipeline.input.static_bytes = {0};
  const PipelineResult result = simulate_pipeline(pipeline.with_schedule());
  EXPECT_EQ(result.peak_bytes[0], 21);
  EXPECT_EQ(result.peak_action[0], 3U);
  EXPECT_EQ(result.seconds, 6);
}

TEST(SimulatePipeline, IsAnInternalErrorWhenTheScheduleNeverEnds) {
  PipelineCase pipeline = two_stages();
  std::swap(pipeline.schedule.ranks[0][1], pipeline.schedule.ranks[0][3]);  // F0 B1 B0 F1
  EXPECT_THROW(simulate_pipeline(pipeline.with_schedule()), InternalError);
  pipeline = two_stages();
  std::swap(pipeline.schedule.ranks[1][0], pipeline.schedule.ranks[1][2]);  // B0 F1 F0 B1
  EXPECT_THROW(simulate_pipeline(pipeline.with_schedule()), InternalError);
}

TEST(SimulatePipeline, IsAnInternalErrorWhenSizesDoNotFit) {
  const PipelineCase pipeline = two_stages();
  PipelineInput input = pipeline.with_schedule();
  input.work.pop_back();
  EXPECT_THROW(simulate_pipeline(input), InternalError);
  input = pipeline.with_schedule();
  input.links.clear();
  EXPECT_THROW(simulate_pipeline(input), InternalError);
  input = pipeline.with_schedule();
  input.static_bytes.pop_back();
  EXPECT_THROW(simulate_pipeline(input), InternalError);
  input = pipeline.with_schedule();
  input.earliest_start = {0};
  EXPECT_THROW(simulate_pipeline(input), InternalError);
}

TEST(SimulatePipelineProperty, StartsEveryActionWhenTheOracleDoes) {
  check_cases(400, [] {
    const PipelineCase pipeline = random_pipeline();
    PipelineInput input = pipeline.with_schedule();
    input.overlap_sends = *testing::between(0, 2) == 0;
    const PipelineResult result = simulate_pipeline(input);
    const auto expected = testing::oracle_starts(input);
    std::size_t num_actions = 0;
    for (const auto& actions : result.ranks) {
      num_actions += actions.size();
      for (const ActionTimes& a : actions) {
        RC_ASSERT(a.start == expected.at(key_of(a.action)));
        const StageWork& work = input.work[static_cast<std::size_t>(
            a.action.stage * pipeline.schedule.num_micro_batches + a.action.micro_batch)];
        RC_ASSERT(a.end == a.start + testing::seconds_of(work, a.action.kind));
      }
    }
    RC_ASSERT(num_actions == expected.size());
  });
}

TEST(SimulatePipelineProperty, IsNeverBelowTheCriticalPathOrTheBusiestRank) {
  check_cases(400, [] {
    const PipelineCase pipeline = random_pipeline();
    PipelineInput input = pipeline.with_schedule();
    input.overlap_sends = *testing::between(0, 2) == 0;
    const PipelineResult result = simulate_pipeline(input);
    RC_ASSERT(result.seconds >= result.critical_path);
    for (std::size_t rank = 0; rank < result.ranks.size(); ++rank) {
      RC_ASSERT(result.seconds >= result.busy[rank]);
      Seconds busy = 0;
      for (std::size_t i = 0; i < result.ranks[rank].size(); ++i) {
        const ActionTimes& action = result.ranks[rank][i];
        RC_ASSERT(action.action == pipeline.schedule.ranks[rank][i]);
        if (i > 0) RC_ASSERT(action.start >= result.ranks[rank][i - 1].end);
        busy += action.end - action.start;
      }
      RC_ASSERT(result.busy[rank] == busy);
      RC_ASSERT(result.send_wait[rank] == 0 || !input.overlap_sends);
    }
  });
}

/// The critical path is what is left when each micro-batch has a rank and links of its own for each
/// stage.
TEST(SimulatePipelineProperty, CriticalPathIsTheSlowestMicroBatchAlone) {
  check_cases(200, [] {
    PipelineCase pipeline = random_pipeline();
    pipeline.input.earliest_start.clear();
    const int stages = pipeline.schedule.num_stages;
    Seconds longest = 0;
    for (int m = 0; m < pipeline.schedule.num_micro_batches; ++m) {
      PipelineCase alone;
      alone.schedule = {"alone", stages, stages, 1, {}};
      alone.schedule.ranks.resize(static_cast<std::size_t>(stages));
      for (const auto& actions : pipeline.schedule.ranks) {
        for (const Action& a : actions) {
          if (a.micro_batch != m) continue;
          alone.schedule.ranks[static_cast<std::size_t>(a.stage)].push_back({a.stage, a.kind, 0});
        }
      }
      for (int s = 0; s < stages; ++s) alone.input.work.push_back(pipeline.work(s, m));
      alone.input.links = pipeline.input.links;
      if (pipeline.schedule.num_ranks == 1) alone.input.links.assign(alone.input.links.size(), {});
      alone.input.static_bytes.assign(static_cast<std::size_t>(stages), 0);
      longest = std::max(longest, simulate_pipeline(alone.with_schedule()).seconds);
    }
    RC_ASSERT(simulate_pipeline(pipeline.with_schedule()).critical_path == longest);
  });
}

TEST(SimulatePipelineProperty, LongerActionsAndMessagesNeverShortenTheStep) {
  check_cases(300, [] {
    PipelineCase pipeline = random_pipeline();
    pipeline.input.overlap_sends = *testing::between(0, 2) == 0;
    const Seconds before = simulate_pipeline(pipeline.with_schedule()).seconds;
    StageWork& work = pipeline.work(*testing::between(0, pipeline.schedule.num_stages),
                                    *testing::between(0, pipeline.schedule.num_micro_batches));
    Seconds StageWork::*const parts[] = {&StageWork::forward, &StageWork::backward,
                                         &StageWork::backward_input, &StageWork::backward_weight,
                                         &StageWork::send};
    work.*parts[*testing::between(0, 5)] += *testing::between(1, 50);
    RC_ASSERT(simulate_pipeline(pipeline.with_schedule()).seconds >= before);
  });
}

TEST(SimulatePipelineProperty, TimeScalesWithAllTimes) {
  check_cases(100, [] {
    PipelineCase pipeline = random_pipeline();
    const PipelineResult once = simulate_pipeline(pipeline.with_schedule());
    for (StageWork& work : pipeline.input.work) {
      work.forward *= 4;
      work.backward *= 4;
      work.backward_input *= 4;
      work.backward_weight *= 4;
      work.send *= 4;
    }
    for (LinkCost& link : pipeline.input.links) link.latency *= 4;
    for (Seconds& start : pipeline.input.earliest_start) start *= 4;
    const PipelineResult four = simulate_pipeline(pipeline.with_schedule());
    RC_ASSERT(four.seconds == 4 * once.seconds);
    RC_ASSERT(four.critical_path == 4 * once.critical_path);
    RC_ASSERT(four.peak_bytes == once.peak_bytes);
  });
}

TEST(SimulatePipelineProperty, PeakIsTheMostHeldAtAnyTime) {
  check_cases(300, [] {
    PipelineCase pipeline = random_pipeline();
    const PipelineResult result = simulate_pipeline(pipeline.with_schedule());
    for (std::size_t rank = 0; rank < result.ranks.size(); ++rank) {
      // Held at the start of each action, summed anew from the intervals of all micro-batches.
      Bytes peak = pipeline.input.static_bytes[rank];
      std::size_t peak_action = 0;
      for (std::size_t i = 0; i < result.ranks[rank].size(); ++i) {
        const ActionTimes& now = result.ranks[rank][i];
        Bytes held = pipeline.input.static_bytes[rank];
        for (const ActionTimes& f : result.ranks[rank]) {
          if (f.action.kind != kF || f.start > now.start) continue;
          for (const ActionTimes& b : result.ranks[rank]) {
            if (b.action.kind != kB && b.action.kind != kW) continue;
            if (b.action.stage == f.action.stage && b.action.micro_batch == f.action.micro_batch &&
                b.end > now.start) {
              held += pipeline.work(f.action.stage, f.action.micro_batch).saved;
            }
          }
        }
        const StageWork& work = pipeline.work(now.action.stage, now.action.micro_batch);
        held += now.action.kind == kF ? work.forward_workspace : work.backward_workspace;
        if (held > peak) {
          peak = held;
          peak_action = i;
        }
      }
      RC_ASSERT(result.peak_bytes[rank] == peak);
      RC_ASSERT(result.peak_action[rank] == peak_action);
    }
  });
}

}  // namespace
}  // namespace gimbal
