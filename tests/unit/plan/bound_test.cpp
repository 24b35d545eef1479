#include "gimbal/plan/bound.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "gimbal/plan/partition.h"
#include "gimbal/plan/search/evaluator.h"
#include "unit/balance/check_cases.h"
#include "unit/plan/plan_cases.h"

namespace gimbal {
namespace {

int pick(int low, int high) { return *testing::between(low, high + 1); }

PackedWork random_packs(int count) {
  PackedWork packed;
  for (int i = 0; i < count; ++i) {
    WorkSize work;
    work.vision_rows = pick(1, 20);
    work.text_rows = 256 * work.vision_rows + pick(10, 2000);
    work.text_pairs = work.text_rows * pick(200, 1500);
    work.loss_rows = pick(1, 500);
    packed.packs.push_back(work);
    packed.mean = packed.mean + work;
    for (auto member : {&WorkSize::vision_rows, &WorkSize::text_rows, &WorkSize::text_pairs,
                        &WorkSize::loss_rows}) {
      packed.largest.*member = std::max(packed.largest.*member, work.*member);
    }
  }
  packed.mean = (1.0 / count) * packed.mean;
  packed.samples_per_pack = 4;
  return packed;
}

PackedWork one_pack() {
  PackedWork packed;
  WorkSize work;
  work.text_rows = 2000;
  work.vision_rows = 3;
  packed.packs = {work};
  packed.mean = packed.largest = work;
  packed.samples_per_pack = 1;
  return packed;
}

TEST(Bound, PropertyNoPlanIsFaster) {
  const PlanInput machine = testing::small_input(32);
  testing::check_cases(2000, [&] {
    PlanInput input = machine;
    // Forward and backward that do not rise together, as a measured profile may have them.
    for (auto& [name, block] : input.profile.blocks) {
      for (CostLine* line : {&block.forward, &block.backward_input, &block.backward_weight}) {
        if (pick(0, 3) == 0) std::swap(line->per_row, line->base);
        if (pick(0, 3) == 0) line->per_pair = line->per_row / pick(1, 1000);
      }
    }
    if (pick(0, 1) == 0) input.memory_bytes = input.profile.reserved_bytes + 1e9 * pick(5, 60);
    Evaluator evaluator(input);
    Candidate candidate;
    candidate.mesh.pp = 1 << pick(0, 3);
    candidate.mesh.tp = 1 << pick(0, 1);
    candidate.mesh.dp_shard = pick(1, 3);
    candidate.policy = pick(0, 1) == 0 ? ShardPolicy::kReshard : ShardPolicy::kKeepWeights;
    const int slots = pick(1, 24);
    const PipelineKind kind = static_cast<PipelineKind>(pick(0, 3));
    const int per_rank =
        kind == PipelineKind::kInterleaved && candidate.mesh.pp > 1 ? pick(1, 2) : 1;
    candidate.schedule = {kind, candidate.mesh.pp, per_rank, slots};
    if (kind == PipelineKind::kInterleaved && slots % candidate.mesh.pp != 0) return;
    candidate.packs_per_step =
        static_cast<std::uint64_t>(slots) * static_cast<std::uint64_t>(candidate.mesh.dp_shard);
    const PackedWork packed = random_packs(static_cast<int>(candidate.packs_per_step));
    // Any cuts and levels, not only good ones.
    StageLayout layout;
    const std::size_t blocks = input.model.blocks.size();
    const auto stages = static_cast<std::size_t>(candidate.mesh.pp * per_rank);
    for (std::size_t s = 0; s <= stages; ++s) layout.stage_begin.push_back(s * blocks / stages);
    for (std::size_t s = 1; s < stages; ++s) {
      const std::size_t moved = layout.stage_begin[s] + static_cast<std::size_t>(pick(0, 2)) - 1;
      if (moved > layout.stage_begin[s - 1] && moved < layout.stage_begin[s + 1])
        layout.stage_begin[s] = moved;
    }
    for (std::size_t i = 0; i < blocks; ++i) {
      const auto& levels = evaluator.costs(candidate.mesh, candidate.policy).levels(i);
      layout.recompute.push_back(levels[static_cast<std::size_t>(pick(0, 9)) % levels.size()]);
    }
    const StepSimulation step = evaluator.simulate(candidate, layout, packed, 1);
    StepBound bound = evaluator.bound(candidate, packed, 0);
    const Bytes peak = *std::max_element(step.peak_bytes.begin(), step.peak_bytes.end());
    if (peak > evaluator.capacity()) bound.memory = 0;  // it says nothing of plans that do not fit
    RC_ASSERT(step.time.seconds >= bound.seconds() * (1 - 1e-9));
  });
}

TEST(Bound, IsReachedByEqualStages) {
  // A text model of equal layers alone: 1F1B fills and drains as the bound says.
  PlanInput input = testing::small_input(4);
  std::erase_if(input.model.blocks,
                [](const BlockDesc& block) { return block.kind != BlockKind::kTextLayer; });
  input.frozen.clear();
  for (auto& [name, block] : input.profile.blocks) block.output = {};  // messages take no time
  input.profile.links.inside_node = {0, 1e15};
  input.profile.links.between_nodes = {0, 1e15};
  input.profile.optimizer_per_parameter = input.profile.step_overhead = 0;
  input.profile.model_fingerprint.clear();
  Evaluator evaluator(input);
  Candidate candidate;
  candidate.mesh.pp = 4;
  candidate.schedule = {PipelineKind::kOneFOneB, 4, 1, 16};
  candidate.packs_per_step = 16;
  PackedWork packed;
  WorkSize work;
  work.text_rows = 4096;
  work.text_pairs = 4096.0 * 1000;
  packed.packs.assign(16, work);
  packed.mean = packed.largest = work;
  packed.samples_per_pack = 4;
  StageLayout layout;
  layout.stage_begin = {0, 6, 12, 18, 24};
  layout.recompute.assign(24, Recompute::kKeep);
  const double step = evaluator.simulate(candidate, layout, packed, 1).time.seconds;
  EXPECT_NEAR(step / evaluator.bound(candidate, packed, 0).seconds(), 1.0, 1e-3);
}

TEST(Bound, IsInfiniteWhenNothingFits) {
  PlanInput input = testing::small_input(1);
  input.memory_bytes = input.profile.reserved_bytes + 1e9;
  Evaluator evaluator(input);
  Candidate candidate;
  candidate.schedule = {PipelineKind::kOneFOneB, 1, 1, 1};
  const PackedWork packed = one_pack();
  EXPECT_TRUE(std::isinf(evaluator.quick_bound(candidate, packed).memory));
}

TEST(Bound, CountsTheWholeGradientsThatWait) {
  PlanInput input = testing::small_input(4);
  const PackedWork packed = one_pack();
  Candidate candidate;
  candidate.mesh.dp_shard = 4;
  candidate.policy = ShardPolicy::kKeepWeights;
  // Room for the state, the least that can be saved, and half of the gradients.
  {
    Evaluator evaluator(input);
    const CostModel& costs = evaluator.costs(candidate.mesh, candidate.policy);
    Bytes least = 0, gradients = 0;
    for (std::size_t i = 0; i < costs.num_blocks(); ++i) {
      Bytes saved = costs.saved(i, packed.mean, Recompute::kKeep);
      for (const Recompute level : costs.levels(i))
        saved = std::min(saved, costs.saved(i, packed.mean, level));
      least += costs.state_bytes(i) + saved;
      gradients += costs.whole_gradient_bytes(i);
    }
    ASSERT_GT(gradients, 0);
    input.memory_bytes = input.profile.reserved_bytes + least + gradients / 2;
  }
  for (const int micro_batches : {1, 2}) {
    Evaluator evaluator(input);
    candidate.schedule = {PipelineKind::kOneFOneB, 1, 1, micro_batches};
    candidate.packs_per_step = static_cast<std::uint64_t>(4 * micro_batches);
    EXPECT_EQ(std::isinf(evaluator.quick_bound(candidate, packed).memory), micro_batches > 1);
  }
}

}  // namespace
}  // namespace gimbal
