#include <algorithm>

#include "gimbal/arch/model_desc.h"

namespace gimbal {

std::size_t tied_embedding(const ModelDesc& model) {
  if (!model.tied_embeddings) return model.blocks.size();
  const auto embed = std::ranges::find(model.blocks, BlockKind::kTextEmbed, &BlockDesc::kind);
  return static_cast<std::size_t>(embed - model.blocks.begin());
}

TiedUse tied_use(const ModelDesc& model, const std::vector<std::size_t>& blocks) {
  const std::size_t embedding = tied_embedding(model);
  const bool has_head = std::ranges::any_of(
      blocks, [&](std::size_t i) { return model.blocks[i].kind == BlockKind::kTextHead; });
  if (embedding == model.blocks.size() || !has_head) return TiedUse::kPlain;
  return std::ranges::find(blocks, embedding) == blocks.end() ? TiedUse::kCopy : TiedUse::kBoth;
}

}  // namespace gimbal
