#include "gimbal/models/text/blocks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include "gimbal/base/error.h"
#include "gimbal/models/place_split.h"
#include "gimbal/nn/ops/gemm.h"
#include "gimbal/nn/ops/swiglu.h"

namespace gimbal {
namespace {

std::string layer_name(std::int64_t layer) { return "text." + std::to_string(layer); }

// The last row of each sequence that has one.
at::Tensor last_rows(const PassContext& context, const at::Device& device) {
  std::vector<std::int64_t> rows;
  const auto& cu = context.batch.text_cu_seqlens;
  for (std::size_t i = 0; i + 1 < cu.size(); ++i) {
    GIMBAL_CHECK(cu[i + 1] > cu[i], "generation needs at least one token of each sequence");
    rows.push_back(cu[i + 1] - 1);
  }
  return at::tensor(rows, at::kLong).to(device);
}

}  // namespace

TextEmbed::TextEmbed(const TextConfig& config, std::int64_t tokens_per_tile, const Ports& ports)
    : Block("text.embed"),
      ports_(ports),
      weight_(list_.add("text.embed.weight", {config.vocab_size, config.width},
                        normal_init(config.initializer_range))),
      vocab_size_(config.vocab_size),
      width_(config.width),
      padding_id_(config.padding_id),
      sliding_window_(config.sliding_window),
      tokens_per_tile_(tokens_per_tile) {}

Flow TextEmbed::forward(const PassContext& context, const Flow& in) const {
  const Batch& batch = context.batch;
  if (sliding_window_ > 0)
    for (const std::int64_t length : sequence_lengths(context))
      GIMBAL_USER_CHECK(length <= sliding_window_, "a sequence of ", length,
                        " tokens is longer than the model's sliding_window of ", sliding_window_,
                        "; sliding-window attention is not supported: use shorter samples");
  const RowSplit rows = ports_.sequence->split(batch.num_tokens());
  Flow out;
  out.text = embed_tokens(batch, rows);
  if (in.vision.defined()) out.text = put_visual_rows(out.text, in.vision, batch, rows);
  return out;
}

FlowShape TextEmbed::output_shape(const Batch& batch, const FlowShape&) const {
  return {std::nullopt, RowsShape{ports_.sequence->split(batch.num_tokens()).own_size(), width_}};
}

at::Tensor TextEmbed::embed_tokens(const Batch& batch, const RowSplit& rows) const {
  const RowSplit part = ports_.sequence->sequence_split(batch.num_tokens());
  const at::Tensor ids_s = batch.token_ids_T.narrow(0, part.own_begin(), part.own_size());
  return ports_.linear->scatter_sum_rows(
      ports_.vocab->embed(weight_->value, ids_s, vocab_size_, padding_id_), rows);
}

// The projector leaves whole tiles on each rank; each tile's rows go to the ranks with its places.
// All branches are the same on all ranks: they depend on the whole pack.
at::Tensor TextEmbed::put_visual_rows(const at::Tensor& text_tD, const at::Tensor& vision_rD,
                                      const Batch& batch, const RowSplit& rows) const {
  const std::int64_t num_places = batch.image_rows_R.defined() ? batch.image_rows_R.size(0) : 0;
  const std::int64_t num_visual = batch.num_tiles * tokens_per_tile_;
  GIMBAL_USER_CHECK(num_visual == num_places, "the pictures of a batch give ", num_visual,
                    " visual tokens but its text has places for ", num_places,
                    "; prepare the data set again with this model's folder");
  if (num_places == 0) {
    // Keeps the vision blocks in the graph: their gradients are zeros, not absent.
    return vision_rD.requires_grad() ? text_tD + vision_rD.sum() * 0 : text_tD;
  }
  const RowSplit tiles = ports_.sequence->split(num_visual, tokens_per_tile_),
                 places = split_places(batch.image_rows, num_places, rows);
  const at::Tensor visual_tD =
      ports_.sequence->move_rows(vision_rD.to(text_tD.scalar_type()), tiles, places);
  at::Tensor own_places = batch.image_rows_R.narrow(0, places.own_begin(), places.own_size());
  if (rows.own_begin() > 0) own_places = own_places - rows.own_begin();
  return text_tD.index_copy(0, own_places, visual_tD);
}

TextMlp::TextMlp(ParameterList& list, const std::string& name, const TextConfig& c,
                 const Ports& ports)
    : ports_(ports),
      gate_proj_(list, name + ".gate_proj", c.width, c.ffn_width, c.mlp_bias, c.initializer_range),
      up_proj_(list, name + ".up_proj", c.width, c.ffn_width, c.mlp_bias, c.initializer_range),
      down_proj_(list, name + ".down_proj", c.ffn_width, c.width, c.mlp_bias, c.initializer_range,
                 ports.linear),
      activation_(c.activation) {}

at::Tensor TextMlp::operator()(const at::Tensor& x_tD, const RowSplit& rows) const {
  const at::Tensor x_sD = ports_.linear->gather_rows(x_tD, rows);
  const at::Tensor gate_sF = gate_proj_(x_sD), up_sF = up_proj_(x_sD);
  if (activation_ == Activation::kSilu) return down_proj_(silu_mul(gate_sF, up_sF), rows);
  return down_proj_(activate(activation_, gate_sF) * up_sF, rows);
}

TextLayer::TextLayer(const TextConfig& config, std::int64_t layer,
                     std::shared_ptr<const RotaryTable> rotary, const Ports& ports)
    : LayerBlock(layer_name(layer)),
      ports_(ports),
      input_norm_(list_, name() + ".input_norm", config.width, config.norm_eps),
      attention_(list_, name() + ".attention", config, layer, std::move(rotary), ports),
      post_attention_norm_(list_, name() + ".post_attention_norm", config.width, config.norm_eps),
      mlp_(list_, name() + ".mlp", config, ports) {}

Flow TextLayer::forward_attention(const PassContext& context, const Flow& in) const {
  Flow out;
  out.text = in.text + attention_(input_norm_(in.text), context);
  return out;
}

Flow TextLayer::forward_mlp(const PassContext& context, const Flow& in) const {
  const RowSplit rows = ports_.sequence->split(context.batch.num_tokens());
  Flow out;
  out.text = in.text + mlp_(post_attention_norm_(in.text), rows);
  return out;
}

TextNorm::TextNorm(const TextConfig& config)
    : Block("text.norm"), norm_(list_, "text.norm", config.width, config.norm_eps) {}

Flow TextNorm::forward(const PassContext&, const Flow& in) const {
  Flow out;
  out.text = norm_(in.text);
  return out;
}

TextHead::TextHead(const TextConfig& config, const ParameterPtr& tied_weight, const Ports& ports)
    : Block("text.head"), ports_(ports), weight_(tied_weight), vocab_size_(config.vocab_size) {
  if (tied_weight)
    borrowed_.push_back(tied_weight);
  else
    weight_ = list_.add("text.head.weight", {config.vocab_size, config.width},
                        normal_init(config.initializer_range));
}

Flow TextHead::forward(const PassContext& context, const Flow& in) const {
  const SequenceExchange& sequence = *ports_.sequence;
  const RowSplit rows = sequence.split(context.batch.num_tokens());
  Flow out;
  switch (context.kind) {
    case PassKind::kLoss:
      out.loss = loss(context, ports_.linear->gather_rows(in.text, rows));
      break;
    case PassKind::kAllLogits:
      out.logits = logits(sequence.all_rows(in.text, rows));
      break;
    case PassKind::kNextLogits:
      out.logits = logits(
          sequence.all_rows(in.text, rows).index_select(0, last_rows(context, in.text.device())));
      break;
  }
  return out;
}

at::Tensor TextHead::loss(const PassContext& context, const at::Tensor& x_sD) const {
  const Batch& batch = context.batch;
  const RowSplit part = ports_.sequence->sequence_split(batch.num_tokens());
  const RowSplit loss_rows = split_places(batch.loss_rows, batch.loss_rows_Q.size(0), part);
  const auto own = [&](const at::Tensor& x_Q) {
    return x_Q.narrow(0, loss_rows.own_begin(), loss_rows.own_size());
  };
  at::Tensor rows_Q = own(batch.loss_rows_Q);
  if (part.own_begin() > 0) rows_Q = rows_Q - part.own_begin();
  return ports_.vocab->linear_cross_entropy(x_sD.index_select(0, rows_Q), weight_->value,
                                            own(batch.targets_Q), own(batch.loss_weights_Q),
                                            vocab_size_, context.loss_chunk_rows);
}

at::Tensor TextHead::logits(const at::Tensor& x) const {
  return ports_.linear->gather_columns(apply_linear(x, weight_->value, std::nullopt), vocab_size_);
}

}  // namespace gimbal
