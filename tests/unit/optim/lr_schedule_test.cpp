#include "gimbal/optim/lr_schedule.h"

#include <gtest/gtest.h>

namespace gimbal {
namespace {

OptimizerConfig config(ScheduleKind schedule, double min_lr_ratio = 0.0) {
  OptimizerConfig result;
  result.schedule = schedule;
  result.warmup_steps = 4;
  result.min_lr_ratio = min_lr_ratio;
  return result;
}

TEST(LrSchedule, WarmupLosesNoStep) {
  for (const auto kind : {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    for (std::int64_t step = 0; step < 4; ++step) {
      EXPECT_DOUBLE_EQ(lr_factor(config(kind), step, 20), 0.25 * static_cast<double>(step + 1));
    }
    EXPECT_DOUBLE_EQ(lr_factor(config(kind), 4, 20), 1.0);
  }
}

// Values of transformers' get_*_schedule_with_warmup(num_warmup_steps=4, num_training_steps=20) at
// steps 5, 9, 12, 19 and 20.
TEST(LrSchedule, DecaysAsTransformersDoes) {
  const std::vector<std::int64_t> steps{5, 9, 12, 19, 20};
  const std::vector<double> linear{0.9375, 0.6875, 0.5, 0.0625, 0.0};
  const std::vector<double> cosine{0.9903926402016152, 0.7777851165098011, 0.5,
                                   0.009607359798384785, 0.0};
  const std::vector<double> cosine_min{0.9913533761814537, 0.800006604858821, 0.55,
                                       0.10864662381854631, 0.1};
  for (std::size_t i = 0; i < steps.size(); ++i) {
    EXPECT_NEAR(lr_factor(config(ScheduleKind::kLinear), steps[i], 20), linear[i], 1e-15);
    EXPECT_NEAR(lr_factor(config(ScheduleKind::kCosine), steps[i], 20), cosine[i], 1e-15);
    EXPECT_NEAR(lr_factor(config(ScheduleKind::kCosine, 0.1), steps[i], 20), cosine_min[i], 1e-15);
    EXPECT_EQ(lr_factor(config(ScheduleKind::kConstant, 0.1), steps[i], 20), 1.0);
  }
  EXPECT_NEAR(lr_factor(config(ScheduleKind::kLinear, 0.2), 12, 20), 0.6, 1e-15);
}

TEST(LrSchedule, StaysAtTheEndOfTheDecay) {
  EXPECT_NEAR(lr_factor(config(ScheduleKind::kCosine, 0.1), 100, 20), 0.1, 1e-15);
  EXPECT_NEAR(lr_factor(config(ScheduleKind::kLinear), 100, 20), 0.0, 1e-15);
}

TEST(LrSchedule, AllStepsMayBeWarmup) {
  EXPECT_DOUBLE_EQ(lr_factor(config(ScheduleKind::kCosine), 1, 2), 0.5);
  OptimizerConfig none = config(ScheduleKind::kCosine);
  none.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(lr_factor(none, 0, 10), 1.0);
}

}  // namespace
}  // namespace gimbal
