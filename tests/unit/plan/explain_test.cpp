#include "gimbal/plan/text/explain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <regex>

#include "gimbal/base/file.h"
#include "gimbal/plan/text/figures.h"
#include "unit/plan/plan_cases.h"

namespace gimbal {
namespace {

// tests/unit/plan/explain_test.cpp -> tests/golden/plans/NAME
std::filesystem::path golden_plan(const char* name) {
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path() / "golden" /
         "plans" / name;
}

// What a table looks like is agreed on in a file; GIMBAL_WRITE_GOLDEN=1 writes it.
void expect_golden(const char* name, const std::string& text) {
  if (std::getenv("GIMBAL_WRITE_GOLDEN") != nullptr) write_file_atomic(golden_plan(name), text);
  EXPECT_EQ(text, read_file(golden_plan(name)));
}

// Figures by hand, so that the tables do not change with the planner.
Plan plan_by_hand() {
  Plan plan;
  plan.model_type = "internvl";
  plan.profile_origin = "analytic";
  plan.hardware = "a100-80g";
  plan.dtype = "bfloat16";
  plan.method = "gimbal";
  plan.mesh = {2, 2, 2, 1, 4, 1};
  plan.shard_policy = ShardPolicy::kReshard;
  plan.streams = {"text", "vision"};
  plan.caps = {4096, 16};
  plan.packs_per_step = 32;
  plan.micro_batches = 8;
  plan.schedule = {PipelineKind::kOneFOneB, 2, 1, 8};
  plan.blocks = {"vision.embed", "vision.0", "vision.1", "projector",
                 "text.embed",   "text.0",   "text.1",   "text.head"};
  plan.layout.stage_begin = {0, 5, 8};
  plan.layout.recompute = {Recompute::kKeep,      Recompute::kFull, Recompute::kFull,
                           Recompute::kAttention, Recompute::kKeep, Recompute::kKeep,
                           Recompute::kMlp,       Recompute::kKeep};
  Prediction& own = plan.prediction;
  own.step = {1.25, 1.0, 0.05, 0.1, 0.08, 0.02};
  own.bound.work = 1.2;
  own.bound.critical_path = 0.3;
  own.bound.memory = 1.1;
  own.bound.fill = 1.15;
  own.stage_seconds = {0.0312, 0.0299};
  own.peak_bytes = {70.12e9, 64e9};
  own.capacity_bytes = 79.2e9;
  own.samples_per_step = 211.4;
  own.tokens_per_second_per_device = 3456.7;
  own.utilisation = 0.451;
  own.epoch_seconds = 4980;
  return plan;
}

TEST(PlanTable, IsAsAgreed) { expect_golden("table.txt", plan_table(plan_by_hand())); }

TEST(PlanTable, OfOneDeviceIsAsAgreed) {
  Plan plan = plan_by_hand();
  plan.mesh = {};
  plan.caps = {0, 0};
  plan.schedule = {PipelineKind::kOneFOneB, 1, 1, 1};
  plan.micro_batches = 1;
  plan.packs_per_step = 1;
  plan.layout.stage_begin = {0, 8};
  plan.prediction.stage_seconds = {0.0312};
  plan.prediction.peak_bytes = {310.4e6};
  plan.prediction.capacity_bytes = 2e9;
  plan.prediction.epoch_seconds = 42;
  expect_golden("one_device.txt", plan_table(plan));
}

TEST(PlanTable, OfTopAndOfMethodsAreAsAgreed) {
  Plan other = plan_by_hand();
  other.method = "parameters + full";
  other.mesh.tp = 1;
  other.schedule.kind = PipelineKind::kZeroBubble;
  other.prediction.step = {2.5, 1.0, 0.5, 0.1, 0.5, 0.4};
  other.prediction.peak_bytes = {90e9, 64e9};
  expect_golden("top.txt", top_table({plan_by_hand(), other}, {{71e9, 0, true}, {91e9, 1, false}}));
  expect_golden("methods.txt", comparison_table({plan_by_hand(), other}));
  // Peaks that are given count more than those of the simulated steps.
  const std::string text =
      comparison_table({plan_by_hand(), other}, {{79.3e9, 0, false}, {79.1e9, 0, true}});
  EXPECT_NE(text.find("73.9 GiB    no\n"), std::string::npos) << text;
  EXPECT_NE(text.find("73.7 GiB   yes\n"), std::string::npos) << text;
}

TEST(Figures, TextOfTimesAndCounts) {
  EXPECT_EQ(seconds_text(3.21e-5), "32.1 us");
  EXPECT_EQ(seconds_text(0.0312), "31.2 ms");
  EXPECT_EQ(seconds_text(0.312), "312 ms");
  EXPECT_EQ(seconds_text(3.456), "3.46 s");
  EXPECT_EQ(seconds_text(45.67), "45.7 s");
  EXPECT_EQ(seconds_text(456.7), "457 s");
  EXPECT_EQ(seconds_text(3600 + 5 * 60), "1 h 05 min");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1234567), "1,234,567");
}

TEST(Figures, NamesTheLargestBound) {
  StepBound bound;
  bound.work = 1;
  EXPECT_EQ(bound_name(bound), "work");
  bound.memory = 2;
  EXPECT_EQ(bound_name(bound), "memory");
  bound.fill = 3;
  EXPECT_EQ(bound_name(bound), "fill");
  bound.critical_path = 4;
  EXPECT_EQ(bound_name(bound), "critical path");
}

class ExplainPlan : public ::testing::Test {
 protected:
  static PlanInput input_of(int devices) {
    PlanInput input = testing::small_input(devices);
    input.samples = testing::random_samples(500);
    input.samples_per_step = 64;
    input.num_top = 3;
    return input;
  }
};

TEST_F(ExplainPlan, NamesTheSlowestStageAndWhatMovingWouldCost) {
  PlanInput input = input_of(4);
  input.pp = 4;
  input.schedule = PipelineKind::kOneFOneB;
  const PlanResult result = make_plan(input);
  const std::string text = explain_plan(input, result);
  const std::vector<Seconds>& seconds = result.best.prediction.stage_seconds;
  ASSERT_EQ(seconds.size(), 4U);
  std::smatch found;
  ASSERT_TRUE(std::regex_search(text, found, std::regex("Stage (\\d) is the slowest: ([^ ]+) ms")))
      << text;
  const std::size_t slowest = std::stoul(found[1].str());
  // The slowest for a mean micro-batch is the slowest of the simulation, or as slow.
  EXPECT_GE(seconds[slowest], 0.99 * *std::max_element(seconds.begin(), seconds.end())) << text;
  // The plan was refined: no move of one block makes it faster than by rounding.
  const std::regex faster("and the step ([0-9.]+) % faster");
  for (auto at = std::sregex_iterator(text.begin(), text.end(), faster);
       at != std::sregex_iterator(); ++at) {
    EXPECT_LT(std::stod((*at)[1].str()), 0.1) << text;
  }
  EXPECT_NE(text.find("Moving its "), std::string::npos) << text;
}

TEST_F(ExplainPlan, MovesAreThoseOfTheSimulator) {
  PlanInput input = input_of(4);
  input.pp = 4;
  input.without = {"partition", "refine"};  // equal parameters: there is something to gain
  const PlanResult result = make_plan(input);
  const Plan& plan = result.best;
  const std::string text = explain_plan(input, result);
  std::smatch found;
  ASSERT_TRUE(std::regex_search(
      text, found,
      std::regex(
          "Moving its (first|last) block (\\S+) to stage (\\d) would make stage \\d the slowest "
          "with .*, and the step ([0-9.]+) % (faster|slower)")))
      << text;
  // The same move by hand.
  Plan moved = plan;
  const auto block = static_cast<std::size_t>(
      std::find(plan.blocks.begin(), plan.blocks.end(), found[2].str()) - plan.blocks.begin());
  if (found[1] == "first") {
    *std::find(moved.layout.stage_begin.begin(), moved.layout.stage_begin.end(), block) = block + 1;
  } else {
    *std::find(moved.layout.stage_begin.begin(), moved.layout.stage_begin.end(), block + 1) = block;
  }
  const double ratio =
      predict_plan(input, moved).step.seconds / predict_plan(input, plan).step.seconds - 1;
  const double told = std::stod(found[4].str()) / 100 * (found[5] == "faster" ? -1 : 1);
  EXPECT_NEAR(told, ratio, 0.0006) << text;
  EXPECT_NE(told, 0);
}

TEST_F(ExplainPlan, TellsWhatForcesRecompute) {
  PlanInput input = input_of(1);
  input.caps = std::vector<std::uint64_t>{4096, 16};
  const Bytes roomy = make_plan(input).best.prediction.peak_bytes[0];
  const std::string kept = explain_plan(input, make_plan(input));
  EXPECT_NE(kept.find("Nothing is recomputed: all activations fit."), std::string::npos) << kept;
  EXPECT_EQ(kept.find("The bubble is"), std::string::npos) << kept;

  input.memory_bytes = input.profile.reserved_bytes + 0.95 * roomy;
  const std::string tight = explain_plan(input, make_plan(input));
  EXPECT_NE(tight.find("Recompute ("), std::string::npos) << tight;
  EXPECT_NE(tight.find("Without it stage 0 would need"), std::string::npos) << tight;
  EXPECT_NE(tight.find("% faster."), std::string::npos) << tight;
}

TEST_F(ExplainPlan, ListsPassesAndAlternatives) {
  PlanInput input = input_of(4);
  input.without = {"refine"};
  const PlanResult result = make_plan(input);
  const std::string text = explain_plan(input, result);
  for (const std::string& name : pass_names()) {
    EXPECT_NE(text.find("\n" + name), std::string::npos) << name << "\n" << text;
  }
  EXPECT_NE(text.find("off: "), std::string::npos) << text;
  // Worded unlike the plan itself.
  EXPECT_TRUE(std::regex_search(
      text,
      std::regex("- Not chosen, the next best: .*\\. A sample would take [0-9.]+ % (more|less) "
                 "time than with the plan, mostly by ")))
      << text;
}

}  // namespace
}  // namespace gimbal
