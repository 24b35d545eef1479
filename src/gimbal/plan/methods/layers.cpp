// Equal numbers of layers, whatever they cost.
#include <algorithm>
#include <utility>

#include "gimbal/plan/methods.h"
#include "gimbal/plan/methods/linear_partition.h"

namespace gimbal {
namespace {

bool is_layer(BlockKind kind) {
  return kind == BlockKind::kVisionLayer || kind == BlockKind::kTextLayer;
}

// Where the units that are counted begin: a layer with the blocks that stay with it. Embeddings go
// with the layer after them, the projector, the norm and the head with the one before.
std::vector<std::size_t> layer_units(const std::vector<BlockDesc>& blocks) {
  std::vector<std::size_t> begins;
  bool waits_for_layer = false;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const BlockKind kind = blocks[i].kind;
    const bool opens = kind == BlockKind::kVisionEmbed || kind == BlockKind::kTextEmbed;
    if (begins.empty() || (!waits_for_layer && (opens || is_layer(kind)))) begins.push_back(i);
    waits_for_layer = (waits_for_layer || opens) && !is_layer(kind);
  }
  return begins;
}

}  // namespace

StageLayout cut_by_layers(const CutProblem& problem) {
  check_enough_blocks(problem);
  const std::vector<BlockDesc>& blocks = problem.costs->model().blocks;
  const auto num_stages = static_cast<std::size_t>(problem.num_stages);
  std::vector<std::size_t> units = layer_units(blocks);
  if (units.size() < num_stages) {
    // Fewer layers than stages: blocks are counted.
    units.clear();
    for (std::size_t i = 0; i < blocks.size(); ++i) units.push_back(i);
  }
  units.push_back(blocks.size());
  const std::size_t num_units = units.size() - 1;
  std::vector<std::size_t> stage_begin;
  for (std::size_t stage = 0; stage <= num_stages; ++stage) {
    // The first stages have one more when the number of stages does not divide the number of units.
    const std::size_t extra = std::min(stage, num_units % num_stages);
    stage_begin.push_back(units[stage * (num_units / num_stages) + extra]);
  }
  return full_recompute_layout(problem, std::move(stage_begin));
}

}  // namespace gimbal
