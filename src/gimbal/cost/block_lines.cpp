// How tp, sp and ep change the profiled costs of a block.
#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/cost/communication.h"
#include "gimbal/cost/cost_model.h"

namespace gimbal {
namespace {

constexpr std::array kAllLevels = {Recompute::kKeep, Recompute::kAttention, Recompute::kMlp,
                                   Recompute::kFull};

std::size_t index_of(Recompute level) { return static_cast<std::size_t>(level); }

CostLine plus(const CostLine& a, const CostLine& b) {
  return {a.base + b.base, a.per_row + b.per_row, a.per_pair + b.per_pair};
}

// The fixed part is not shared: kernels start on each device.
CostLine shared(const CostLine& line, double share) {
  return {line.base, line.per_row * share, line.per_pair * share};
}

CostLine times(double factor, const CostLine& line) {
  return {factor * line.base, factor * line.per_row, factor * line.per_pair};
}

// Ranks have whole heads: where tp does not divide them, those with one more set the pace, and
// attention takes as long as that of the next multiple of heads.
double uneven_heads(const ModelDesc& model, const BlockDesc& block, int tp) {
  const bool vision = block.kind == BlockKind::kVisionLayer;
  if (!vision && block.kind != BlockKind::kTextLayer) return 1;
  const std::int64_t heads = vision ? model.vision_heads : model.text_heads;
  if (heads == 0) return 1;
  const std::int64_t largest = (heads + tp - 1) / tp;
  return static_cast<double>(largest * tp) / static_cast<double>(heads);
}

// The line with `factor` times the work of attention, which does `row_share` of the work on rows
// and all of that on pairs.
CostLine with_attention(const CostLine& line, double row_share, double factor) {
  return {line.base, line.per_row * (1 + (factor - 1) * row_share), line.per_pair * factor};
}

// Fixed bytes are of the size of the block's weights: which share of these one of tp ranks has. A
// tied head, which owns none, computes with a vocabulary that is cut.
double weight_share(const BlockDesc& block, int tp) {
  if (block.num_parameters == 0) return 1.0 / tp;
  const auto experts = static_cast<double>(block.num_expert_parameters);
  return (rank_dense_parameters(block, tp) + experts / tp) /
         static_cast<double>(block.num_parameters);
}

using Collective = Seconds (*)(const LinkCost&, int, Bytes);

// `collective` on `bytes_per_row` bytes per row: affine in the bytes.
CostLine collective_line(Collective collective, const LinkCost& link, int ranks,
                         double bytes_per_row) {
  const Seconds empty = collective(link, ranks, 0);
  return {empty, collective(link, ranks, bytes_per_row) - empty, 0};
}

// The member of WorkSize that `get` reads; none when it reads nothing.
template <typename Get>
double WorkSize::*member_of(Get get) {
  double WorkSize::*found = nullptr;
  for (double WorkSize::*member :
       {&WorkSize::text_rows, &WorkSize::text_pairs, &WorkSize::loss_rows, &WorkSize::vision_rows,
        &WorkSize::vision_pairs}) {
    WorkSize unit;
    unit.*member = 1;
    if (get(unit) == 0) continue;
    GIMBAL_CHECK(found == nullptr && get(unit) == 1, "work that is not one member of WorkSize");
    found = member;
  }
  return found;
}

// The level whose costs stand for `level`.
Recompute level_for(const std::vector<Recompute>& levels, Recompute level) {
  const auto has = [&](Recompute l) {
    return std::find(levels.begin(), levels.end(), l) != levels.end();
  };
  if (has(level)) return level;
  return has(Recompute::kFull) ? Recompute::kFull : Recompute::kKeep;
}

}  // namespace

CostModel::BlockLines CostModel::block_lines(std::size_t block) const {
  const BlockDesc& desc = model_.blocks[block];
  const BlockCost& cost = profile_.block(desc.cost_class);
  const GradientNeed& need = needs_[block];
  const MeshShape& mesh = settings_.mesh;
  const bool has_backward = need.inputs || need.weights;
  BlockLines lines;
  lines.rows = member_of([&](const WorkSize& work) { return work_rows(desc, work); });
  lines.pairs = member_of([&](const WorkSize& work) { return work_pairs(desc, work); });
  GIMBAL_CHECK(lines.rows != nullptr, "block '", desc.name, "' has no rows");

  const double share =
      1.0 / (mesh.sp * mesh.tp *
             std::pow(settings_.tensor_parallel_efficiency, std::log2(double(mesh.tp))));
  const auto line_of = [&, factor = uneven_heads(model_, desc, mesh.tp)](const CostLine& line,
                                                                         double attention_share) {
    return shared(with_attention(line, attention_share, factor), share);
  };
  const double attention_rows = cost.recompute[index_of(Recompute::kAttention)].per_row;
  const double all_rows = cost.recompute[index_of(Recompute::kFull)].per_row;
  const double attention_share = all_rows > 0 ? std::min(1.0, attention_rows / all_rows) : 0;
  lines.forward = line_of(cost.forward, attention_share);
  if (need.inputs) lines.backward_input = line_of(cost.backward_input, attention_share);
  if (need.weights) lines.backward_weight = line_of(cost.backward_weight, attention_share);
  if (has_backward) {
    for (const Recompute level : kAllLevels) {
      const Recompute actual = level_for(levels_[block], level);
      if (actual == Recompute::kKeep) continue;
      const double part = actual == Recompute::kAttention ? 1
                          : actual == Recompute::kMlp     ? 0
                                                          : attention_share;
      lines.recompute[index_of(level)] = line_of(cost.recompute[index_of(actual)], part);
    }
  }
  add_messages(desc, need, lines);
  scale_bytes(desc, cost, has_backward, lines);

  const double value_share = double(profile_.value_bytes) / (mesh.sp * mesh.tp);
  const auto cut_per = [&](double WorkSize::*member) {
    WorkSize unit;
    unit.*member = 1;
    return value_share * cut_values(model_, block, unit);
  };
  lines.cut_bytes_per_row.text_rows = cut_per(&WorkSize::text_rows);
  lines.cut_bytes_per_row.loss_rows = cut_per(&WorkSize::loss_rows);
  lines.cut_bytes_per_row.vision_rows = cut_per(&WorkSize::vision_rows);
  return lines;
}

void CostModel::add_messages(const BlockDesc& desc, const GradientNeed& need,
                             BlockLines& lines) const {
  const MeshShape& mesh = settings_.mesh;
  const double value_bytes = profile_.value_bytes;
  CostLine reductions, exchanges, dispatches;  // tp, sp, ep; of one forward pass
  if (mesh.tp > 1 && desc.tensor_reductions > 0) {
    reductions = times(desc.tensor_reductions,
                       collective_line(all_reduce_seconds, link(mesh.tp, 1, "tp"), mesh.tp,
                                       desc.output_values_per_row * value_bytes / mesh.sp));
  }
  if (mesh.sp > 1 && desc.exchanged_values_per_row > 0) {
    // Two messages, q, k, v and the result, that carry the values together.
    const double bytes = desc.exchanged_values_per_row * value_bytes / (mesh.sp * mesh.tp);
    exchanges = times(
        2, collective_line(all_to_all_seconds, link(mesh.sp, mesh.tp, "sp"), mesh.sp, bytes / 2));
  }
  if (mesh.ep > 1 && desc.dispatched_values_per_row > 0) {
    const double bytes = desc.dispatched_values_per_row * value_bytes / (mesh.sp * mesh.tp);
    dispatches =
        times(2, collective_line(all_to_all_seconds, link(mesh.ep, mesh.tp, "ep"), mesh.ep, bytes));
  }
  lines.forward_messages = plus(reductions, plus(exchanges, dispatches));
  lines.forward = plus(lines.forward, lines.forward_messages);
  if (!need.inputs && !need.weights) return;
  // The messages of backward are those of forward in the other direction. They carry gradients of
  // activations, so they belong to the half of input gradients where the block has it.
  lines.backward_messages = lines.forward_messages;
  CostLine& half = need.inputs ? lines.backward_input : lines.backward_weight;
  half = plus(half, lines.backward_messages);
  const std::vector<Recompute> levels = recompute_levels(desc);
  const bool two_parts = desc.parts.size() == 2;
  for (const Recompute level : kAllLevels) {
    const Recompute actual = level_for(levels, level);
    if (actual == Recompute::kKeep) continue;
    const bool first = actual != Recompute::kMlp, second = actual != Recompute::kAttention;
    CostLine& messages = lines.recompute_messages[index_of(level)];
    messages = times(two_parts && !(first && second) ? 0.5 : 1.0, reductions);
    if (first) messages = plus(messages, exchanges);
    if (second) messages = plus(messages, dispatches);
    CostLine& recompute = lines.recompute[index_of(level)];
    recompute = plus(recompute, messages);
  }
}

void CostModel::scale_bytes(const BlockDesc& desc, const BlockCost& cost, bool has_backward,
                            BlockLines& lines) const {
  const int sp = settings_.mesh.sp, tp = settings_.mesh.tp;
  const double share = 1.0 / (sp * tp);
  // What a rank keeps of a row beyond its share of what one device keeps.
  WorkSize row;
  row.*lines.rows = 1;
  const auto beyond_share = [&](Recompute level) {
    return profile_.value_bytes *
           (rank_saved_values(desc, row, level, sp, tp) - share * saved_values(desc, row, level));
  };
  const auto of_rank = [&, weights = weight_share(desc, tp)](CostLine line) {
    line.base *= weights;
    return shared(line, share);
  };
  lines.forward_workspace = of_rank(cost.forward_workspace);
  if (!has_backward) {
    // Nothing is saved, and the output is not yet anyone else's.
    lines.forward_workspace = plus(lines.forward_workspace, of_rank(cost.output));
    return;
  }
  const std::vector<Recompute> levels = recompute_levels(desc);
  for (const Recompute level : kAllLevels) {
    const Recompute actual = level_for(levels, level);
    CostLine& saved = lines.saved[index_of(level)];
    CostLine& workspace = lines.backward_workspace[index_of(level)];
    saved = of_rank(cost.saved[index_of(actual)]);
    workspace = of_rank(cost.backward_workspace[index_of(actual)]);
    saved.per_row += beyond_share(actual);
    workspace.per_row += beyond_share(Recompute::kKeep) - beyond_share(actual);
  }
}

}  // namespace gimbal
