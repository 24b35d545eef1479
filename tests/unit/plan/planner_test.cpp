#include "gimbal/plan/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/plan/search/evaluator.h"
#include "gimbal/plan/search/predict.h"
#include "unit/plan/plan_cases.h"

namespace gimbal {
namespace {

std::string error_of(const PlanInput& input) {
  try {
    make_plan(input);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

void expect_sound(const Plan& plan, const PlanInput& input) {
  verify_plan(plan, input);
  const Prediction& p = plan.prediction;
  EXPECT_GT(p.step.seconds, 0);
  EXPECT_GE(p.step.seconds, p.bound.seconds() * (1 - 1e-9));
  EXPECT_NEAR(
      p.step.compute + p.step.recompute + p.step.communication + p.step.bubble + p.step.imbalance,
      p.step.seconds, 1e-9 * p.step.seconds);
  for (const Bytes peak : p.peak_bytes) EXPECT_LE(peak, p.capacity_bytes);
  EXPECT_GT(p.utilisation, 0);
  EXPECT_LT(p.utilisation, 1);
}

TEST(Planner, PlansForAnyNumberOfDevices) {
  for (const int devices : {1, 2, 6, 8, 32}) {
    const PlanInput input = testing::small_input(devices);
    const PlanResult result = make_plan(input);
    expect_sound(result.best, input);
    EXPECT_LE(result.bound_per_sample,
              result.best.prediction.step.seconds / result.best.prediction.samples_per_step);
    EXPECT_EQ(result.passes.size(), pass_names().size());
  }
}

TEST(Planner, IsAPureFunctionOfItsInput) {
  const PlanInput input = testing::small_input(16);
  const Plan a = make_plan(input).best, b = make_plan(input).best;
  EXPECT_EQ(a.mesh, b.mesh);
  EXPECT_EQ(a.layout.stage_begin, b.layout.stage_begin);
  EXPECT_EQ(a.layout.recompute, b.layout.recompute);
  EXPECT_EQ(a.prediction.step.seconds, b.prediction.step.seconds);
}

TEST(Planner, GivesTopPlansBestFirstWithoutRepetition) {
  PlanInput input = testing::small_input(32);
  input.num_top = 5;
  const PlanResult result = make_plan(input);
  ASSERT_EQ(result.top.size(), 5U);
  EXPECT_EQ(result.top[0].mesh, result.best.mesh);
  for (std::size_t i = 0; i < result.top.size(); ++i) {
    expect_sound(result.top[i], input);
    for (std::size_t j = 0; j < i; ++j) {
      const Plan &a = result.top[i], &b = result.top[j];
      EXPECT_FALSE(a.mesh == b.mesh && a.caps == b.caps && a.shard_policy == b.shard_policy &&
                   a.schedule.kind == b.schedule.kind);
    }
  }
}

TEST(Planner, EachPassHelpsOrDoesNoHarm) {
  PlanInput input = testing::small_input(16);
  input.pp = 4;
  input.tp = 2;
  const auto per_sample = [](const Plan& plan) {
    return plan.prediction.step.seconds / plan.prediction.samples_per_step;
  };
  const double best = per_sample(make_plan(input).best);
  for (const std::string& name : pass_names()) {
    PlanInput without = input;
    without.without = {name};
    const PlanResult result = make_plan(without);
    // Search compares estimates of few samples: the real packs may differ by a little.
    EXPECT_GE(per_sample(result.best), best * 0.99) << name;
    for (const PassReport& report : result.passes) {
      EXPECT_EQ(report.enabled, report.name != name);
      EXPECT_FALSE(report.result.empty());
    }
  }
  PlanInput without = input;
  without.without = {"recompute"};
  const Plan full = make_plan(without).best;
  EXPECT_EQ(
      std::count(full.layout.recompute.begin(), full.layout.recompute.end(), Recompute::kAttention),
      0);
  EXPECT_GT(full.prediction.step.recompute, 0);
}

TEST(Planner, KeepsToAGivenPolicyForWeights) {
  PlanInput input = testing::small_input(4);
  input.dp_shard = 4;
  for (const ShardPolicy policy : {ShardPolicy::kKeepWeights, ShardPolicy::kReshard}) {
    input.shard_policy = policy;
    for (const Plan& plan : make_plan(input).top) EXPECT_EQ(plan.shard_policy, policy);
  }
  // Whole weights are neither kept nor gathered again.
  input.dp_shard = 1;
  EXPECT_EQ(make_plan(input).best.mesh.dp_shard, 1);
}

TEST(Planner, OneStageOfARankIsNeverInterleaved) {
  PlanInput input = testing::small_input(4);
  input.pp = 4;
  input.num_top = 20;
  const auto interleaved = [&] {
    return std::ranges::any_of(make_plan(input).top, [](const Plan& plan) {
      return plan.schedule.kind == PipelineKind::kInterleaved;
    });
  };
  EXPECT_TRUE(interleaved());
  input.stages_per_rank = 1;
  EXPECT_FALSE(interleaved());
}

TEST(Planner, RecomputesOnlyWhenMemoryIsShort) {
  PlanInput input = testing::small_input(8);
  input.pp = 2;
  input.tp = 1;
  input.caps = {{8192, 24}};
  const Plan roomy = make_plan(input).best;
  EXPECT_EQ(roomy.prediction.step.recompute, 0);
  const Bytes reserved = input.profile.reserved_bytes;
  const Bytes peak =
      *std::max_element(roomy.prediction.peak_bytes.begin(), roomy.prediction.peak_bytes.end());
  input.memory_bytes = reserved + 0.8 * peak;
  const Plan tight = make_plan(input).best;
  expect_sound(tight, input);
  EXPECT_LE(tight.prediction.capacity_bytes, 0.8 * peak * (1 + 1e-12));
  EXPECT_GE(tight.prediction.step.seconds, roomy.prediction.step.seconds * (1 - 1e-9));
}

TEST(Planner, SaysTheLeastMemoryThatWouldDo) {
  PlanInput input = testing::small_input(2);
  input.memory_bytes = input.profile.reserved_bytes + 4e9;
  const std::string error = error_of(input);
  ASSERT_NE(error.find("needs at least "), std::string::npos) << error;
  const double least = std::stod(error.substr(error.find("at least ") + 9));
  // That much does, and a little less does not.
  constexpr double kGibi = 1 << 30;
  input.memory_bytes = least * kGibi;
  expect_sound(make_plan(input).best, input);
  input.memory_bytes = (least - 0.05) * kGibi;
  EXPECT_NE(error_of(input), "");
}

TEST(Planner, ComparesAllMethodsInTheSameSimulator) {
  PlanInput input = testing::small_input(16);
  input.pp = 4;
  const Plan best = make_plan(input).best;
  const std::vector<Plan> plans = compare_methods(input, best);
  ASSERT_GE(plans.size(), 8U);
  EXPECT_EQ(plans[0].prediction.step.seconds, best.prediction.step.seconds);
  for (const Plan& plan : plans) {
    EXPECT_EQ(plan.mesh, best.mesh);
    const bool fits =
        std::all_of(plan.prediction.peak_bytes.begin(), plan.prediction.peak_bytes.end(),
                    [&](Bytes b) { return b <= plan.prediction.capacity_bytes; });
    if (fits) {
      EXPECT_GE(plan.prediction.step.seconds, best.prediction.step.seconds * (1 - 1e-9))
          << plan.method;
    }
  }
}

TEST(Planner, PredictsAGivenPlanAsItDidWhenMakingIt) {
  PlanInput input = testing::small_input(8);
  const Plan best = make_plan(input).best;
  const Prediction again = predict_plan(input, best);
  EXPECT_EQ(again.step.seconds, best.prediction.step.seconds);
  EXPECT_EQ(again.peak_bytes, best.prediction.peak_bytes);
}

TEST(Planner, RefusesWhatCannotWork) {
  PlanInput input = testing::small_input(8);
  input.without = {"speed"};
  EXPECT_NE(error_of(input).find("there is no pass 'speed'"), std::string::npos);
  input = testing::small_input(8);
  input.samples_per_step = 0;
  EXPECT_NE(error_of(input).find("must be above 0"), std::string::npos);
  input = testing::small_input(8);
  input.caps = {{500, 0}};
  EXPECT_NE(error_of(input).find("below the largest sample: sample "), std::string::npos)
      << error_of(input);
  input.caps = {{0, 0}};
  EXPECT_NE(error_of(input).find("both are 0"), std::string::npos);
  input = testing::small_input(8);
  input.samples = SampleTable{{}, {}, {}, {}, "empty.csv", nullptr};
  EXPECT_NE(error_of(input).find("empty.csv: there are no samples"), std::string::npos);
  input = testing::small_input(8);
  input.packs_per_step = 3;
  input.tp = input.pp = input.sp = 1;
  EXPECT_NE(error_of(input).find("shares a step of 3 packs"), std::string::npos) << error_of(input);
  input = testing::small_input(8);
  input.memory_bytes = input.profile.reserved_bytes / 2;
  EXPECT_NE(error_of(input).find("a device has 0 B for us"), std::string::npos) << error_of(input);
  EXPECT_NE(error_of(input).find("needs at least"), std::string::npos);
}

}  // namespace
}  // namespace gimbal
