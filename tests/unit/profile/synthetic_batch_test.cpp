#include "gimbal/profile/synthetic_batch.h"

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

namespace gimbal {
namespace {

Model picture_model() {
  Model model;
  model.config = Json::parse(R"({"vision_config": {"image_size": [8, 12], "num_channels": 3}})");
  model.vocab_size = 50;
  model.image_token_id = 7;
  model.image_seq_length = 4;
  return model;
}

TEST(SyntheticBatch, HasTheSizesOfThePack) {
  const Model model = picture_model();
  const PackShape pack{{20, 2, 5}, {6, 0, 2}, {9, 1, 1}};
  const Batch batch = synthetic_batch(pack, model, 1);
  EXPECT_EQ(batch.text_cu_seqlens, (std::vector<std::int64_t>{0, 20, 26, 35}));
  EXPECT_EQ(batch.pixels_ICYX.sizes(), (std::vector<std::int64_t>{3, 3, 8, 12}));
  EXPECT_EQ(batch.image_rows_R.numel(), 3 * 4);
  EXPECT_EQ(batch.num_tiles, 3);
  EXPECT_EQ(batch.image_rows.size(), 12U);
  EXPECT_EQ(batch.loss_rows.size(), 8U);
  EXPECT_EQ(batch.loss_rows_Q.numel(), 8);
  EXPECT_EQ(batch.targets_Q.numel(), 8);
  EXPECT_EQ(batch.loss_weights_Q.numel(), 8);
  const auto* ids = batch.token_ids_T.const_data_ptr<std::int64_t>();
  const auto* places = batch.image_rows_R.const_data_ptr<std::int64_t>();
  std::int64_t images = 0;
  for (std::int64_t i = 0; i < 35; ++i) {
    EXPECT_GE(ids[i], 0);
    EXPECT_LT(ids[i], 50);
    if (ids[i] == 7) {
      EXPECT_EQ(places[images++], i);
    }
  }
  EXPECT_EQ(images, 12);
  // A row predicts the token behind it.
  const auto* rows = batch.loss_rows_Q.const_data_ptr<std::int64_t>();
  const auto* targets = batch.targets_Q.const_data_ptr<std::int64_t>();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(targets[i], ids[rows[i] + 1]);
  EXPECT_EQ(rows[0], 14);
}

TEST(SyntheticBatch, IsAFunctionOfTheSeed) {
  const Model model = picture_model();
  const PackShape pack{{30, 1, 5}};
  const Batch a = synthetic_batch(pack, model, 1), b = synthetic_batch(pack, model, 1),
              c = synthetic_batch(pack, model, 2);
  EXPECT_TRUE(at::equal(a.token_ids_T, b.token_ids_T));
  EXPECT_TRUE(at::equal(a.pixels_ICYX, b.pixels_ICYX));
  EXPECT_FALSE(at::equal(a.token_ids_T, c.token_ids_T));
}

TEST(SyntheticBatch, TextModelsHaveNoPixels) {
  Model model;
  model.config = Json::object();
  model.vocab_size = 50;
  const Batch batch = to_device(synthetic_batch({{10, 0, 3}}, model, 1), at::kCPU);
  EXPECT_FALSE(batch.pixels_ICYX.defined());
  EXPECT_EQ(batch.token_ids_T.numel(), 10);
}

}  // namespace
}  // namespace gimbal
