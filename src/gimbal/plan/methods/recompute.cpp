// Recompute levels of a given cut.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/plan/methods.h"
#include "gimbal/plan/methods/linear_partition.h"
#include "gimbal/plan/partition/stage_knapsack.h"

namespace gimbal {
namespace {

// OmniBal's reserve is set by hand; where its counts do not fit, it is raised in steps of this
// share of the memory until they do.
constexpr double kReserveStep = 1.0 / 64;

bool is_vision_layer(const CutProblem& problem, std::size_t block) {
  return problem.costs->model().blocks[block].kind == BlockKind::kVisionLayer;
}

bool is_recomputed_layer(const CutProblem& problem, std::size_t block) {
  const BlockKind kind = problem.costs->model().blocks[block].kind;
  return (kind == BlockKind::kVisionLayer || kind == BlockKind::kTextLayer) &&
         full_level(*problem.costs, block) == Recompute::kFull;
}

// The layers of a stage that can be recomputed, last first: the order in which they are let off.
std::vector<std::size_t> layers_from_last(const CutProblem& problem, const StageLayout& layout,
                                          std::size_t stage) {
  std::vector<std::size_t> layers;
  for (std::size_t i = layout.stage_begin[stage + 1]; i-- > layout.stage_begin[stage];) {
    if (is_recomputed_layer(problem, i)) layers.push_back(i);
  }
  return layers;
}

void recompute_layers_only(const CutProblem& problem, StageLayout& layout) {
  for (std::size_t i = 0; i < layout.recompute.size(); ++i) {
    layout.recompute[i] = is_recomputed_layer(problem, i) ? Recompute::kFull : Recompute::kKeep;
  }
}

// Bytes that a layer of each kind takes when it is not recomputed.
struct LayerBytes {
  Bytes vision = 0;
  Bytes text = 0;
};

// What OmniBal measures: the memory that letting all layers of the first stage off takes there, and
// the same for the last stage, solved for the two kinds of layer. A kind that neither stage tells
// apart from the other has what a layer of any kind takes where most was taken.
LayerBytes profile_layer_bytes(const CutProblem& problem, const StageLayout& all_recomputed) {
  struct Row {
    double vision = 0, text = 0;
    Bytes taken = 0;
  };
  std::array<Row, 2> rows;
  const std::array<std::size_t, 2> stages = {0, all_recomputed.num_stages() - 1};
  for (std::size_t i = 0; i < 2; ++i) {
    StageLayout kept = all_recomputed;
    for (const std::size_t layer : layers_from_last(problem, all_recomputed, stages[i])) {
      kept.recompute[layer] = Recompute::kKeep;
      (is_vision_layer(problem, layer) ? rows[i].vision : rows[i].text) += 1;
    }
    rows[i].taken =
        stage_bytes(problem, kept, stages[i]) - stage_bytes(problem, all_recomputed, stages[i]);
  }
  const auto& [first, last] = rows;
  const double determinant = first.vision * last.text - last.vision * first.text;
  LayerBytes result;
  if (determinant != 0) {
    result.vision = (first.taken * last.text - last.taken * first.text) / determinant;
    result.text = (first.vision * last.taken - last.vision * first.taken) / determinant;
    return result;
  }
  Bytes most = 0;
  for (const Row& row : rows) {
    if (row.vision + row.text > 0) most = std::max(most, row.taken / (row.vision + row.text));
  }
  return {most, most};
}

// How many of a stage's layers keep their activations, language layers first.
std::size_t count_let_off(double num_vision, double num_text, Bytes left, const LayerBytes& layer) {
  if (left <= 0) return 0;
  const double num_layers = num_vision + num_text;
  const bool text_only = num_text > 0 && (num_vision == 0 || num_text * layer.text > left);
  double count = 0;
  if (text_only) {
    count = layer.text > 0 ? std::floor(left / layer.text) - 1 : num_text;
  } else {
    const Bytes rest = left - num_text * layer.text;
    count = num_text + (layer.vision > 0 ? std::floor(rest / layer.vision) - 1 : num_vision);
  }
  return static_cast<std::size_t>(std::clamp(count, 0.0, num_layers));
}

// OmniBal's counts with a given reserve.
void let_layers_off(const CutProblem& problem, const StageLayout& all_recomputed,
                    const LayerBytes& layer_bytes, Bytes reserve, StageLayout& layout) {
  layout = all_recomputed;
  for (std::size_t stage = 0; stage < layout.num_stages(); ++stage) {
    const Bytes left = problem.capacity - stage_bytes(problem, all_recomputed, stage) - reserve;
    const std::vector<std::size_t> layers = layers_from_last(problem, layout, stage);
    const auto num_vision =
        static_cast<double>(std::count_if(layers.begin(), layers.end(), [&](std::size_t layer) {
          return is_vision_layer(problem, layer);
        }));
    const double num_text = static_cast<double>(layers.size()) - num_vision;
    const std::size_t count = count_let_off(num_vision, num_text, left, layer_bytes);
    for (std::size_t i = 0; i < count; ++i) layout.recompute[layers[i]] = Recompute::kKeep;
  }
}

bool choose_as_omnibal(const CutProblem& problem, const OmniBalOptions& options,
                       StageLayout& layout) {
  StageLayout all_recomputed = layout;
  recompute_layers_only(problem, all_recomputed);
  if (!fits(problem, all_recomputed)) return false;
  const LayerBytes layer_bytes = profile_layer_bytes(problem, all_recomputed);
  Bytes reserve = options.reserve_bytes;
  let_layers_off(problem, all_recomputed, layer_bytes, reserve, layout);
  while (!fits(problem, layout) && reserve < problem.capacity) {
    reserve += problem.capacity * kReserveStep;
    let_layers_off(problem, all_recomputed, layer_bytes, reserve, layout);
  }
  return fits(problem, layout);
}

bool choose_by_knapsack(const CutProblem& problem, StageLayout& layout) {
  const PartitionProblem partition = partition_problem(problem);
  GIMBAL_CHECK_EQ(partition.in_flight.size(), layout.num_stages());
  StageKnapsack knapsack(partition);
  Partition chosen;
  chosen.stage_begin = layout.stage_begin;
  chosen.option.resize(partition.blocks.size());
  for (std::size_t stage = 0; stage < layout.num_stages(); ++stage) {
    const std::size_t begin = layout.stage_begin[stage], end = layout.stage_begin[stage + 1];
    const int in_flight = partition.in_flight[stage];
    if (knapsack.least_time(begin, end, in_flight) == StageKnapsack::kInfeasible) return false;
    knapsack.choose(begin, end, in_flight, chosen.option);
  }
  layout = to_layout(chosen, *problem.costs);
  return true;
}

}  // namespace

bool choose_recompute(const CutProblem& problem, RecomputeMethod method,
                      const OmniBalOptions& options, StageLayout& layout) {
  GIMBAL_CHECK_EQ(layout.num_stages(), static_cast<std::size_t>(problem.num_stages));
  const StageLayout full = full_recompute_layout(problem, layout.stage_begin);
  StageLayout chosen = full;
  bool found = false;
  switch (method) {
    case RecomputeMethod::kFull:
      found = fits(problem, chosen);
      break;
    case RecomputeMethod::kNone:
      std::fill(chosen.recompute.begin(), chosen.recompute.end(), Recompute::kKeep);
      found = fits(problem, chosen);
      break;
    case RecomputeMethod::kOmniBal:
      found = choose_as_omnibal(problem, options, chosen);
      break;
    case RecomputeMethod::kKnapsack:
      found = choose_by_knapsack(problem, chosen);
      break;
  }
  layout = found ? std::move(chosen) : full;
  return found;
}

}  // namespace gimbal
