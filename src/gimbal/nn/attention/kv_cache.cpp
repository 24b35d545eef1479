#include "gimbal/nn/attention/kv_cache.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

void check_room(std::int64_t length, std::int64_t room) {
  GIMBAL_USER_CHECK(length <= room, "generation: the sequence needs ", length,
                    " tokens but the key-value cache has room for ", room,
                    "; generate fewer tokens or shorten the prompt");
}

}  // namespace

KvCache::KvCache(std::int64_t num_layers, std::int64_t num_sequences, std::int64_t max_tokens,
                 std::int64_t num_kv_heads, std::int64_t head_dim, const at::TensorOptions& options)
    : max_tokens_(max_tokens),
      num_kv_heads_(num_kv_heads),
      head_dim_(head_dim),
      options_(options),
      keys_(static_cast<std::size_t>(num_layers)),
      values_(static_cast<std::size_t>(num_layers)),
      lengths_(static_cast<std::size_t>(num_sequences), 0) {}

void KvCache::make_layer(std::int64_t layer) {
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(lengths_.size()), max_tokens_,
                                        num_kv_heads_, head_dim_};
  keys_.at(static_cast<std::size_t>(layer)) = at::zeros(shape, options_);
  values_.at(static_cast<std::size_t>(layer)) = at::zeros(shape, options_);
}

void KvCache::store_prompt(std::int64_t layer, const at::Tensor& k_TKH, const at::Tensor& v_TKH,
                           const std::vector<std::int64_t>& cu_seqlens) {
  GIMBAL_CHECK(empty_, "a prompt can only be stored in an empty cache");
  GIMBAL_CHECK_EQ(cu_seqlens.size(), lengths_.size() + 1);
  for (std::size_t b = 0; b < lengths_.size(); ++b)
    check_room(cu_seqlens[b + 1] - cu_seqlens[b], max_tokens_);
  const at::NoGradGuard no_grad;
  make_layer(layer);
  for (std::size_t b = 0; b < lengths_.size(); ++b) {
    const std::int64_t begin = cu_seqlens[b], length = cu_seqlens[b + 1] - begin;
    const auto row = static_cast<std::int64_t>(b);
    keys(layer).select(0, row).narrow(0, 0, length).copy_(k_TKH.narrow(0, begin, length));
    values(layer).select(0, row).narrow(0, 0, length).copy_(v_TKH.narrow(0, begin, length));
  }
}

void KvCache::store_next(std::int64_t layer, const at::Tensor& k_BKH, const at::Tensor& v_BKH) {
  GIMBAL_CHECK(!empty_, "the prompt has to be stored first");
  GIMBAL_CHECK(keys(layer).defined(), "the prompt of this layer has to be stored first: layer ",
               layer);
  const at::NoGradGuard no_grad;
  for (const std::int64_t length : lengths_) check_room(length + 1, max_tokens_);
  const at::Device device = k_BKH.device();
  const at::Tensor rows = at::arange(k_BKH.size(0), at::TensorOptions(at::kLong).device(device));
  const at::Tensor places = at::tensor(lengths_, at::kLong).to(device);
  at::Tensor k = keys(layer), v = values(layer);
  k.index_put_({rows, places}, k_BKH);
  v.index_put_({rows, places}, v_BKH);
}

void KvCache::advance(const std::vector<std::int64_t>& num_tokens) {
  GIMBAL_CHECK_EQ(num_tokens.size(), lengths_.size());
  for (std::size_t b = 0; b < lengths_.size(); ++b) lengths_[b] += num_tokens[b];
  empty_ = false;
}

}  // namespace gimbal
