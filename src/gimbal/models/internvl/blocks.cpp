#include "gimbal/models/internvl/blocks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>

#include "gimbal/nn/attention/attention.h"

namespace gimbal {
namespace {

std::string vision_layer_name(std::int64_t layer) { return "vision." + std::to_string(layer); }

// Without tiles a block of the tower has nothing to do when logits are asked for (decoding).
// Training does not ask: which blocks have gradients must not depend on the batch.
bool has_no_work(const PassContext& context) {
  return context.batch.num_tiles == 0 && context.kind != PassKind::kLoss;
}

}  // namespace

VisionNorm::VisionNorm(ParameterList& list, const std::string& name,
                       const InternVlVisionConfig& config) {
  if (config.rms_norm)
    rms_norm_.emplace(list, name, config.width, config.norm_eps);
  else
    layer_norm_.emplace(list, name, config.width, config.norm_eps);
}

VisionAttention::VisionAttention(ParameterList& list, const std::string& name,
                                 const InternVlVisionConfig& c, const Ports& ports)
    : ports_(ports),
      tile_rows_(c.num_rows()),
      head_dim_(c.head_dim()),
      num_heads_(ports.linear->units(c.num_heads).own_size()),
      q_proj_(list, name + ".q_proj", c.width, c.width, c.attention_bias, c.initializer_range),
      k_proj_(list, name + ".k_proj", c.width, c.width, c.attention_bias, c.initializer_range),
      v_proj_(list, name + ".v_proj", c.width, c.width, c.attention_bias, c.initializer_range),
      o_proj_(list, name + ".o_proj", c.width, c.width, true, c.initializer_range, ports.linear) {
  if (!c.qk_norm) return;
  // Over the whole width, with transformers' default epsilon and not the layers'.
  q_norm_.emplace(list, name + ".q_norm", c.width, 1e-6, ports.linear);
  k_norm_.emplace(list, name + ".k_norm", c.width, 1e-6, ports.linear);
}

at::Tensor VisionAttention::operator()(const at::Tensor& x_tD, std::int64_t num_tiles) const {
  const SequenceExchange& sequence = *ports_.sequence;
  const std::int64_t num_rows = num_tiles * tile_rows_;
  const RowSplit rows = sequence.split(num_rows), part = sequence.sequence_split(num_rows);
  const auto start = [&](const at::Tensor& x) {
    return sequence.start_to_heads(x.view({part.own_size(), num_heads_, head_dim_}), part);
  };
  const auto finish = [&](const at::Tensor& x) {
    const at::Tensor x_InH = sequence.finish(x);
    return x_InH.view({num_tiles, tile_rows_, x_InH.size(1), head_dim_});
  };
  // Each exchange runs beside the next projection.
  const at::Tensor x_sD = ports_.linear->gather_rows(x_tD, rows);
  at::Tensor q = q_proj_(x_sD);
  if (q_norm_) q = (*q_norm_)(q);
  q = start(q);
  at::Tensor k = k_proj_(x_sD);
  if (k_norm_) k = (*k_norm_)(k);
  k = start(k);
  at::Tensor v = start(v_proj_(x_sD));
  q = finish(q);
  k = finish(k);
  v = finish(v);
  const at::Tensor out_TnH = tile_attention(q, k, v).reshape({num_rows, q.size(2), head_dim_});
  const at::Tensor out_sNH = sequence.to_rows(out_TnH, part, num_heads_);
  return o_proj_(out_sNH.reshape({part.own_size(), num_heads_ * head_dim_}), rows);
}

VisionLayer::VisionLayer(const InternVlVisionConfig& c, std::int64_t layer, const Ports& ports)
    : LayerBlock(vision_layer_name(layer)),
      ports_(ports),
      tile_rows_(c.num_rows()),
      norm_before_(list_, name() + ".norm_before", c),
      attention_(list_, name() + ".attention", c, ports),
      lambda_1_(list_.add(name() + ".lambda_1", {c.width}, constant_init(c.layer_scale))),
      norm_after_(list_, name() + ".norm_after", c),
      fc1_(list_, name() + ".mlp.fc1", c.width, c.ffn_width, true, c.initializer_range),
      fc2_(list_, name() + ".mlp.fc2", c.ffn_width, c.width, true, c.initializer_range,
           ports.linear),
      lambda_2_(list_.add(name() + ".lambda_2", {c.width}, constant_init(c.layer_scale))),
      activation_(c.activation) {}

Flow VisionLayer::forward_attention(const PassContext& context, const Flow& in) const {
  if (has_no_work(context)) return in;
  Flow out;
  out.vision = at::addcmul(in.vision, attention_(norm_before_(in.vision), context.batch.num_tiles),
                           lambda_1_->value);
  return out;
}

Flow VisionLayer::forward_mlp(const PassContext& context, const Flow& in) const {
  if (has_no_work(context)) return in;
  const RowSplit rows = ports_.sequence->split(context.batch.num_tiles * tile_rows_);
  const at::Tensor x_sD = ports_.linear->gather_rows(norm_after_(in.vision), rows);
  Flow out;
  out.vision =
      at::addcmul(in.vision, fc2_(activate(activation_, fc1_(x_sD)), rows), lambda_2_->value);
  return out;
}

Projector::Projector(const InternVlConfig& c, const Ports& ports)
    : Block("projector"),
      ports_(ports),
      grid_(c.vision.grid()),
      shuffle_(c.shuffle),
      tile_rows_(c.vision.num_rows()),
      text_width_(c.text.width),
      vision_norm_(c.vision.final_norm
                       ? std::make_optional<LayerNorm>(list_, "projector.vision_norm",
                                                       c.vision.width, c.vision.norm_eps)
                       : std::nullopt),
      layer_norm_(list_, "projector.layer_norm", c.joined_width(), 1e-5),
      linear_1_(list_, "projector.linear_1", c.joined_width(), c.text.width, true,
                c.text.initializer_range),
      linear_2_(list_, "projector.linear_2", c.text.width, c.text.width, true,
                c.text.initializer_range),
      activation_(c.projector_activation) {}

FlowShape Projector::output_shape(const Batch& batch, const FlowShape&) const {
  const std::int64_t side = grid_ / shuffle_,
                     own_tiles = ports_.sequence->split(batch.num_tiles).own_size();
  return {RowsShape{own_tiles * side * side, text_width_}, std::nullopt};
}

// Joins squares of shuffle x shuffle patches to one row each.
at::Tensor Projector::shuffle_pixels(const at::Tensor& x_IPD) const {
  const std::int64_t num_tiles = x_IPD.size(0), width = x_IPD.size(2), side = grid_ / shuffle_;
  return x_IPD.reshape({num_tiles, side, shuffle_, side, shuffle_, width})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({num_tiles * side * side, shuffle_ * shuffle_ * width});
}

Flow Projector::forward(const PassContext& context, const Flow& in) const {
  const std::int64_t num_rows = context.batch.num_tiles * tile_rows_;
  const RowSplit rows = ports_.sequence->split(num_rows),
                 tiles = ports_.sequence->split(num_rows, tile_rows_);
  const at::Tensor own_tiles = ports_.sequence->move_rows(in.vision, rows, tiles);
  const at::Tensor x_ISD =
      own_tiles.view({tiles.own_size() / tile_rows_, tile_rows_, in.vision.size(1)});
  const at::Tensor normed_ISD = vision_norm_ ? (*vision_norm_)(x_ISD) : x_ISD;
  const at::Tensor joined = shuffle_pixels(normed_ISD.narrow(1, 1, grid_ * grid_));
  Flow out;
  out.vision = linear_2_(activate(activation_, linear_1_(layer_norm_(joined))));
  return out;
}

}  // namespace gimbal
