// Small pipelines to cut: every block has its own costs, chosen by the test.
#pragma once

#include <rapidcheck.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "balance/check_cases.h"
#include "gimbal/plan/cut_problem.h"

namespace gimbal::testing {

/// Costs of one block: whole numbers of microseconds and bytes.
struct BlockCase {
  BlockKind kind = BlockKind::kTextLayer;
  int parameters = 1;
  int forward = 1;
  int saved = 1;                // kept; half of it with one part recomputed, a tenth with all
  int workspace = 0;            // of backward, whatever the level
  int output = 1;               // values per row
  std::string cost_class = {};  // empty: its own
};

inline constexpr double kMicrosecond = 1e-6;

inline CostLine constant_line(double value) { return {value, 0, 0}; }

/// A problem with the model that it points to.
struct CutCase {
  std::unique_ptr<CostModel> costs;
  CutProblem problem;
};

/// One device per stage; a byte per parameter.
inline CostSettings plain_settings() {
  CostSettings settings;
  settings.state = {.master = 0, .compute = 1, .gradient = 0, .moments = 0};
  return settings;
}

/// Levels: keep, attention, mlp and full for layers. Backward takes twice the forward's time;
/// recompute a third, two thirds or all of it.
inline CutCase cut_case(const std::vector<BlockCase>& blocks, int num_stages, Bytes capacity,
                        std::vector<int> in_flight = {}, int micro_batches = 8,
                        CostSettings settings = plain_settings(), bool tied = false) {
  ModelDesc model;
  model.type = "test";
  model.tied_embeddings = tied;
  ProfileTable profile;
  profile.origin = "measured";
  profile.hardware = "test";
  profile.model_type = "test";
  profile.memory_bytes = capacity;
  profile.value_bytes = 1;
  profile.links.inside_node = {0, 1e15};
  profile.links.between_nodes = {0, 1e15};
  profile.links.devices_per_node = 8;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const BlockCase& block = blocks[i];
    BlockDesc desc;
    desc.name = "block." + std::to_string(i);
    desc.kind = block.kind;
    desc.cost_class = block.cost_class.empty() ? desc.name : block.cost_class;
    desc.num_parameters = block.parameters;
    desc.output_values_per_row = block.output;
    const bool layer = block.kind == BlockKind::kTextLayer || block.kind == BlockKind::kVisionLayer;
    desc.parts.resize(layer ? 2 : 1);
    desc.parts.front().name = layer ? "attention" : "all";
    desc.parts.back().name = layer ? "mlp" : "all";
    for (PartDesc& part : desc.parts) {
      part.product_flops_per_row = 1;
      part.input_values_per_row = 1;
      part.saved_values_per_row = 5;
    }
    BlockCost cost;
    const double seconds = block.forward * kMicrosecond;
    cost.forward = constant_line(seconds);
    cost.backward_input = constant_line(seconds);
    cost.backward_weight = constant_line(seconds);
    const double shares[kNumRecomputeLevels] = {0, 1.0 / 3, 2.0 / 3, 1};
    const double kept[kNumRecomputeLevels] = {1, 2, 2, 10};
    for (std::size_t level = 0; level < kNumRecomputeLevels; ++level) {
      cost.recompute[level] = constant_line(seconds * shares[level]);
      cost.saved[level] = constant_line(block.saved / kept[level]);
      cost.backward_workspace[level] = constant_line(block.workspace);
    }
    cost.output = constant_line(block.output);
    profile.blocks[desc.cost_class] = cost;
    model.blocks.push_back(std::move(desc));
  }
  settings.frozen.assign(blocks.size(), false);
  CutCase result;
  result.costs = std::make_unique<CostModel>(std::move(model), std::move(profile), settings);
  CutProblem& problem = result.problem;
  problem.costs = result.costs.get();
  problem.num_stages = num_stages;
  problem.in_flight = std::move(in_flight);
  if (problem.in_flight.empty()) {
    for (int stage = 0; stage < num_stages; ++stage)
      problem.in_flight.push_back(num_stages - stage);
  }
  problem.micro_batches = micro_batches;
  problem.mean = {
      .text_rows = 1, .text_pairs = 1, .loss_rows = 1, .vision_rows = 1, .vision_pairs = 0};
  problem.largest = problem.mean;
  problem.capacity = capacity;
  return result;
}

/// Layers of a vision encoder, then of a language model; at least `num_stages` in all.
inline std::vector<BlockCase> random_blocks(std::size_t least, std::size_t most) {
  const auto count = *between<std::size_t>(least, most + 1);
  const auto num_vision = *between<std::size_t>(0, count);
  std::vector<BlockCase> blocks(count);
  for (std::size_t i = 0; i < count; ++i) {
    blocks[i].kind = i < num_vision ? BlockKind::kVisionLayer : BlockKind::kTextLayer;
    blocks[i].parameters = *between(1, 30);
    blocks[i].forward = *between(1, 100);
    blocks[i].saved = 10 * *between(1, 40);
    blocks[i].workspace = *between(0, 50);
    blocks[i].output = *between(1, 6);
  }
  return blocks;
}

/// All ways to cut `count` blocks into `stages` non-empty ranges.
inline std::vector<std::vector<std::size_t>> all_cuts(std::size_t count, int stages) {
  std::vector<std::vector<std::size_t>> found = {{0}};
  for (int stage = 1; stage <= stages; ++stage) {
    std::vector<std::vector<std::size_t>> longer;
    for (const auto& cuts : found) {
      for (std::size_t end = cuts.back() + 1; end <= count; ++end) {
        if (stage == stages && end != count) continue;
        longer.push_back(cuts);
        longer.back().push_back(end);
      }
    }
    found = std::move(longer);
  }
  return found;
}

/// Calls `visit` with each choice of levels of the layout's blocks.
template <typename Visit>
void for_all_levels(const CostModel& costs, StageLayout layout, Visit&& visit,
                    std::size_t block = 0) {
  if (block == costs.num_blocks()) {
    visit(static_cast<const StageLayout&>(layout));
    return;
  }
  for (const Recompute level : costs.levels(block)) {
    layout.recompute[block] = level;
    for_all_levels(costs, layout, visit, block + 1);
  }
}

}  // namespace gimbal::testing
