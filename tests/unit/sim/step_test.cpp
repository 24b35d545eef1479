#include "gimbal/sim/step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "balance/check_cases.h"
#include "gimbal/base/error.h"
#include "gimbal/sim/rank_state.h"
#include "sim/sim_models.h"

namespace gimbal {
namespace {

using testing::between;
using testing::even_layout;
using testing::settings_for;
using testing::small_model;
using testing::small_profile;
using testing::work_of;

constexpr double kRounding = 1e-12;  // relative: a thousand additions of doubles

Seconds sum_of(const StepTime& time) {
  return time.compute + time.recompute + time.communication + time.bubble + time.imbalance;
}

/// A model of `layers` equal text layers and nothing else.
ModelDesc layers_only(int layers) {
  ModelDesc model = small_model(0, layers);
  model.blocks.erase(model.blocks.begin(), model.blocks.begin() + 3);
  model.blocks.resize(static_cast<std::size_t>(layers));
  return model;
}

Seconds optimizer_of(const CostModel& costs, std::size_t begin, std::size_t end) {
  Seconds sum = 0;
  for (std::size_t b = begin; b < end; ++b) sum += costs.optimizer_seconds(b);
  return sum;
}

TEST(SimulateStep, OfOneDeviceIsTheSumOfItsBlocks) {
  const CostModel costs(small_model(), small_profile(), settings_for({}));
  const StageLayout layout = even_layout(costs.num_blocks(), 1, Recompute::kAttention);
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 1, 1, 3});
  const std::vector<WorkSize> work = {work_of(2, 100), work_of(0, 900), work_of(7, 300)};
  Seconds compute = 0, recompute = 0;
  for (const WorkSize& w : work) {
    for (std::size_t b = 0; b < costs.num_blocks(); ++b) {
      compute += costs.forward(b, w) + costs.backward(b, w);
      recompute += costs.recompute(b, w, Recompute::kAttention);
    }
  }
  compute += optimizer_of(costs, 0, costs.num_blocks()) + 0.01;
  const StepSimulation step = simulate_step({&costs, &layout, &schedule, work});
  EXPECT_NEAR(step.time.seconds, compute + recompute, kRounding);
  EXPECT_NEAR(step.time.compute, compute, kRounding);
  EXPECT_NEAR(step.time.recompute, recompute, kRounding);
  EXPECT_NEAR(step.time.communication, 0, kRounding);
  EXPECT_NEAR(step.time.bubble, 0, kRounding);
  EXPECT_NEAR(step.time.imbalance, 0, kRounding);
  EXPECT_TRUE(step.pipelines.empty());
}

TEST(SimulateStep, OfEqualStagesHasTheBubbleOfItsSchedule) {
  const int p = 4, m = 8;
  const CostModel costs(layers_only(p), small_profile(), settings_for({}));  // pp 1: no messages
  const StageLayout layout = even_layout(costs.num_blocks(), p);
  const std::vector<WorkSize> work(m, work_of(0, 500));
  const Seconds forward = costs.forward(0, work[0]);
  const Seconds input = costs.backward_input(0, work[0]);
  const Seconds weight = costs.backward_weight(0, work[0]);
  const Seconds update = costs.optimizer_seconds(0) + 0.01;

  Schedule schedule = make_schedule({PipelineKind::kOneFOneB, p, 1, m});
  StepSimulation step = simulate_step({&costs, &layout, &schedule, work});
  EXPECT_NEAR(step.time.bubble, (p - 1) * (forward + input + weight), kRounding);
  EXPECT_NEAR(step.time.compute, m * (forward + input + weight) + update, kRounding);
  EXPECT_NEAR(step.time.imbalance, 0, kRounding);
  EXPECT_NEAR(step.time.seconds, step.time.bubble + step.time.compute, kRounding);
  for (const Seconds seconds : step.stage_seconds) {
    EXPECT_NEAR(seconds, forward + input + weight, kRounding);
  }

  schedule = make_schedule({PipelineKind::kZeroBubble, p, 1, m});
  const StepSimulation split = simulate_step({&costs, &layout, &schedule, work});
  EXPECT_NEAR(split.time.compute, step.time.compute, kRounding);
  EXPECT_LT(split.time.bubble, 0.6 * step.time.bubble);
  EXPECT_NEAR(sum_of(split.time), split.time.seconds, kRounding);
}

TEST(SimulateStep, MessagesCountAsCommunicationNotAsBubble) {
  const int p = 4, m = 8;
  const CostModel with(layers_only(p), small_profile(), settings_for({.pp = p}));
  const CostModel without(layers_only(p), small_profile(), settings_for({}));
  const StageLayout layout = even_layout(with.num_blocks(), p);
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, p, 1, m});
  const std::vector<WorkSize> work(m, work_of(0, 500));
  const StepTime slow = simulate_step({&with, &layout, &schedule, work}).time;
  const StepTime fast = simulate_step({&without, &layout, &schedule, work}).time;
  EXPECT_NEAR(slow.bubble, fast.bubble, kRounding);
  EXPECT_NEAR(slow.communication, slow.seconds - fast.seconds, kRounding);
  // The first micro-batch goes to the end and back before any rank is done.
  const Seconds message = with.send_seconds(with.cut_bytes(0, work[0]));
  EXPECT_GE(slow.communication, 2 * (p - 1) * message - kRounding);
}

TEST(SimulateStep, UnlikeRanksAreImbalance) {
  const CostModel costs(small_model(), small_profile(), settings_for({}));
  const StageLayout layout = even_layout(costs.num_blocks(), 1);
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 1, 1, 2});
  const std::vector<WorkSize> work = {work_of(1, 100), work_of(1, 200), work_of(9, 900),
                                      work_of(9, 800), work_of(3, 300), work_of(3, 400)};
  const std::span<const WorkSize> all = work;
  Seconds slowest = 0, sum = 0;
  for (std::size_t d = 0; d < 3; ++d) {
    const Seconds alone =
        simulate_step({&costs, &layout, &schedule, all.subspan(2 * d, 2)}).time.seconds;
    slowest = std::max(slowest, alone);
    sum += alone;
  }
  const StepTime time = simulate_step({&costs, &layout, &schedule, all}).time;
  EXPECT_NEAR(time.seconds, slowest, kRounding);
  EXPECT_NEAR(time.imbalance, slowest - sum / 3, kRounding);
}

/// Two replicas of one stage: blocks are reduced from last to first, each when the slower replica
/// has passed it in the step's last backward.
TEST(SimulateStep, ReducesGradientsBlockByBlockBesideTheLastBackward) {
  const CostModel costs(small_model(2, 3), small_profile(), settings_for({.dp_replicate = 2}));
  const StageLayout layout = even_layout(costs.num_blocks(), 1);
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 1, 1, 2});
  const std::vector<WorkSize> work = {work_of(1, 100), work_of(1, 100), work_of(5, 900),
                                      work_of(5, 900)};
  const WorkSize mean = work_of(3, 500);
  Seconds mean_backward = 0, start = 0, backward = 0;  // of the slower replica
  for (std::size_t b = 0; b < costs.num_blocks(); ++b) {
    mean_backward += costs.backward(b, mean);
    start += 2 * costs.forward(b, work[2]) + costs.backward(b, work[2]);
    backward += costs.backward(b, work[3]);
  }
  Seconds clock = 0, passed = 0;
  for (std::size_t b = costs.num_blocks(); b-- > 0;) {
    passed += costs.backward(b, mean);
    clock = std::max(clock, start + backward * passed / mean_backward) + costs.reduce_seconds(b);
  }
  ASSERT_GT(clock, start + backward);
  const StepTime time = simulate_step({&costs, &layout, &schedule, work}).time;
  const Seconds update = optimizer_of(costs, 0, costs.num_blocks()) + 0.01;
  EXPECT_NEAR(time.seconds, clock + update, kRounding);
  EXPECT_NEAR(time.communication, clock - start - backward, kRounding);
}

/// ZeRO-2: the first forward can end when the last blocks are gathered and computed.
TEST(SimulateStep, GathersKeptWeightsOnceBesideTheFirstForward) {
  const CostModel costs(small_model(2, 3), small_profile(), settings_for({.pp = 2, .dp_shard = 2}));
  const StageLayout layout = even_layout(costs.num_blocks(), 2);
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 2, 1, 4});
  const std::vector<WorkSize> work(8, work_of(1, 30));
  StepInput input{&costs, &layout, &schedule, work};
  input.keep_pipelines = true;
  const StepSimulation step = simulate_step(input);
  ASSERT_EQ(step.pipelines.size(), 2U);
  for (const PipelineResult& pipeline : step.pipelines) {
    Seconds gathered = 0, done = 0;
    for (std::size_t b = 0; b < layout.stage_begin[1]; ++b) {
      gathered += costs.gather_seconds(b);
      done = std::max(done, gathered) + costs.forward(b, work[0]);
    }
    EXPECT_NEAR(pipeline.ranks[0][0].end, done, kRounding);
    EXPECT_GT(pipeline.ranks[0][0].start, 0);
    EXPECT_NEAR(pipeline.ranks[0][1].start, done, kRounding);
  }
  EXPECT_NEAR(sum_of(step.time), step.time.seconds, kRounding);
  EXPECT_GT(step.time.communication, 0);
}

TEST(SimulateStep, PeakIsStateMessagesAndWhatIsInFlight) {
  const int p = 2, v = 2, m = 4;
  for (const ShardPolicy policy : {ShardPolicy::kReshard, ShardPolicy::kKeepWeights}) {
    const CostModel costs(small_model(), small_profile(),
                          settings_for({.pp = p, .dp_shard = 2}, policy));
    const StageLayout layout = even_layout(costs.num_blocks(), p * v, Recompute::kMlp);
    const Schedule schedule = make_schedule({PipelineKind::kInterleaved, p, v, m});
    std::vector<WorkSize> work(2 * m, work_of(2, 200));
    work.back() = work_of(4, 100);
    StepInput input{&costs, &layout, &schedule, work};
    input.keep_pipelines = true;
    const StepSimulation step = simulate_step(input);
    for (std::size_t rank = 0; rank < 2; ++rank) {
      std::vector<BlockSpan> spans;
      Bytes before = 0, after = 0;
      for (std::size_t stage = rank; stage < 4; stage += 2) {
        spans.push_back({layout.stage_begin[stage], layout.stage_begin[stage + 1]});
        const auto message = [&](std::size_t cut) {
          return std::max(costs.cut_bytes(layout.stage_begin[cut] - 1, work.front()),
                          costs.cut_bytes(layout.stage_begin[cut] - 1, work.back()));
        };
        if (stage > 0) before = std::max(before, message(stage));
        if (stage < 3) after = std::max(after, message(stage + 1));
      }
      EXPECT_GT(before, 0);
      const Bytes fixed = rank_state(costs, spans, m).total() + 3 * std::max(before, after);
      // Follow each kept pipeline by its order.
      Bytes peak = 0;
      for (std::size_t d = 0; d < 2; ++d) {
        Bytes held = fixed, pipeline_peak = 0;
        for (const ActionTimes& a : step.pipelines[d].ranks[rank]) {
          const bool forward = a.action.kind == ActionKind::kForward;
          const StageWork w =
              stage_work(costs, layout, static_cast<std::size_t>(a.action.stage),
                         work[d * m + static_cast<std::size_t>(a.action.micro_batch)]);
          if (forward) held += w.saved;
          pipeline_peak = std::max(pipeline_peak,
                                   held + (forward ? w.forward_workspace : w.backward_workspace));
          if (!forward) held -= w.saved;
        }
        EXPECT_NEAR(step.pipelines[d].peak_bytes[rank], pipeline_peak, 1e-6);
        peak = std::max(peak, pipeline_peak);
      }
      EXPECT_NEAR(step.peak_bytes[rank], peak, 1e-6);
    }
  }
}

TEST(SimulateStep, IsAnInternalErrorForInputThatDoesNotFit) {
  const CostModel costs(small_model(), small_profile(), settings_for({}));
  const StageLayout layout = even_layout(costs.num_blocks(), 2);
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 2, 1, 2});
  const std::vector<WorkSize> work(3, work_of(1, 10));
  EXPECT_THROW(simulate_step({&costs, &layout, &schedule, work}), InternalError);
  EXPECT_THROW(simulate_step({&costs, &layout, &schedule, {}}), InternalError);
  const Schedule deeper = make_schedule({PipelineKind::kOneFOneB, 3, 1, 3});
  EXPECT_THROW(simulate_step({&costs, &layout, &deeper, work}), InternalError);
}

struct RandomStep {
  ModelDesc model = small_model(*between(0, 4), *between(1, 6));
  MeshShape mesh;
  ShardPolicy policy = *between(0, 2) == 0 ? ShardPolicy::kReshard : ShardPolicy::kKeepWeights;
  Schedule schedule;
  StageLayout layout;
  std::vector<WorkSize> work;

  RandomStep() {
    mesh.pp = *between(1, 4);
    mesh.tp = *between(1, 3);
    mesh.dp_shard = *between(1, 4);
    mesh.dp_replicate = *between(1, 3);
    ScheduleShape shape;
    shape.kind = static_cast<PipelineKind>(*between(0, 4));
    if (mesh.pp == 1) shape.kind = PipelineKind::kOneFOneB;
    shape.ranks = mesh.pp;
    shape.micro_batches = mesh.pp * *between(1, 4);
    if (shape.kind == PipelineKind::kInterleaved) {
      shape.stages_per_rank = 2;
      model = small_model(*between(2, 4), *between(2, 6));
    }
    schedule = make_schedule(shape);
    const std::size_t blocks = model.blocks.size();
    layout.stage_begin.push_back(0);
    for (std::size_t s = 1; s < static_cast<std::size_t>(schedule.num_stages); ++s) {
      const std::size_t first = layout.stage_begin.back() + 1;
      const std::size_t left = static_cast<std::size_t>(schedule.num_stages) - s;
      layout.stage_begin.push_back(*between(first, blocks - left + 1));
    }
    layout.stage_begin.push_back(blocks);
    for (std::size_t b = 0; b < blocks; ++b) {
      layout.recompute.push_back(static_cast<Recompute>(*between(0, 4)));
    }
    for (int i = 0; i < shape.micro_batches * mesh.data_parallel(); ++i) {
      work.push_back(work_of(*between(0, 12), *between(1, 2000)));
    }
  }
};

TEST(SimulateStepProperty, PartsAddUpAndNoneIsNegative) {
  testing::check_cases(300, [] {
    const RandomStep random;
    const CostModel costs(random.model, small_profile(), settings_for(random.mesh, random.policy));
    const StepTime time =
        simulate_step({&costs, &random.layout, &random.schedule, random.work}).time;
    RC_ASSERT(std::abs(sum_of(time) - time.seconds) <= kRounding * time.seconds);
    for (const Seconds part :
         {time.compute, time.recompute, time.communication, time.bubble, time.imbalance}) {
      RC_ASSERT(part >= 0);
    }
  });
}

/// The fast path and simulate_pipeline with stage_work agree; the step ends after each pipeline.
TEST(SimulateStepProperty, IsMadeOfThePipelinesOfItsRanks) {
  testing::check_cases(100, [] {
    const RandomStep random;
    const CostModel costs(random.model, small_profile(), settings_for(random.mesh, random.policy));
    StepInput input{&costs, &random.layout, &random.schedule, random.work};
    const StepSimulation fast = simulate_step(input);
    input.keep_pipelines = true;
    const StepSimulation full = simulate_step(input);
    RC_ASSERT(fast.time.seconds == full.time.seconds);
    RC_ASSERT(fast.time.imbalance == full.time.imbalance);
    RC_ASSERT(fast.peak_bytes == full.peak_bytes);
    RC_ASSERT(full.pipelines.size() == static_cast<std::size_t>(random.mesh.data_parallel()));
    const std::size_t m = static_cast<std::size_t>(random.schedule.num_micro_batches);
    std::vector<Bytes> peak(full.peak_bytes.size(), 0);
    for (std::size_t d = 0; d < full.pipelines.size(); ++d) {
      const PipelineResult& kept = full.pipelines[d];
      for (std::size_t r = 0; r < peak.size(); ++r) {
        peak[r] = std::max(peak[r], kept.peak_bytes[r]);
      }
      RC_ASSERT(kept.seconds < full.time.seconds);
      RC_ASSERT(kept.seconds >= kept.critical_path * (1 - kRounding));
      if (random.policy == ShardPolicy::kKeepWeights && random.mesh.dp_shard > 1) continue;
      PipelineInput pipeline;
      pipeline.schedule = &random.schedule;
      for (std::size_t s = 0; s < random.layout.num_stages(); ++s) {
        if (s > 0) pipeline.links.push_back(costs.pipeline_link());
        for (std::size_t i = 0; i < m; ++i) {
          pipeline.work.push_back(stage_work(costs, random.layout, s, random.work[d * m + i]));
        }
      }
      pipeline.static_bytes.assign(peak.size(), 0);
      const PipelineResult alone = simulate_pipeline(pipeline);
      RC_ASSERT(std::abs(alone.seconds - kept.seconds) <= kRounding * kept.seconds);
    }
    RC_ASSERT(peak == full.peak_bytes);
  });
}

TEST(SimulateStep, ReducesShardedGradientsInEachBackwardAndNotAgain) {
  const CostModel costs(small_model(0, 4), small_profile(),
                        settings_for({.dp_shard = 2}, ShardPolicy::kReshard));
  const StageLayout layout = even_layout(costs.num_blocks(), 1);
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 1, 1, 1});
  const std::vector<WorkSize> work(2, work_of(0, 50));
  const StageWork stage = stage_work(costs, layout, 0, work[0]);
  Seconds update = costs.profile().step_overhead;
  for (std::size_t b = 0; b < costs.num_blocks(); ++b) update += costs.optimizer_seconds(b);
  StepInput input;
  input.costs = &costs;
  input.layout = &layout;
  input.schedule = &schedule;
  input.micro_batches = work;
  EXPECT_NEAR(simulate_step(input).time.seconds, stage.forward + stage.backward + update, 1e-12);
}

TEST(SimulateStepProperty, MoreWorkNeverShortensTheStep) {
  testing::check_cases(100, [] {
    RandomStep random;
    // The shares of a last backward follow the mean micro-batch; without reductions all else grows.
    random.mesh.dp_replicate = random.mesh.dp_shard = 1;
    const CostModel costs(random.model, small_profile(), settings_for(random.mesh, random.policy));
    const Seconds before =
        simulate_step({&costs, &random.layout, &random.schedule, random.work}).time.seconds;
    WorkSize& more = random.work[*between<std::size_t>(0, random.work.size())];
    more = more + work_of(*between(0, 5), *between(1, 500));
    const Seconds after =
        simulate_step({&costs, &random.layout, &random.schedule, random.work}).time.seconds;
    RC_ASSERT(after >= before * (1 - kRounding));
  });
}

}  // namespace
}  // namespace gimbal
