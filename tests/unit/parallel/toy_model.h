// A small model of two streams for tests of store, tape and pipeline: every way in which a flow can
// go (made, changed, passed on, dropped, used twice), a tied parameter, and products that can put
// their weight gradients off.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tanh.h>
#include <c10/core/ScalarType.h>

#include <cmath>
#include <functional>
#include <map>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"
#include "gimbal/models/model.h"
#include "gimbal/parallel/store.h"

namespace gimbal::toy {

constexpr std::int64_t kWidth = 7, kPixels = 5, kVocab = 11;

/// A block whose forward is a function of (block, context, flow). Shapes stay as they are unless
/// `shape` says otherwise.
class ToyBlock : public Block {
 public:
  using Forward = std::function<Flow(const ToyBlock&, const PassContext&, const Flow&)>;
  using Shape = std::function<FlowShape(const Batch&, const FlowShape&)>;
  ToyBlock(const std::string& name, Forward forward) : Block(name), forward_(std::move(forward)) {}
  ToyBlock& shape(Shape shape) {
    shape_ = std::move(shape);
    return *this;
  }
  ToyBlock& weight(const std::string& name, std::vector<std::int64_t> shape) {
    list_.add(this->name() + "." + name, std::move(shape), Init{});
    return *this;
  }
  ToyBlock& borrow(const ParameterPtr& parameter) {
    borrowed_.push_back(parameter);
    return *this;
  }
  const at::Tensor& value(std::size_t i) const { return parameters().at(i)->value; }
  FlowShape output_shape(const Batch& batch, const FlowShape& in) const override {
    return shape_ ? shape_(batch, in) : in;
  }
  Flow forward(const PassContext& context, const Flow& in) const override {
    Flow out = forward_(*this, context, in);
    if (watch) watch(out);
    return out;
  }

  std::function<void(const Flow&)> watch;  // sees the outputs

 private:
  Forward forward_;
  Shape shape_;
};

/// x w, or x w^T. While w.deferred is set, the gradient of w is put off (where x has one: a product
/// with plain data makes it at once).
inline at::Tensor product(const at::Tensor& x, const Parameter& w, bool transposed = false) {
  const auto oriented = [transposed](const at::Tensor& t) { return transposed ? t.t() : t; };
  if (w.deferred == nullptr || !w.value.requires_grad() || !x.requires_grad())
    return at::mm(x, oriented(w.value));
  at::Tensor y = at::mm(x, oriented(w.value.detach()));
  if (!y.requires_grad()) return y;
  const auto add_gradient = [transposed](const at::Tensor& leaf, const at::Tensor& x_MK,
                                         const at::Tensor& g_MN) {
    const at::Tensor gradient = transposed ? at::mm(g_MN.t(), x_MK) : at::mm(x_MK.t(), g_MN);
    at::Tensor& sum = leaf.mutable_grad();
    if (sum.defined())
      sum.add_(gradient);
    else
      sum = gradient;
  };
  y.register_hook(
      [=, deferred = w.deferred, leaf = w.value, kept = x.detach()](const at::Tensor& g) {
        deferred->tasks.push_back([=] { add_gradient(leaf, kept, g); });
      });
  return y;
}

inline ToyBlock& add(Model& model, const std::string& name, ToyBlock::Forward forward) {
  model.blocks.push_back(std::make_unique<ToyBlock>(name, std::move(forward)));
  return static_cast<ToyBlock&>(*model.blocks.back());
}

inline Model make_model() {
  Model model;
  add(model, "vision.embed",
      [](const ToyBlock& b, const PassContext& c, const Flow&) {
        Flow out;
        out.vision = at::mm(c.batch.pixels_ICYX.to(b.value(0).dtype()), b.value(0));
        return out;
      })
      .weight("w", {kPixels, kWidth})
      .shape([](const Batch& batch, const FlowShape&) {
        return FlowShape{RowsShape{batch.num_tiles, kWidth}, std::nullopt};
      });
  add(model, "vision.0",
      [](const ToyBlock& b, const PassContext&, const Flow& in) {
        Flow out;
        out.vision = in.vision + at::tanh(product(in.vision, *b.parameters()[0]) + b.value(1));
        return out;
      })
      .weight("w", {kWidth, kWidth})
      .weight("bias", {kWidth});
  // Vision goes on untouched, as the same tensor, over two blocks and is used in both of them.
  ToyBlock& embed = add(model, "text.embed",
                        [](const ToyBlock& b, const PassContext& c, const Flow& in) {
                          Flow out;
                          out.vision = in.vision;
                          out.text = at::embedding(b.value(0), c.batch.token_ids_T);
                          out.text = at::index_add(out.text, 0, c.batch.image_rows_R, in.vision);
                          return out;
                        })
                        .weight("table", {kVocab, kWidth})
                        .shape([](const Batch& batch, const FlowShape& in) {
                          return FlowShape{in.vision, RowsShape{batch.num_tokens(), kWidth}};
                        });
  add(model, "text.0", [](const ToyBlock& b, const PassContext&, const Flow& in) {
    Flow out;
    out.vision = in.vision;
    out.text = in.text + at::tanh(product(in.text, *b.parameters()[0]));
    return out;
  }).weight("w", {kWidth, kWidth});
  add(model, "text.1",
      [](const ToyBlock& b, const PassContext&, const Flow& in) {
        Flow out;
        out.text =
            in.text + at::tanh(at::mm(in.text, b.value(0))) + at::mm(in.vision, b.value(0)).sum(0);
        return out;
      })
      .weight("w", {kWidth, kWidth})
      .shape([](const Batch&, const FlowShape& in) {
        return FlowShape{std::nullopt, in.text};
      });
  add(model, "text.head",
      [table = embed.parameters()[0]](const ToyBlock& b, const PassContext& c, const Flow& in) {
        Flow out;
        const at::Tensor logits = product(in.text * b.value(0), *table, /*transposed=*/true)
                                      .to(c10::promoteTypes(at::kFloat, in.text.scalar_type()));
        const at::Tensor picked =
            at::gather(at::log_softmax(logits, 1), 1, c.batch.targets_Q.unsqueeze(1)).squeeze(1);
        out.loss = -(picked * c.batch.loss_weights_Q).sum();
        return out;
      })
      .weight("scale", {kWidth})
      .borrow(embed.parameters()[0])
      .shape([](const Batch&, const FlowShape&) { return FlowShape(); });
  return model;
}

inline at::Tensor random_floats(std::vector<std::int64_t> shape, const std::string& name,
                                std::uint64_t seed) {
  std::int64_t numel = 1;
  for (const std::int64_t size : shape) numel *= size;
  const CounterRng rng(seed, hash_name(name));
  std::vector<double> values;
  for (std::int64_t i = 0; i < numel; ++i) {
    values.push_back(0.3 * rng.normal(static_cast<std::uint64_t>(i)));
  }
  return at::from_blob(values.data(), shape, at::kDouble).to(at::kFloat);
}

inline at::Tensor random_ids(std::int64_t count, std::int64_t bound, const std::string& name,
                             std::uint64_t seed) {
  const CounterRng rng(seed, hash_name(name));
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<std::int64_t>(
        rng.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(bound))));
  }
  return at::from_blob(values.data(), {count}, at::kLong).clone();
}

/// `num_images` rows of pixels, each added to a text row; every text row has a target.
inline Batch make_batch(std::uint64_t seed, std::int64_t num_tokens, std::int64_t num_images) {
  Batch batch;
  batch.token_ids_T = random_ids(num_tokens, kVocab, "tokens", seed);
  batch.targets_Q = random_ids(num_tokens, kVocab, "targets", seed);
  batch.pixels_ICYX = random_floats({num_images, kPixels}, "pixels", seed);
  batch.image_rows_R = random_ids(num_images, std::max<std::int64_t>(num_tokens, 1), "rows", seed);
  batch.loss_weights_Q = random_floats({num_tokens}, "weights", seed).abs();
  batch.num_tiles = num_images;
  batch.text_cu_seqlens = {0, num_tokens};
  return batch;
}

/// A piece of a parameter in a flat shard (a view): in its shape when it is all of it, else flat.
inline at::Tensor slice_of(const at::Tensor& flat, const FlatShard::Slice& slice) {
  const at::Tensor piece = flat.narrow(0, slice.offset, slice.numel);
  return slice.numel == slice.parameter->numel() ? piece.view(slice.parameter->shape) : piece;
}

inline void fill_values(ParameterStore& store) {
  for (FlatShard& shard : store.shards()) {
    for (const auto& slice : shard.slices) {
      const at::Tensor whole = random_floats(slice.parameter->shape, slice.parameter->name, 1);
      shard.values.narrow(0, slice.offset, slice.numel)
          .copy_(whole.view({-1}).narrow(0, slice.begin, slice.numel));
    }
  }
  store.values_changed();
}

using NamedTensors = std::map<std::string, at::Tensor>;

inline NamedTensors gradients_of(ParameterStore& store) {
  NamedTensors result;
  for (FlatShard& shard : store.shards()) {
    if (!shard.gradients.defined()) continue;
    for (const auto& slice : shard.slices) {
      result[slice.parameter->name] = slice_of(shard.gradients, slice).clone();
    }
  }
  return result;
}

inline NamedTensors values_of(ParameterStore& store) {
  NamedTensors result;
  for (FlatShard& shard : store.shards()) {
    for (const auto& slice : shard.slices) {
      result[slice.parameter->name] = slice_of(shard.values, slice).clone();
    }
  }
  return result;
}

/// Freezes the parameters whose name starts with `prefix`.
inline void freeze(Model& model, const std::string& prefix) {
  for (const auto& block : model.blocks) {
    for (const ParameterPtr& parameter : block->parameters()) {
      if (parameter->name.starts_with(prefix)) parameter->trainable = false;
    }
  }
}

/// Matrices in one optimizer group, vectors in another.
inline int group_of(const Parameter& parameter) { return parameter.shape.size() == 1 ? 1 : 0; }

inline std::unique_ptr<ParameterStore> make_store(const Model& model, Comm& comm,
                                                  at::ScalarType master = at::kFloat,
                                                  at::ScalarType compute = at::kFloat) {
  auto store = make_replicated_store(model.blocks, comm, master, compute, at::kCPU, group_of);
  fill_values(*store);
  return store;
}

}  // namespace gimbal::toy
