#include "gimbal/arch/model_desc.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

bool is_pixel_or_token_embedding(BlockKind kind) {
  return kind == BlockKind::kVisionEmbed || kind == BlockKind::kTextEmbed;
}

// Which parts of the block are computed again at the level.
bool recomputes_part(const BlockDesc& block, Recompute level, std::size_t part) {
  if (level == Recompute::kKeep) return false;
  if (block.parts.size() == 1 || level == Recompute::kFull) return true;
  return (level == Recompute::kAttention) == (part == 0);
}

Flops part_flops(const PartDesc& part, double rows, double pairs) {
  return (part.product_flops_per_row + part.attention_flops_per_row) * rows +
         part.attention_flops_per_pair * pairs;
}

// A whole block keeps one input; its second part's is computed again.
bool keeps_only_first_input(const BlockDesc& block, Recompute level) {
  return level == Recompute::kFull || (level != Recompute::kKeep && block.parts.size() == 1);
}

// What a rank keeps of a row of the pack beyond its share when the part is not recomputed.
double values_beyond_share(const PartDesc& part, int sp, int tp) {
  const double ranks = sp * tp;
  double values = part.gathered_values_per_row * (1.0 / sp - 1.0 / ranks);
  if (sp > 1) values += part.attended_values_per_row / ranks;
  if (part.num_key_value_heads > 0) {
    const double head = 1.0 / static_cast<double>(part.num_key_value_heads);
    values += part.key_value_values_per_row * std::max(0.0, head - 1 / ranks);
  }
  return values;
}

// Key-value heads go whole onto ranks: those that do not go evenly are on all of them.
bool has_whole_key_values(const BlockDesc& block, int tp) {
  return std::ranges::any_of(
      block.parts, [tp](const PartDesc& part) { return part.num_key_value_heads % tp != 0; });
}

}  // namespace

WorkSize operator+(const WorkSize& a, const WorkSize& b) {
  return {a.text_rows + b.text_rows, a.text_pairs + b.text_pairs, a.loss_rows + b.loss_rows,
          a.vision_rows + b.vision_rows, a.vision_pairs + b.vision_pairs};
}

WorkSize operator*(double factor, const WorkSize& work) {
  return {factor * work.text_rows, factor * work.text_pairs, factor * work.loss_rows,
          factor * work.vision_rows, factor * work.vision_pairs};
}

double BlockDesc::flops_per_row() const {
  double sum = 0;
  for (const PartDesc& part : parts)
    sum += part.product_flops_per_row + part.attention_flops_per_row;
  return sum;
}

double BlockDesc::flops_per_pair() const {
  double sum = 0;
  for (const PartDesc& part : parts) sum += part.attention_flops_per_pair;
  return sum;
}

std::int64_t ModelDesc::num_parameters() const {
  std::int64_t sum = 0;
  for (const BlockDesc& block : blocks) sum += block.num_parameters;
  return sum;
}

double work_rows(const BlockDesc& block, const WorkSize& work) {
  switch (block.kind) {
    case BlockKind::kVisionEmbed:
    case BlockKind::kVisionLayer:
    case BlockKind::kProjector:
      return work.vision_rows;
    case BlockKind::kTextEmbed:
    case BlockKind::kTextLayer:
    case BlockKind::kTextNorm:
      return work.text_rows;
    case BlockKind::kTextHead:
      return work.loss_rows;
  }
  GIMBAL_CHECK(false, "unknown kind of block '", block.name, "'");
}

double work_pairs(const BlockDesc& block, const WorkSize& work) {
  if (block.kind == BlockKind::kVisionLayer) return work.vision_pairs;
  return block.kind == BlockKind::kTextLayer ? work.text_pairs : 0;
}

std::vector<GradientNeed> gradient_needs(const ModelDesc& model, const std::vector<bool>& frozen) {
  GIMBAL_CHECK_EQ(frozen.size(), model.blocks.size());
  std::vector<GradientNeed> needs;
  bool trainable_before = false;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const BlockDesc& block = model.blocks[i];
    GradientNeed need{.weights = !frozen[i], .inputs = trainable_before};
    if (block.unused) need = {.weights = false, .inputs = false};
    if (need.weights && !is_pixel_or_token_embedding(block.kind)) need.inputs = true;
    trainable_before = trainable_before || need.weights;
    needs.push_back(need);
  }
  return needs;
}

Flops forward_flops(const BlockDesc& block, const WorkSize& work) {
  return block.flops_per_row() * work_rows(block, work) +
         block.flops_per_pair() * work_pairs(block, work);
}

Flops backward_flops(const BlockDesc& block, const WorkSize& work, const GradientNeed& need) {
  const double product_factor = (need.weights ? 1.0 : 0.0) + (need.inputs ? 1.0 : 0.0);
  const double attention_factor = need.weights || need.inputs ? 2.0 : 0.0;
  const double rows = work_rows(block, work), pairs = work_pairs(block, work);
  Flops sum = 0;
  for (const PartDesc& part : block.parts)
    sum += product_factor * part.product_flops_per_row * rows +
           attention_factor *
               (part.attention_flops_per_row * rows + part.attention_flops_per_pair * pairs);
  return sum;
}

Flops training_flops(const ModelDesc& model, const WorkSize& work,
                     const std::vector<bool>& frozen) {
  const std::vector<GradientNeed> needs = gradient_needs(model, frozen);
  Flops sum = 0;
  for (std::size_t i = 0; i < model.blocks.size(); ++i)
    sum += forward_flops(model.blocks[i], work) + backward_flops(model.blocks[i], work, needs[i]);
  return sum;
}

std::vector<Recompute> recompute_levels(const BlockDesc& block) {
  GIMBAL_CHECK(block.parts.size() == 1 || block.parts.size() == 2, "block '", block.name, "' has ",
               block.parts.size(), " parts");
  if (block.parts.size() == 2 && !block.unused)
    return {Recompute::kKeep, Recompute::kAttention, Recompute::kMlp, Recompute::kFull};
  const PartDesc& part = block.parts.front();
  if (block.unused || part.saved_values_per_row <= part.input_values_per_row)
    return {Recompute::kKeep};
  return {Recompute::kKeep, Recompute::kFull};
}

Flops recompute_flops(const BlockDesc& block, const WorkSize& work, Recompute level) {
  const double rows = work_rows(block, work), pairs = work_pairs(block, work);
  Flops sum = 0;
  for (std::size_t p = 0; p < block.parts.size(); ++p)
    if (recomputes_part(block, level, p)) sum += part_flops(block.parts[p], rows, pairs);
  return sum;
}

double saved_values(const BlockDesc& block, const WorkSize& work, Recompute level) {
  const double rows = work_rows(block, work);
  if (keeps_only_first_input(block, level)) return block.parts.front().input_values_per_row * rows;
  double per_row = 0;
  for (std::size_t p = 0; p < block.parts.size(); ++p) {
    const PartDesc& part = block.parts[p];
    per_row +=
        recomputes_part(block, level, p) ? part.input_values_per_row : part.saved_values_per_row;
  }
  return per_row * rows;
}

double rank_saved_values(const BlockDesc& block, const WorkSize& work, Recompute level, int sp,
                         int tp) {
  double values = saved_values(block, work, level) / (sp * tp);
  for (std::size_t p = 0; p < block.parts.size(); ++p) {
    if (!recomputes_part(block, level, p))
      values += values_beyond_share(block.parts[p], sp, tp) * work_rows(block, work);
  }
  return values;
}

double rank_dense_parameters(const BlockDesc& block, int tp) {
  auto whole = static_cast<double>(block.num_uncut_parameters);
  if (has_whole_key_values(block, tp)) whole += static_cast<double>(block.num_key_value_parameters);
  const auto dense = static_cast<double>(block.num_parameters - block.num_expert_parameters);
  return whole + (dense - whole) / tp;
}

double recomputed_values(const BlockDesc& block, const WorkSize& work, Recompute level) {
  return saved_values(block, work, Recompute::kKeep) - saved_values(block, work, level);
}

double rank_recomputed_values(const BlockDesc& block, const WorkSize& work, Recompute level, int sp,
                              int tp) {
  return rank_saved_values(block, work, Recompute::kKeep, sp, tp) -
         rank_saved_values(block, work, level, sp, tp);
}

double cut_values(const ModelDesc& model, std::size_t index, const WorkSize& work) {
  GIMBAL_CHECK(index < model.blocks.size(), "no block ", index, " of ", model.blocks.size());
  const BlockDesc& block = model.blocks[index];
  return block.output_values_per_row * work_rows(block, work) +
         block.carried_values_per_vision_row * work.vision_rows;
}

}  // namespace gimbal
