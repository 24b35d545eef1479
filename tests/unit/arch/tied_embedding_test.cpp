#include <gtest/gtest.h>

#include "gimbal/arch/model_desc.h"

namespace gimbal {
namespace {

ModelDesc tied_text_model() {
  ModelDesc model;
  for (const BlockKind kind : {BlockKind::kVisionEmbed, BlockKind::kTextEmbed,
                               BlockKind::kTextLayer, BlockKind::kTextHead}) {
    BlockDesc block;
    block.kind = kind;
    model.blocks.push_back(block);
  }
  model.tied_embeddings = true;
  return model;
}

TEST(TiedEmbedding, IsUsedByTheRankOfTheHead) {
  const ModelDesc model = tied_text_model();
  EXPECT_EQ(tied_embedding(model), 1U);
  EXPECT_EQ(tied_use(model, {0, 1, 2, 3}), TiedUse::kBoth);
  EXPECT_EQ(tied_use(model, {1, 3}), TiedUse::kBoth);
  EXPECT_EQ(tied_use(model, {0, 2, 3}), TiedUse::kCopy);
  EXPECT_EQ(tied_use(model, {0, 1, 2}), TiedUse::kPlain);
  EXPECT_EQ(tied_use(model, {}), TiedUse::kPlain);
}

TEST(TiedEmbedding, IsNoneWhereNothingIsTied) {
  ModelDesc model = tied_text_model();
  model.tied_embeddings = false;
  EXPECT_EQ(tied_embedding(model), model.blocks.size());
  EXPECT_EQ(tied_use(model, {0, 1, 2, 3}), TiedUse::kPlain);
  EXPECT_EQ(tied_use(model, {3}), TiedUse::kPlain);
}

}  // namespace
}  // namespace gimbal
