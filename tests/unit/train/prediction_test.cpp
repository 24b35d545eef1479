#include "gimbal/train/report/prediction.h"

#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/train/report/memory_fit.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// Two layers of one class and a head.
ModelDesc three_blocks() {
  ModelDesc model;
  for (const char* name : {"text.0", "text.1", "text.head"}) {
    BlockDesc block;
    block.name = name;
    block.kind = BlockKind::kTextLayer;
    block.cost_class = block.name == "text.head" ? "text_head" : "text_layer";
    block.parts.resize(2);
    block.parts[0].saved_values_per_row = 10;
    model.blocks.push_back(block);
  }
  return model;
}

MemorySetting keep_all(const ModelDesc& model) {
  MemorySetting setting;
  setting.frozen.assign(model.blocks.size(), false);
  setting.levels.assign(model.blocks.size(), Recompute::kKeep);
  return setting;
}

/// Stands still but for what is added to it.
struct HandClock {
  double seconds = 100;
};

/// Each block takes its number + 1 seconds forward and ten times that backward.
void run_micro_batch(RunMeasurements& measurements, HandClock& clock, double rows) {
  measurements.begin_micro_batch();
  const at::Tensor held = at::ones({static_cast<std::int64_t>(rows), 25});
  for (std::size_t i = 0; i < 3; ++i) {
    measurements.note(i, false, true);
    clock.seconds += static_cast<double>(i + 1);
    measurements.note(i, false, false);
  }
  measurements.pause();
  clock.seconds += 1000;  // belongs to no block
  for (std::size_t i = 3; i-- > 0;) {
    measurements.note(i, true, true);
    clock.seconds += 10 * static_cast<double>(i + 1);
    measurements.note(i, true, false);
  }
  measurements.end_micro_batch({.text_rows = rows});
}

TEST(RunMeasurements, CountsTimesByClassAndTheLargestPeak) {
  const ModelDesc model = three_blocks();
  HandClock clock;
  RunMeasurements measurements(model, keep_all(model), at::kCPU, [&] { return clock.seconds; });
  measurements.begin_step();
  EXPECT_TRUE(measurements.is_timing());
  run_micro_batch(measurements, clock, 4000);  // the first step does not count
  measurements.begin_step();
  run_micro_batch(measurements, clock, 1000);
  run_micro_batch(measurements, clock, 2000);
  run_micro_batch(measurements, clock, 0);  // a rank without a pack
  EXPECT_EQ(measurements.times().micro_batches, 2U);
  const auto& layer = measurements.times().classes.at("text_layer");
  EXPECT_EQ(layer.forward, 2 * (1 + 2));
  EXPECT_EQ(layer.backward, 2 * (10 + 20));
  const auto& head = measurements.times().classes.at("text_head");
  EXPECT_EQ(head.forward, 2 * 3);
  EXPECT_EQ(head.backward, 2 * 30);
  const MeasuredPeak& peak = measurements.peak();
  EXPECT_GE(peak.activations, 2000 * 25 * 4);
  EXPECT_LT(peak.activations, 2000 * 25 * 4 + 10000);
  // Saved values of three blocks and the gradients of half of one's.
  EXPECT_EQ(peak.predicted_activations, 2000 * (3 * 10 + 5) * 4);
  EXPECT_GE(peak.total, peak.activations);
}

TEST(RunMeasurements, OneStepCountsWhenThereIsNoOther) {
  const ModelDesc model = three_blocks();
  HandClock clock;
  RunMeasurements measurements(model, keep_all(model), at::kCPU, [&] { return clock.seconds; });
  measurements.begin_step();
  run_micro_batch(measurements, clock, 100);
  EXPECT_EQ(measurements.times().micro_batches, 1U);
  EXPECT_GT(measurements.peak().activations, 0);
}

TEST(RunMeasurements, JsonReadsBack) {
  MeasuredTimes times;
  times.micro_batches = 3;
  times.classes["text_layer"] = {1.5, 2.5};
  const MeasuredTimes again = measured_times(Json::parse(to_json(times).dump()));
  EXPECT_EQ(again.micro_batches, 3U);
  EXPECT_EQ(again.classes.at("text_layer").backward, 2.5);
  const MeasuredPeak peak = measured_peak(to_json(MeasuredPeak{1, 2, 3}));
  EXPECT_EQ(peak.predicted_activations, 1);
  EXPECT_EQ(peak.activations, 2);
  EXPECT_EQ(peak.total, 3);
}

Plan predicted_plan() {
  Plan plan;
  plan.prediction.step.seconds = 0.5;
  plan.prediction.peak_bytes = {4000};
  plan.prediction.capacity_bytes = 10000;
  plan.prediction.classes = {{"text_layer", 0.1, 0.2}, {"vision_layer", 0.3, 0.4}};
  return plan;
}

TEST(Prediction, WithAPlanComparesStepAndClasses) {
  MeasuredTimes times;
  times.micro_batches = 4;
  times.classes["text_layer"] = {0.44, 0.6};
  const PredictionReport report = compare_prediction(
      7, predicted_plan(), "p.json",
      {{.peak = {100, 90, 3000}}, {.peak = {120, 130, 4100}, .gradient_bytes = 7}}, times, 0.55);
  const Json json = to_json(report);
  EXPECT_EQ(json.at("kind"), "prediction");
  EXPECT_EQ(json.at("step"), 7);
  EXPECT_EQ(json.at("plan"), "p.json");
  EXPECT_EQ(json.at("activation_peak_bytes").at("predicted"), 120);
  EXPECT_EQ(json.at("activation_peak_bytes").at("measured"), 130);
  EXPECT_EQ(json.at("peak_bytes").at("measured"), 4100);
  EXPECT_EQ(json.at("ranks")[0].at("total_peak_bytes"), 3000);
  EXPECT_EQ(json.at("ranks")[1].at("state_bytes").at("gradients"), 7);
  EXPECT_NEAR(json.at("step_seconds").at("ratio").get<double>(), 1.1, 1e-12);
  ASSERT_EQ(json.at("classes").size(), 1U) << "no block of the other class has run";
  const Json& layer = json.at("classes")[0];
  EXPECT_EQ(layer.at("class"), "text_layer");
  EXPECT_NEAR(layer.at("forward").at("ratio").get<double>(), 1.1, 1e-12);
  EXPECT_NEAR(layer.at("backward").at("measured").get<double>(), 0.15, 1e-12);
  EXPECT_THAT(to_text(report),
              AllOf(HasSubstr("activations at most 130 B, predicted 120 B (+8.3%)"),
                    HasSubstr("memory at most 4.00 KiB, predicted 3.91 KiB (+2.5%)"),
                    HasSubstr("step 550 ms, predicted 500 ms (+10.0%)"),
                    HasSubstr("text_layer forward 110 ms"),
                    HasSubstr("backward 150 ms, predicted 200 ms (-25.0%)")));
}

TEST(Prediction, EachPipelineRankHasItsPeakAndAPartOfTheTimes) {
  MeasuredTimes times;
  times.micro_batches = 8;  // 4 on each of two ranks
  times.classes["text_layer"] = {0.4, 0.8};
  Plan plan = predicted_plan();
  plan.prediction.peak_bytes = {4000, 2000};
  const PredictionReport report = compare_prediction(
      7, plan, "p.json",
      {{.peak = {0, 0, 4400}}, {.pp = 1, .peak = {0, 0, 1500}}, {.pp = 1, .peak = {0, 0, 1800}}},
      times, 0.5);
  const Json json = to_json(report);
  EXPECT_EQ(json.at("peak_bytes").at("measured"), 4400);
  EXPECT_EQ(json.at("peak_bytes_by_rank")[1].at("measured"), 1800);
  EXPECT_NEAR(json.at("classes")[0].at("forward").at("measured").get<double>(), 0.1, 1e-12);
  EXPECT_THAT(to_text(report), HasSubstr("memory of pipeline rank 1 at most"));
}

TEST(Prediction, WithoutAPlanComparesMemoryOnly) {
  const PredictionReport report =
      compare_prediction(3, std::nullopt, "", {{.peak = {0, 90, 3000}}}, MeasuredTimes{}, 0.1);
  const Json json = to_json(report);
  EXPECT_FALSE(json.contains("step_seconds"));
  EXPECT_TRUE(json.at("activation_peak_bytes").at("ratio").is_null());
  EXPECT_THAT(to_text(report), Not(HasSubstr("step")));
}

TEST(MemoryFit, SaysWhetherItFitsAndNamesTheSamples) {
  MemoryFit fit;
  fit.memory.activation_bytes = 3e9;
  fit.program_bytes = 1e9;
  fit.machine_bytes = 8e9;
  fit.largest.work.text_rows = 4096;
  fit.samples = {"a.jsonl line 1", "a.jsonl line 2", "a.jsonl line 3", "b.jsonl line 9", "more"};
  EXPECT_TRUE(fit.fits());
  EXPECT_THAT(to_text(fit),
              AllOf(HasSubstr("yes: needs about 3.73 GiB of 7.45 GiB for the"),
                    HasSubstr("4,096 tokens"), HasSubstr("b.jsonl line 9 and 1 more")));
  fit.planned_bytes = 7.5e9;
  EXPECT_FALSE(fit.fits());
  EXPECT_THAT(to_text(fit), HasSubstr("NO: needs about 7.92 GiB of 7.45 GiB for the"));
  EXPECT_THAT(fit_warning(fit), HasSubstr("lower balance.text_cap"));
  fit.memory.activation_bytes = 7.2e9;
  fit.planned_bytes = 1e9;
  EXPECT_FALSE(fit.fits()) << "a plan that says too little makes nothing fit";
  EXPECT_THAT(to_text(fit), HasSubstr("NO: needs about 7.64 GiB of 7.45 GiB for the"));
  EXPECT_EQ(to_json(fit).at("fits"), false);
  EXPECT_EQ(to_json(fit).at("samples").size(), 5U);
}

TEST(MemoryFit, APlanAboveTheMachineIsRefused) {
  EXPECT_NO_THROW(check_plan_fits(predicted_plan(), "p.json", 4000));
  EXPECT_THAT(
      testing::message_of<UserError>([] { check_plan_fits(predicted_plan(), "p.json", 3999); }),
      HasSubstr("plan 'p.json' needs 3.91 KiB in each process, but a process may use 3.91 KiB"));
}

TEST(MemoryFit, TravelsBetweenRanksAndTheTightestIsShown) {
  MemoryFit first;
  first.memory.parameter_bytes = 3e9;
  first.machine_bytes = 8e9;
  MemoryFit second = first;
  second.memory.activation_bytes = 2e9;
  second.largest = {7, 3, {}, {1, 2, 3, 4, 5}, 0};
  second.planned_bytes = 1.5e9;
  second.samples = {"a.jsonl line 1"};
  second.coordinates = "pp 1";
  const MemoryFit worst =
      tightest_fit({decode_fit(encode_fit(first)), decode_fit(encode_fit(second))});
  EXPECT_EQ(to_json(worst), to_json(second));
  EXPECT_EQ(worst.memory.total_bytes(), 5e9);
  EXPECT_EQ(worst.largest.work.vision_pairs, 5);
  EXPECT_THAT(to_text(worst), AllOf(HasSubstr("data rank 3, step 8"),
                                    HasSubstr("the rank at pp 1 has least room")));
  EXPECT_EQ(to_text(decode_fit(encode_fit(first))).find("least room"), std::string::npos);
}

}  // namespace
}  // namespace gimbal
