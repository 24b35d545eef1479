#include "gimbal/models/internvl/blocks.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "gimbal/base/error.h"
#include "gimbal/nn/attention.h"
#include "gimbal/nn/gemm.h"

namespace gimbal {
namespace {

std::string vision_layer_name(std::int64_t layer) { return "vision." + std::to_string(layer); }

// Without tiles and without gradients (decoding) a block of the tower has nothing to do.
bool has_no_work(const at::Tensor& vision) {
  return vision.size(0) == 0 && !at::GradMode::is_enabled();
}

}  // namespace

VisionEmbed::VisionEmbed(const InternVlVisionConfig& config)
    : Block("vision.embed"),
      config_(config),
      cls_token_(list_.add("vision.embed.cls_token", {1, 1, config.width},
                           normal_init(config.initializer_range))),
      positions_(config.position_embeddings ? list_.add("vision.embed.position_embeddings",
                                                        {1, config.num_rows(), config.width},
                                                        normal_init(config.initializer_range))
                                            : nullptr),
      patch_weight_(
          list_.add("vision.embed.patch.weight",
                    {config.width, config.num_channels, config.patch_size, config.patch_size},
                    normal_init(config.initializer_range))),
      patch_bias_(list_.add("vision.embed.patch.bias", {config.width}, constant_init(0))) {}

at::Tensor VisionEmbed::cut_patches(const at::Tensor& pixels_ICYX) const {
  const std::int64_t num_tiles = pixels_ICYX.size(0), grid = config_.grid(),
                     patch = config_.patch_size;
  return pixels_ICYX.reshape({num_tiles, config_.num_channels, grid, patch, grid, patch})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({num_tiles, grid * grid, config_.num_channels * patch * patch});
}

Flow VisionEmbed::forward(const PassContext& context, const Flow&) const {
  const at::Tensor& weight = patch_weight_->value;
  at::Tensor pixels_ICYX = context.batch.pixels_ICYX;
  const std::vector<std::int64_t> tile{config_.num_channels, config_.image_size,
                                       config_.image_size};
  if (!pixels_ICYX.defined())
    pixels_ICYX = at::zeros({0, tile[0], tile[1], tile[2]}, weight.options());
  GIMBAL_USER_CHECK(pixels_ICYX.dim() == 4 && pixels_ICYX.sizes().slice(1) == at::IntArrayRef(tile),
                    "the tiles of the batch are ", pixels_ICYX.sizes().slice(1),
                    " but the model's vision_config wants ", at::IntArrayRef(tile),
                    " (image_size); prepare the data set again with this model's folder");
  const at::Tensor patches_IPD = apply_linear(cut_patches(pixels_ICYX.to(weight.scalar_type())),
                                              weight.view({config_.width, -1}), patch_bias_->value);
  const at::Tensor cls_I1D = cls_token_->value.expand({pixels_ICYX.size(0), 1, config_.width});
  Flow out;
  out.vision = at::cat({cls_I1D, patches_IPD}, 1);
  if (positions_) out.vision = out.vision + positions_->value;
  return out;
}

VisionNorm::VisionNorm(ParameterList& list, const std::string& name,
                       const InternVlVisionConfig& config) {
  if (config.rms_norm)
    rms_norm_.emplace(list, name, config.width, config.norm_eps);
  else
    layer_norm_.emplace(list, name, config.width, config.norm_eps);
}

VisionAttention::VisionAttention(ParameterList& list, const std::string& name,
                                 const InternVlVisionConfig& c)
    : num_heads_(c.num_heads),
      head_dim_(c.width / c.num_heads),
      q_proj_(list, name + ".q_proj", c.width, c.width, c.attention_bias, c.initializer_range),
      k_proj_(list, name + ".k_proj", c.width, c.width, c.attention_bias, c.initializer_range),
      v_proj_(list, name + ".v_proj", c.width, c.width, c.attention_bias, c.initializer_range),
      o_proj_(list, name + ".o_proj", c.width, c.width, true, c.initializer_range) {
  if (!c.qk_norm) return;
  // Over the whole width, with transformers' default epsilon and not the layers'.
  q_norm_.emplace(list, name + ".q_norm", c.width, 1e-6);
  k_norm_.emplace(list, name + ".k_norm", c.width, 1e-6);
}

at::Tensor VisionAttention::operator()(const at::Tensor& x_ISD) const {
  const auto heads = [&](const at::Tensor& x) {
    return x.view({x.size(0), x.size(1), num_heads_, head_dim_});
  };
  at::Tensor q_ISD = q_proj_(x_ISD), k_ISD = k_proj_(x_ISD);
  if (q_norm_) q_ISD = (*q_norm_)(q_ISD), k_ISD = (*k_norm_)(k_ISD);
  return o_proj_(
      tile_attention(heads(q_ISD), heads(k_ISD), heads(v_proj_(x_ISD))).reshape(x_ISD.sizes()));
}

VisionLayer::VisionLayer(const InternVlVisionConfig& c, std::int64_t layer)
    : LayerBlock(vision_layer_name(layer)),
      norm_before_(list_, name() + ".norm_before", c),
      attention_(list_, name() + ".attention", c),
      lambda_1_(list_.add(name() + ".lambda_1", {c.width}, constant_init(c.layer_scale))),
      norm_after_(list_, name() + ".norm_after", c),
      fc1_(list_, name() + ".mlp.fc1", c.width, c.ffn_width, true, c.initializer_range),
      fc2_(list_, name() + ".mlp.fc2", c.ffn_width, c.width, true, c.initializer_range),
      lambda_2_(list_.add(name() + ".lambda_2", {c.width}, constant_init(c.layer_scale))),
      activation_(c.activation) {}

Flow VisionLayer::forward_attention(const PassContext&, const Flow& in) const {
  if (has_no_work(in.vision)) return in;
  Flow out;
  out.vision = at::addcmul(in.vision, attention_(norm_before_(in.vision)), lambda_1_->value);
  return out;
}

Flow VisionLayer::forward_mlp(const PassContext&, const Flow& in) const {
  if (has_no_work(in.vision)) return in;
  Flow out;
  out.vision = at::addcmul(in.vision, fc2_(activate(activation_, fc1_(norm_after_(in.vision)))),
                           lambda_2_->value);
  return out;
}

Projector::Projector(const InternVlConfig& c)
    : Block("projector"),
      grid_(c.vision.grid()),
      shuffle_(c.shuffle),
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

// Joins squares of shuffle x shuffle patches to one row each.
at::Tensor Projector::shuffle_pixels(const at::Tensor& x_IPD) const {
  const std::int64_t num_tiles = x_IPD.size(0), width = x_IPD.size(2), side = grid_ / shuffle_;
  return x_IPD.reshape({num_tiles, side, shuffle_, side, shuffle_, width})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({num_tiles * side * side, shuffle_ * shuffle_ * width});
}

Flow Projector::forward(const PassContext&, const Flow& in) const {
  const at::Tensor x_ISD = vision_norm_ ? (*vision_norm_)(in.vision) : in.vision;
  const at::Tensor joined = shuffle_pixels(x_ISD.narrow(1, 1, grid_ * grid_));
  Flow out;
  out.vision = linear_2_(activate(activation_, linear_1_(layer_norm_(joined))));
  return out;
}

}  // namespace gimbal
