// Small models of the real families with batches for them, for tests of the tape.
#pragma once

#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <string>
#include <vector>

#include "gimbal/base/rng.h"
#include "gimbal/models/model.h"
#include "gimbal/parallel/store.h"

namespace gimbal::small_models {

struct Sizes {
  std::int64_t width = 16;
  std::int64_t ffn_width = 24;
  std::int64_t layers = 2;
  std::int64_t vision_width = 12;
  std::int64_t vision_ffn_width = 20;
  std::int64_t image_size = 8;  // patches of 2 x 2, 4 of them to a token
};

inline std::int64_t tokens_per_tile(const Sizes& sizes) {
  return sizes.image_size * sizes.image_size / 16;
}

inline Json text_config(const std::string& family, bool tied, const Sizes& sizes = {}) {
  return {{"model_type", family},
          {"vocab_size", 40},
          {"hidden_size", sizes.width},
          {"intermediate_size", sizes.ffn_width},
          {"num_hidden_layers", sizes.layers},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", sizes.width / 4},
          {"max_position_embeddings", 4096},
          {"tie_word_embeddings", tied}};
}

inline Json internvl_config(const std::string& family, bool tied, const Sizes& sizes = {}) {
  return {{"model_type", "internvl"},
          {"text_config", text_config(family, tied, sizes)},
          {"vision_config",
           {{"hidden_size", sizes.vision_width},
            {"num_hidden_layers", sizes.layers},
            {"num_attention_heads", 3},
            {"intermediate_size", sizes.vision_ffn_width},
            {"image_size", {sizes.image_size, sizes.image_size}},
            {"patch_size", {2, 2}}}},
          {"tie_word_embeddings", tied},
          {"image_token_id", 3},
          {"image_seq_length", tokens_per_tile(sizes)}};
}

/// A pack of samples of the given lengths. The first `num_tiles` samples that have room begin with
/// one tile each. Every token that is no picture's, but the first of a sample, is a target.
inline Batch make_batch(std::uint64_t seed, const std::vector<std::int64_t>& lengths,
                        std::int64_t num_tiles, const Sizes& sizes = {}) {
  const CounterRng rng(seed, hash_name("small models"));
  const std::int64_t tile = tokens_per_tile(sizes);
  Batch batch;
  batch.text_cu_seqlens = {0};
  std::vector<std::int64_t> ids, positions, rows, targets, places;
  std::int64_t tiles = 0;
  for (const std::int64_t length : lengths) {
    const std::int64_t visual = tiles < num_tiles && length > tile ? tile : 0;
    tiles += visual > 0 ? 1 : 0;
    for (std::int64_t i = 0; i < length; ++i) {
      const auto row = static_cast<std::int64_t>(ids.size());
      if (i < visual) places.push_back(row);
      ids.push_back(i < visual ? 3
                               : 5 + static_cast<std::int64_t>(
                                         rng.below(static_cast<std::uint64_t>(row), 30)));
      positions.push_back(i);
      if (i > visual) {
        rows.push_back(row - 1);
        targets.push_back(ids.back());
      }
    }
    batch.text_cu_seqlens.push_back(static_cast<std::int64_t>(ids.size()));
  }
  batch.token_ids_T = at::tensor(ids, at::kLong);
  batch.positions_T = at::tensor(positions, at::kLong);
  batch.image_rows_R = at::tensor(places, at::kLong);
  batch.loss_rows_Q = at::tensor(rows, at::kLong);
  batch.targets_Q = at::tensor(targets, at::kLong);
  batch.loss_weights_Q = at::ones({static_cast<std::int64_t>(rows.size())}, at::kFloat);
  std::vector<float> pixels;
  for (std::int64_t i = 0; i < tiles * 3 * sizes.image_size * sizes.image_size; ++i)
    pixels.push_back(static_cast<float>(rng.normal(static_cast<std::uint64_t>(i) + 1000000)));
  batch.num_tiles = tiles;
  batch.pixels_ICYX =
      at::from_blob(pixels.data(), {tiles, 3, sizes.image_size, sizes.image_size}, at::kFloat)
          .clone();
  return batch;
}

/// The batch's rows as arch counts them.
inline WorkSize work_of(const Batch& batch) {
  WorkSize work;
  for (std::size_t i = 0; i + 1 < batch.text_cu_seqlens.size(); ++i) {
    const auto length =
        static_cast<double>(batch.text_cu_seqlens[i + 1] - batch.text_cu_seqlens[i]);
    work.text_rows += length;
    work.text_pairs += length * length;
  }
  work.loss_rows = static_cast<double>(batch.loss_rows_Q.size(0));
  work.vision_rows = static_cast<double>(batch.pixels_ICYX.size(0));
  return work;
}

/// A replicated store with the models' own first values.
inline std::unique_ptr<ParameterStore> make_store(const Model& model, Comm& comm,
                                                  at::ScalarType compute = at::kFloat) {
  auto store = make_replicated_store(model.blocks, comm, at::kFloat, compute, at::kCPU,
                                     [](const Parameter&) { return 0; });
  for (FlatShard& shard : store->shards()) {
    for (const auto& slice : shard.slices) {
      shard.values.narrow(0, slice.offset, slice.numel)
          .copy_(
              initial_values(*slice.parameter, 7).view({-1}).narrow(0, slice.begin, slice.numel));
    }
  }
  store->values_changed();
  return store;
}

}  // namespace gimbal::small_models
