#include "gimbal/models/text/arch_desc.h"

namespace gimbal {
namespace {

BlockDesc describe_layer(const TextConfig& c, std::int64_t layer) {
  const std::int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  const std::int64_t products = c.width * (2 * q + 2 * kv) + 3 * c.width * c.ffn_width;
  const std::int64_t biases = (c.qkv_bias ? q + 2 * kv : 0) + (c.output_bias ? c.width : 0) +
                              (c.mlp_bias ? 2 * c.ffn_width + c.width : 0);
  const std::int64_t norms = 2 * c.width + (c.qk_norm ? 2 * c.head_dim : 0);
  BlockDesc block;
  block.name = "text." + std::to_string(layer);
  block.kind = BlockKind::kTextLayer;
  block.num_parameters = products + biases + norms;
  block.flops_per_row = 2.0 * static_cast<double>(products);
  // Scores and weighted values: 2 products of 2 H per pair and head, for the causal half of the
  // pairs.
  block.flops_per_pair = 2.0 * static_cast<double>(q);
  // Inputs of both norms and of the products behind them; q, k, v, and their values before the
  // norm; attention's result and log-sums; gate, up and their product.
  block.saved_values_per_row = static_cast<double>(
      4 * c.width + 2 * q + 2 * kv + (c.qk_norm ? q + kv : 0) + c.num_heads + 3 * c.ffn_width);
  block.output_values_per_row = static_cast<double>(c.width);
  return block;
}

BlockDesc edge_block(const std::string& name, BlockKind kind, std::int64_t num_parameters,
                     std::int64_t width) {
  BlockDesc block;
  block.name = name;
  block.kind = kind;
  block.num_parameters = num_parameters;
  block.output_values_per_row = static_cast<double>(width);
  return block;
}

}  // namespace

void describe_text(const TextConfig& c, ModelDesc& desc) {
  desc.blocks.push_back(
      edge_block("text.embed", BlockKind::kTextEmbed, c.vocab_size * c.width, c.width));
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer)
    desc.blocks.push_back(describe_layer(c, layer));
  BlockDesc norm = edge_block("text.norm", BlockKind::kTextNorm, c.width, c.width);
  norm.saved_values_per_row = static_cast<double>(c.width);
  desc.blocks.push_back(norm);
  BlockDesc head =
      edge_block("text.head", BlockKind::kTextHead, c.tied ? 0 : c.vocab_size * c.width, 0);
  head.flops_per_row = 2.0 * static_cast<double>(c.vocab_size * c.width);
  // The gathered rows and their gradient, computed in the forward pass; logits never live until
  // backward.
  head.saved_values_per_row = static_cast<double>(2 * c.width);
  desc.blocks.push_back(head);
}

}  // namespace gimbal
