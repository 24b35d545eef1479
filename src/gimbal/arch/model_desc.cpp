#include "gimbal/arch/model_desc.h"

#include "gimbal/base/error.h"

namespace gimbal {

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
      return work.vision_tiles;
    case BlockKind::kTextEmbed:
    case BlockKind::kTextLayer:
    case BlockKind::kTextNorm:
      return work.text_rows;
    case BlockKind::kTextHead:
      return work.loss_rows;
  }
  GIMBAL_CHECK(false, "unknown kind of block '", block.name, "'");
}

double forward_flops(const BlockDesc& block, const WorkSize& work) {
  return block.flops_per_row * work_rows(block, work) + block.flops_per_pair * work.text_pairs;
}

double training_flops(const ModelDesc& model, const WorkSize& work,
                      const std::vector<bool>& frozen) {
  GIMBAL_CHECK_EQ(frozen.size(), model.blocks.size());
  double sum = 0;
  bool any_trainable = false;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const BlockDesc& block = model.blocks[i];
    const double row_flops = block.flops_per_row * work_rows(block, work);
    const double pair_flops = block.flops_per_pair * work.text_pairs;
    any_trainable = any_trainable || !frozen[i];
    sum += row_flops + pair_flops;
    if (!any_trainable) continue;
    sum += (frozen[i] ? 1.0 : 2.0) * row_flops + 2.0 * pair_flops;
  }
  return sum;
}

}  // namespace gimbal
