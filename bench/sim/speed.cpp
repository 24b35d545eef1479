// Times the simulator on one core and prints JSON. Compiled and run by speed.py.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "gimbal/schedule/schedule.h"
#include "gimbal/sim/pipeline.h"
#include "gimbal/sim/step.h"
#include "sim/sim_models.h"

namespace gimbal {
namespace {

struct Timing {
  double first = 0, median = 0, least = 0;
};

template <typename Work>
Timing time_of(int rounds, Work&& work) {
  std::vector<double> seconds;
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    seconds.push_back(passed.count());
  }
  Timing timing{seconds.front(), 0, 0};
  std::sort(seconds.begin(), seconds.end());
  timing.median = seconds[seconds.size() / 2];
  timing.least = seconds.front();
  return timing;
}

void print(const char* name, const Timing& timing) {
  std::printf("\"%s\": {\"first\": %.6f, \"median\": %.6f, \"least\": %.6f}", name, timing.first,
              timing.median, timing.least);
}

/// 64 unlike stages x 1,024 unlike micro-batches; speed.py has the same costs.
void bench_pipeline() {
  const int stages = 64, micro_batches = 1024;
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, stages, 1, micro_batches});
  PipelineInput input;
  input.schedule = &schedule;
  for (int s = 0; s < stages; ++s) {
    for (int m = 0; m < micro_batches; ++m) {
      StageWork work;
      work.forward = 5 + (s * 7 + m * 13) % 11;
      work.backward = 10 + (s * 5 + m * 17) % 19;
      work.saved = 1 + (s + m) % 5;
      work.send = (s * 3 + m * 5) % 7;
      input.work.push_back(work);
    }
  }
  input.links.assign(static_cast<std::size_t>(stages - 1), {0.5, 2});
  input.static_bytes.assign(static_cast<std::size_t>(stages), 0);
  PipelineResult result;
  const Timing timing = time_of(15, [&] { result = simulate_pipeline(input); });
  std::printf("{\"stages\": %d, \"micro_batches\": %d, \"step\": %.17g, \"peak_rank0\": %.17g, ",
              stages, micro_batches, result.seconds, result.peak_bytes[0]);
  print("seconds", timing);
  std::printf("}");
}

/// What the planner calls: 128 data-parallel pipelines of 16 stages x 32 micro-batches, 101 blocks.
void bench_step(ShardPolicy policy) {
  const int stages = 16, micro_batches = 32, data_parallel = 128;
  const CostModel costs(testing::small_model(45, 51), testing::small_profile(),
                        testing::settings_for({.pp = stages, .dp_shard = data_parallel}, policy));
  const StageLayout layout = testing::even_layout(costs.num_blocks(), stages, Recompute::kFull);
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, stages, 1, micro_batches});
  std::vector<WorkSize> work;
  for (int i = 0; i < micro_batches * data_parallel; ++i) {
    work.push_back(testing::work_of(i * 7 % 16, 500 + i * 37 % 3500));
  }
  StepSimulation step;
  const Timing timing = time_of(15, [&] {
    step = simulate_step({&costs, &layout, &schedule, work});
  });
  std::printf("{\"stages\": %d, \"micro_batches\": %d, \"data_parallel\": %d, \"blocks\": %zu, ",
              stages, micro_batches, data_parallel, costs.num_blocks());
  print("seconds", timing);
  std::printf(", \"simulated_step\": %.9g}", step.time.seconds);
}

}  // namespace
}  // namespace gimbal

int main() {
  std::printf("{\"pipeline\": ");
  gimbal::bench_pipeline();
  std::printf(",\n\"step_keep_weights\": ");
  gimbal::bench_step(gimbal::ShardPolicy::kKeepWeights);
  std::printf(",\n\"step_reshard\": ");
  gimbal::bench_step(gimbal::ShardPolicy::kReshard);
  std::printf("}\n");
  return 0;
}
