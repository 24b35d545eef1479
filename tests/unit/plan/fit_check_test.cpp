#include "gimbal/plan/fit_check.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "gimbal/base/byte_text.h"
#include "gimbal/plan/search/cap_candidates.h"
#include "gimbal/plan/search/evaluator.h"
#include "gimbal/plan/text/figures.h"
#include "unit/plan/plan_cases.h"

namespace gimbal {
namespace {

// A plan of four stages on four devices with every fourth block recomputed.
struct FitCase {
  explicit FitCase(PipelineKind kind, std::size_t samples = 300) : input(testing::small_input(4)) {
    input.samples = testing::random_samples(samples);
    plan.mesh.pp = 4;
    plan.schedule = {kind, 4, kind == PipelineKind::kInterleaved ? 2 : 1, 8};
    plan.micro_batches = 8;
    plan.packs_per_step = 8;
    plan.streams = {"text", "vision"};
    plan.caps = {4096, 16};
    const std::size_t blocks = input.model.blocks.size();
    const std::size_t stages = 4 * static_cast<std::size_t>(plan.schedule.stages_per_rank);
    for (std::size_t s = 0; s <= stages; ++s)
      plan.layout.stage_begin.push_back(s * blocks / stages);
    for (std::size_t i = 0; i < blocks; ++i) {
      plan.layout.recompute.push_back(i % 4 == 0 ? Recompute::kFull : Recompute::kKeep);
    }
    for (const BlockDesc& block : input.model.blocks) plan.blocks.push_back(block.name);
    PackCaps caps;
    caps.rows = plan.caps;
    packed = *pack_all(input, caps, plan.packs_per_step);
  }

  FitCheck check(Bytes capacity) {
    plan.prediction.capacity_bytes = capacity;
    Evaluator evaluator(input);
    return check_fit(evaluator.costs(plan.mesh, plan.shard_policy), plan, packed, input.samples);
  }

  // What the planner counts with for stage `stage` when all packs are like `work`.
  Bytes counted(std::size_t stage, const WorkSize& work) {
    Evaluator evaluator(input);
    CutProblem problem =
        evaluator.cut_problem({plan.mesh, plan.shard_policy, plan.schedule, 8}, packed);
    problem.largest = work;
    return stage_bytes(problem, plan.layout, stage);
  }

  PlanInput input;
  Plan plan;
  PackedWork packed;
};

TEST(FitCheck, AgreesWithThePlannersMemory) {
  for (const PipelineKind kind :
       {PipelineKind::kGpipe, PipelineKind::kOneFOneB, PipelineKind::kZeroBubble}) {
    FitCase own(kind);
    Bytes peak = 0;
    std::size_t pack = 0, stage = 0;
    for (std::size_t p = 0; p < own.packed.packs.size(); ++p) {
      for (std::size_t s = 0; s < 4; ++s) {
        const Bytes bytes = own.counted(s, own.packed.packs[p]);
        if (bytes > peak) peak = bytes, pack = p, stage = s;
      }
    }
    const FitCheck check = own.check(2 * peak);
    EXPECT_TRUE(check.fits);
    EXPECT_NEAR(check.peak_bytes, peak, 1e-9 * peak);
    EXPECT_EQ(check.worst_pack, pack);
    EXPECT_EQ(check.worst_stage, stage);
    EXPECT_EQ(check.worst_rank, stage);
    EXPECT_EQ(check.worst_samples, own.packed.samples[pack]);
    EXPECT_TRUE(check.misfits.empty());
    EXPECT_EQ(check.num_packs_over, 0U);
  }
}

TEST(FitCheck, PartsAddUpToThePeak) {
  FitCase own(PipelineKind::kOneFOneB);
  const FitCheck check = own.check(1e12);
  Bytes sum = 0;
  for (const FitCheck::Part& part : check.parts) {
    EXPECT_GT(part.bytes, 0) << part.name;
    sum += part.bytes;
  }
  EXPECT_NEAR(sum, check.peak_bytes, 1e-9 * sum);
  EXPECT_GE(check.parts.size(), 4U);
}

TEST(FitCheck, StagesOfARankShareItsMemory) {
  FitCase own(PipelineKind::kInterleaved);
  const FitCheck check = own.check(1e12);
  const WorkSize& work = own.packed.packs[check.worst_pack];
  const Bytes first = own.counted(check.worst_rank, work);
  const Bytes second = own.counted(check.worst_rank + 4, work);
  // More than one of its stages; less than both with the most in flight and both workspaces.
  EXPECT_GT(check.peak_bytes, std::max(first, second));
  EXPECT_LE(check.peak_bytes, first + second);
}

TEST(FitCheck, CountsPacksAndSamplesThatDoNotFit) {
  FitCase own(PipelineKind::kOneFOneB);
  std::vector<Bytes> peaks;
  for (const WorkSize& work : own.packed.packs) {
    Bytes peak = 0;
    for (std::size_t s = 0; s < 4; ++s) peak = std::max(peak, own.counted(s, work));
    peaks.push_back(peak);
  }
  std::sort(peaks.begin(), peaks.end());
  // Between two packs near the middle that are unlike.
  std::size_t fitting = peaks.size() / 2;
  while (peaks[fitting] - peaks[fitting - 1] < 1e-6 * peaks[fitting]) ++fitting;
  const Bytes capacity = 0.5 * (peaks[fitting - 1] + peaks[fitting]);
  const FitCheck check = own.check(capacity);
  EXPECT_FALSE(check.fits);
  EXPECT_EQ(check.num_packs_over, peaks.size() - fitting);
  EXPECT_TRUE(check.misfits.empty());  // each alone is smaller than half of the packs
  EXPECT_NE(fit_text(check, own.input.samples).find("Every sample fits alone"), std::string::npos);
}

TEST(FitCheck, NamesSamplesThatFitInNoPack) {
  FitCase own(PipelineKind::kOneFOneB, 40);
  own.input.samples.text_rows[17] = 4000;
  own.input.samples.describe = [](std::uint32_t sample) {
    return "a.csv line " + std::to_string(sample + 2);
  };
  PackCaps caps;
  caps.rows = own.plan.caps;
  own.packed = *pack_all(own.input, caps, 8);
  Bytes alone = 0, others = 0;
  for (std::size_t i = 0; i < own.input.samples.size(); ++i) {
    const WorkSize work = sample_work(own.input.samples, i, own.input.model);
    for (std::size_t s = 0; s < 4; ++s) {
      Bytes& most = i == 17 ? alone : others;
      most = std::max(most, own.counted(s, work));
    }
  }
  ASSERT_GT(alone, others);
  const FitCheck check = own.check(0.5 * (alone + others));
  ASSERT_EQ(check.misfits.size(), 1U);
  EXPECT_EQ(check.misfits[0].sample, 17U);
  EXPECT_NEAR(check.misfits[0].bytes, alone, 1e-9 * alone);
  const std::string text = fit_text(check, own.input.samples);
  EXPECT_NE(text.find("1 sample does not fit even alone in a pack"), std::string::npos) << text;
  EXPECT_NE(text.find("a.csv line 19: "), std::string::npos) << text;
  EXPECT_NE(text.find("its 4,000 text rows"), std::string::npos) << text;
}

TEST(FitCheck, SaysWhenTheModelAloneIsTooLarge) {
  FitCase own(PipelineKind::kOneFOneB, 12);
  const FitCheck check = own.check(1e6);
  EXPECT_EQ(check.misfits.size(), 12U);
  const std::string text = fit_text(check, own.input.samples);
  EXPECT_NE(text.find("the state of the model alone does not fit"), std::string::npos) << text;
  EXPECT_NE(text.find("and 2 more"), std::string::npos) << text;
}

TEST(FitCheck, OfAFoundPlanFits) {
  PlanInput input = testing::small_input(4);
  input.samples = testing::random_samples(500);
  input.samples_per_step = 64;
  const PlanResult result = make_plan(input);
  const FitCheck check = check_plan_fit(input, result.best);
  EXPECT_TRUE(check.fits);
  EXPECT_EQ(check.capacity_bytes, result.best.prediction.capacity_bytes);
  const Bytes simulated = *std::max_element(result.best.prediction.peak_bytes.begin(),
                                            result.best.prediction.peak_bytes.end());
  EXPECT_GE(check.peak_bytes, simulated * (1 - 1e-9));
  EXPECT_GE(check.full_peak_bytes, check.peak_bytes);
}

// One rule for what fits: that of the planner's cuts, for packs as full as the caps.
TEST(FullPeaks, AreWhatThePlannerCounts) {
  FitCase own(PipelineKind::kOneFOneB);
  const Bytes reserved = own.input.profile.reserved_bytes;
  Bytes most = 0;
  std::size_t rank = 0;
  for (std::size_t s = 0; s < 4; ++s) {
    const Bytes bytes = own.counted(s, own.packed.largest);
    if (bytes > most) most = bytes, rank = s;
  }
  own.input.memory_bytes = reserved + 1.001 * most;
  const FullPeak roomy = full_peaks(own.input, {own.plan}).front();
  EXPECT_NEAR(roomy.bytes, most, 1e-9 * most);
  EXPECT_EQ(roomy.rank, rank);
  EXPECT_TRUE(roomy.fits);
  own.input.memory_bytes = reserved + 0.999 * most;
  EXPECT_FALSE(full_peaks(own.input, {own.plan}).front().fits);
}

TEST(FullPeaks, DecideWherePacksOfTheEpochAreLessFull) {
  FitCase own(PipelineKind::kOneFOneB);
  own.packed.largest = 2 * own.packed.largest;
  const FitCheck roomy = own.check(1e12);
  ASSERT_TRUE(roomy.fits);
  ASSERT_GT(roomy.full_peak_bytes, roomy.peak_bytes);
  const FitCheck check = own.check(0.5 * (roomy.peak_bytes + roomy.full_peak_bytes));
  EXPECT_FALSE(check.fits);
  EXPECT_EQ(check.num_packs_over, 0U);
  const std::string text = fit_text(check, own.input.samples);
  EXPECT_NE(text.find("It does not fit: packs as full as the caps allow"), std::string::npos);
  EXPECT_NE(text.find(bytes_text(check.full_peak_bytes)), std::string::npos) << text;
}

}  // namespace
}  // namespace gimbal
