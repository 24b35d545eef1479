// Equal stages and micro-batches without messages: what the papers say. Times are whole numbers, so
// equality is exact.
#include <gtest/gtest.h>

#include <algorithm>

#include "gimbal/sim/pipeline.h"

namespace gimbal {
namespace {

struct EqualCosts {
  Seconds forward = 0, backward = 0, backward_input = 0, backward_weight = 0;
};

PipelineResult run_equal(const ScheduleShape& shape, const EqualCosts& costs) {
  const Schedule schedule = make_schedule(shape);
  const auto stages = static_cast<std::size_t>(schedule.num_stages);
  StageWork work;
  work.forward = costs.forward;
  work.backward = costs.backward;
  work.backward_input = costs.backward_input;
  work.backward_weight = costs.backward_weight;
  work.saved = 10;
  PipelineInput input;
  input.schedule = &schedule;
  input.work.assign(stages * static_cast<std::size_t>(shape.micro_batches), work);
  input.links.resize(stages - 1);
  input.static_bytes.assign(static_cast<std::size_t>(shape.ranks), 1000);
  return simulate_pipeline(input);
}

/// Huang et al. 2019 (GPipe), Narayanan et al. 2021: the bubble is p - 1 micro-batches, its share
/// of the step (p - 1) / (m + p - 1).
TEST(PipelineClosedForm, GpipeAndOneFOneBWaitForOneMicroBatchLessThanStages) {
  for (const PipelineKind kind : {PipelineKind::kGpipe, PipelineKind::kOneFOneB}) {
    for (int p = 1; p <= 8; ++p) {
      for (int m = 1; m <= 17; ++m) {
        const PipelineResult result = run_equal({kind, p, 1, m}, {3, 7, 0, 0});
        EXPECT_EQ(result.seconds, (m + p - 1) * 10) << pipeline_name(kind) << " " << p << " " << m;
        const double idle = 1 - result.busy[0] / result.seconds;
        EXPECT_NEAR(idle, (p - 1.0) / (m + p - 1.0), 1e-15);
      }
    }
  }
}

TEST(PipelineClosedForm, GpipeHoldsAllAndOneFOneBAsManyAsStagesFollow) {
  for (int p = 1; p <= 8; ++p) {
    for (int m = 1; m <= 12; ++m) {
      const PipelineResult gpipe = run_equal({PipelineKind::kGpipe, p, 1, m}, {3, 7, 0, 0});
      const PipelineResult one = run_equal({PipelineKind::kOneFOneB, p, 1, m}, {3, 7, 0, 0});
      for (int s = 0; s < p; ++s) {
        const auto rank = static_cast<std::size_t>(s);
        EXPECT_EQ(gpipe.peak_bytes[rank], 1000 + 10 * m);
        EXPECT_EQ(one.peak_bytes[rank], 1000 + 10 * std::min(m, p - s));
      }
    }
  }
}

/// Narayanan et al. 2021, section 2.2.2: v chunks per rank shorten the bubble v times.
TEST(PipelineClosedForm, InterleavingShortensTheBubbleByTheChunks) {
  for (int p = 2; p <= 6; ++p) {
    for (int v = 2; v <= 4; ++v) {
      for (int rounds = 1; rounds <= 4; ++rounds) {
        const int m = rounds * p;
        const PipelineResult result =
            run_equal({PipelineKind::kInterleaved, p, v, m}, {1, 2, 0, 0});
        EXPECT_EQ(result.seconds, m * v * 3 + (p - 1) * 3) << p << " " << v << " " << m;
      }
    }
  }
}

/// Qi et al. 2023, table 2: ZB-H1's bubble is (p - 1)(F + B - W), with B the input gradients and W
/// the weight gradients, at no more memory than 1F1B. Here all three are equal.
TEST(PipelineClosedForm, ZeroBubbleH1WaitsAThirdOfOneFOneB) {
  for (int p = 2; p <= 8; ++p) {
    for (int m = p; m <= 2 * p + 3; ++m) {
      const PipelineResult result = run_equal({PipelineKind::kZeroBubble, p, 1, m}, {2, 4, 2, 2});
      EXPECT_EQ(result.seconds, m * 6 + (p - 1) * 2) << p << " " << m;
      for (const Bytes peak : result.peak_bytes) EXPECT_LE(peak, 1000 + 10 * p);
    }
  }
}

}  // namespace
}  // namespace gimbal
