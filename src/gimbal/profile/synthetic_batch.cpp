#include "gimbal/profile/synthetic_batch.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

struct TileSize {
  std::int64_t channels = 3, height = 448, width = 448;  // InternVL's defaults
};

TileSize tile_size_of(const Model& model) {
  TileSize size;
  const auto vision = model.config.find("vision_config");
  if (vision == model.config.end()) return size;
  if (const auto side = vision->find("image_size"); side != vision->end()) {
    size.height = side->is_array() ? side->at(0).get<std::int64_t>() : side->get<std::int64_t>();
    size.width = side->is_array() ? side->at(1).get<std::int64_t>() : size.height;
  }
  size.channels = vision->value("num_channels", size.channels);
  return size;
}

at::Tensor random_pixels(std::int64_t num_tiles, const TileSize& size, const CounterRng& rng) {
  at::Tensor pixels =
      at::empty({num_tiles, size.channels, size.height, size.width}, at::TensorOptions(at::kFloat));
  auto* values = pixels.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < pixels.numel(); ++i)
    values[i] = static_cast<float>(2 * rng.uniform(static_cast<std::uint64_t>(i)) - 1);
  return pixels;
}

}  // namespace

Batch synthetic_batch(const PackShape& pack, const Model& model, std::uint64_t seed) {
  const CounterRng rng(seed, hash_name("synthetic batch"));
  const auto vocab = static_cast<std::uint64_t>(model.vocab_size);
  std::vector<std::int64_t> ids, positions, image_rows, loss_rows, targets;
  std::vector<float> weights;
  Batch batch;
  batch.text_cu_seqlens = {0};
  for (std::size_t s = 0; s < pack.size(); ++s) {
    const SampleShape& sample = pack[s];
    const std::int64_t first = batch.text_cu_seqlens.back();
    const std::int64_t visual = sample.vision_rows * model.image_seq_length;
    GIMBAL_CHECK(sample.tokens >= 1 && visual <= sample.tokens, "sample of ", sample.tokens,
                 " tokens with ", visual, " visual ones");
    for (std::int64_t i = 0; i < sample.tokens; ++i) {
      auto id = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(first + i), vocab));
      if (i < visual) {
        id = model.image_token_id;
        image_rows.push_back(first + i);
      } else if (id == model.image_token_id) {
        id = id == 0 ? 1 : 0;
      }
      ids.push_back(id);
      positions.push_back(i);
    }
    const std::int64_t num_targets = std::min(sample.loss_tokens, sample.tokens - 1);
    for (std::int64_t i = sample.tokens - num_targets; i < sample.tokens; ++i) {
      loss_rows.push_back(first + i - 1);
      targets.push_back(ids[static_cast<std::size_t>(first + i)]);
      weights.push_back(1.0F);
    }
    batch.num_tiles += sample.vision_rows;
    batch.samples.push_back(static_cast<std::uint32_t>(s));
    batch.text_cu_seqlens.push_back(first + sample.tokens);
  }
  batch.token_ids_T = at::tensor(ids, at::kLong);
  batch.positions_T = at::tensor(positions, at::kLong);
  batch.image_rows_R = at::tensor(image_rows, at::kLong);
  batch.loss_rows_Q = at::tensor(loss_rows, at::kLong);
  batch.targets_Q = at::tensor(targets, at::kLong);
  batch.loss_weights_Q = at::tensor(weights, at::kFloat);
  batch.image_rows = std::move(image_rows);
  batch.loss_rows = std::move(loss_rows);
  if (model.image_token_id >= 0)
    batch.pixels_ICYX = random_pixels(batch.num_tiles, tile_size_of(model), rng);
  return batch;
}

}  // namespace gimbal
