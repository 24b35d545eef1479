// Measurements of blocks to cost lines.
#include <algorithm>
#include <cmath>
#include <functional>

#include "gimbal/base/error.h"
#include "gimbal/cost/fit.h"
#include "gimbal/profile/measure_blocks.h"

namespace gimbal {
namespace {

/// A figure of a block in a pack.
using Figure = std::function<double(const PackCosts&, std::size_t block)>;

/// Means over the blocks of a class, one measurement per pack that has rows of it.
class ClassMeasurements {
 public:
  ClassMeasurements(const ModelDesc& model, const std::vector<PackCosts>& packs,
                    const std::string& cost_class)
      : model_(model), packs_(packs) {
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      if (model.blocks[i].cost_class == cost_class) blocks_.push_back(i);
    }
  }

  FittedLine fit(const Figure& figure) const {
    std::vector<Measurement> measurements;
    const BlockDesc& desc = model_.blocks[blocks_.front()];
    for (const PackCosts& pack : packs_) {
      Measurement m{work_rows(desc, pack.work), work_pairs(desc, pack.work), 0};
      if (m.rows <= 0) continue;
      for (const std::size_t block : blocks_) m.value += figure(pack, block);
      m.value /= static_cast<double>(blocks_.size());
      measurements.push_back(m);
    }
    GIMBAL_USER_CHECK(!measurements.empty(), "no pack has rows of the ", desc.cost_class,
                      " blocks: the dataset has no sample with pictures or loss tokens that fits "
                      "into the caps. Raise balance.text_cap and balance.vision_cap, or profile "
                      "without data.train.");
    return fit_line(measurements);
  }

  /// The residual is that of the two largest times.
  BlockCost fit_all(int value_bytes) const;

 private:
  const ModelDesc& model_;
  const std::vector<PackCosts>& packs_;
  std::vector<std::size_t> blocks_;
};

const BlockPass& in_mode(const PackCosts& pack, PassMode mode, std::size_t block) {
  return pack.modes[static_cast<std::size_t>(mode)][block];
}

Figure figure_of(PassMode mode, double BlockPass::*member) {
  return [mode, member](const PackCosts& pack, std::size_t block) {
    return in_mode(pack, mode, block).*member;
  };
}

constexpr double CostLine::*kLineParts[] = {&CostLine::base, &CostLine::per_row,
                                            &CostLine::per_pair};

/// The part of `whole` that `line` explains; what remains is left in `whole`.
CostLine take_part(const CostLine& line, CostLine& whole) {
  CostLine part;
  for (double CostLine::*const member : kLineParts) {
    part.*member = std::min(line.*member, whole.*member);
    whole.*member -= part.*member;
  }
  return part;
}

BlockCost ClassMeasurements::fit_all(int value_bytes) const {
  BlockCost cost;
  const FittedLine forward = fit(figure_of(PassMode::kKeep, &BlockPass::forward_seconds));
  const FittedLine backward = fit(figure_of(PassMode::kKeep, &BlockPass::backward_seconds));
  cost.forward = forward.line;
  cost.residual = std::max(forward.residual, backward.residual);
  // The parts are split so that they add up to the whole, which most training needs. The first
  // block has no input that needs a gradient.
  const bool has_input_gradient = blocks_.front() > 0;
  cost.backward_weight = backward.line;
  if (has_input_gradient) {
    const FittedLine input =
        fit(figure_of(PassMode::kInputGradients, &BlockPass::backward_seconds));
    cost.backward_input = take_part(input.line, cost.backward_weight);
  }
  if (has_input_gradient && model_.blocks[blocks_.front()].kind == BlockKind::kTextHead) {
    // The head computes its weight's gradient in forward.
    const FittedLine input = fit(figure_of(PassMode::kInputGradients, &BlockPass::forward_seconds));
    CostLine of_weight = forward.line;
    cost.forward = take_part(input.line, of_weight);
    for (double CostLine::*const member : kLineParts)
      cost.backward_weight.*member += of_weight.*member;
  }
  for (std::size_t level = 0; level < kNumRecomputeLevels; ++level) {
    const auto mode = static_cast<PassMode>(level);
    if (mode != PassMode::kKeep)
      cost.recompute[level] = fit(figure_of(mode, &BlockPass::recompute_seconds)).line;
    cost.saved[level] = fit(figure_of(mode, &BlockPass::saved_bytes)).line;
    cost.backward_workspace[level] = fit(figure_of(mode, &BlockPass::backward_peak_bytes)).line;
  }
  cost.forward_workspace = fit(figure_of(PassMode::kKeep, &BlockPass::forward_peak_bytes)).line;
  cost.output.per_row = model_.blocks[blocks_.front()].output_values_per_row * value_bytes;
  return cost;
}

}  // namespace

std::map<std::string, BlockCost> fit_blocks(const ModelDesc& model,
                                            const std::vector<PackCosts>& packs, int value_bytes) {
  std::map<std::string, BlockCost> costs;
  for (const BlockDesc& block : model.blocks) {
    if (costs.contains(block.cost_class)) continue;
    costs.emplace(block.cost_class,
                  ClassMeasurements(model, packs, block.cost_class).fit_all(value_bytes));
  }
  return costs;
}

}  // namespace gimbal
