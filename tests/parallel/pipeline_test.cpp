// Pipeline schedules over several processes, with stages that only hand over marked tensors.
#include "gimbal/parallel/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <sstream>

#include "gimbal/schedule/validate.h"
#include "parallel/fake_stages.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing::calls_of;
using testing::FakeBoundaries;
using testing::FakeStages;
using testing_workers::run_workers;
using testing_workers::Worker;

/// Every kind, with fewer and more micro-batches than ranks.
std::vector<ScheduleShape> shapes_of(int ranks) {
  std::vector<ScheduleShape> shapes;
  for (const int micro_batches : {1, 4, 8}) {
    for (const PipelineKind kind :
         {PipelineKind::kGpipe, PipelineKind::kOneFOneB, PipelineKind::kZeroBubble})
      shapes.push_back({kind, ranks, 1, micro_batches});
    for (const int per_rank : {2, 3})
      shapes.push_back({PipelineKind::kInterleaved, ranks, per_rank, micro_batches});
  }
  return shapes;
}

/// Prints a line per schedule: what the runner was asked for, then the most that each stage held.
void run_all_shapes() {
  const auto world =
      make_comm_world(read_launch_info(), at::kCPU, std::chrono::milliseconds(60000));
  const int num_ranks = world->world().size();
  std::vector<int> ranks;
  for (int r = 0; r < num_ranks; ++r) ranks.push_back(r);
  const auto forward = world->make_group("forward", ranks);
  const auto backward = world->make_group("backward", ranks);
  std::uint64_t seed = 100;
  for (const ScheduleShape& shape : shapes_of(num_ranks)) {
    const Schedule schedule = make_schedule(shape);
    // Small messages, and such as no socket takes at once.
    for (const std::int64_t width : {1, 30000}) {
      FakeBoundaries boundaries{seed++, 0, at::kFloat};
      boundaries.width = width;
      boundaries.first_trained_stage = static_cast<int>(seed % 3);
      for (const bool forward_only : {false, true}) {
        FakeStages stages(schedule, boundaries, at::kCPU);
        std::string observed;
        run_schedule(
            schedule, {forward.get(), backward.get()}, stages,
            [&](const Action& action, bool begin) {
              if (!begin) observed += (observed.empty() ? "" : " ") + to_string(action);
            },
            forward_only);
        GIMBAL_CHECK_EQ(observed, stages.calls);
        if (forward_only) continue;
        std::cout << stages.calls << " |";
        for (const int held : stages.most_held) std::cout << " " << held;
        std::cout << "\n";
      }
    }
  }
}

const Worker kAllShapes("pipeline_shapes", run_all_shapes);

/// Rank 1's stage hands over a row too many.
void run_wrong_shape() {
  const auto world =
      make_comm_world(read_launch_info(), at::kCPU, std::chrono::milliseconds(20000));
  const auto forward = world->make_group("forward", {0, 1});
  const auto backward = world->make_group("backward", {0, 1});
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 2, 1, 2});
  FakeBoundaries boundaries{7, 0, at::kFloat};
  boundaries.extra_gradient_rows = 1;
  FakeStages stages(schedule, boundaries, at::kCPU);
  try {
    run_schedule(schedule, {forward.get(), backward.get()}, stages);
  } catch (const std::exception& error) {
    world->report_failure(error);
    throw;
  }
}

const Worker kWrongShape("pipeline_wrong_shape", run_wrong_shape);

void expect_schedules(int num_ranks) {
  const auto results = run_workers("pipeline_shapes", num_ranks);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto& result = results[static_cast<std::size_t>(rank)];
    ASSERT_EQ(result.exit_code, 0) << "rank " << rank << ": " << result.output;
    std::istringstream lines(result.output);
    for (const ScheduleShape& shape : shapes_of(num_ranks)) {
      const Schedule schedule = make_schedule(shape);
      std::string wanted = calls_of(schedule, rank) + " |";
      const std::vector<int> in_flight = check_schedule(schedule).in_flight;
      for (int s = 0; s < schedule.num_stages; ++s) {
        const int held = schedule.rank_of(s) == rank ? in_flight[static_cast<std::size_t>(s)] : 0;
        wanted += " " + std::to_string(held);
      }
      for (int width = 0; width < 2; ++width) {
        std::string line;
        ASSERT_TRUE(std::getline(lines, line)) << "rank " << rank;
        EXPECT_EQ(line, wanted) << schedule.name;
      }
    }
  }
}

TEST(DistPipeline, TwoProcessesFollowEverySchedule) { expect_schedules(2); }
TEST(DistPipeline, FourProcessesFollowEverySchedule) { expect_schedules(4); }

TEST(DistPipeline, WrongShapeEndsBothRanks) {
  const auto results = run_workers("pipeline_wrong_shape", 2);
  EXPECT_EQ(results[1].exit_code, 3) << results[1].output;
  EXPECT_NE(results[1].output.find(
                "gradients vision of micro-batch 0 to stage 0 are [3, 3] Float; both stages "
                "expect [2, 3] Float"),
            std::string::npos)
      << results[1].output;
  EXPECT_NE(results[0].exit_code, 0);
}

}  // namespace
}  // namespace gimbal
