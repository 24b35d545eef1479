#include "gimbal/models/text/layout.h"

namespace gimbal {

LayoutTable text_layout(const TextConfig& c, int tensor_parts) {
  const int kv_dim = c.num_kv_heads % tensor_parts == 0 ? 0 : -1;
  LayoutTable table{
      {"text.embed.weight", 0},
      {"text.*.input_norm.weight"},
      {"text.*.attention.q_proj.*", 0, c.head_dim},
      {"text.*.attention.k_proj.*", kv_dim, c.head_dim},
      {"text.*.attention.v_proj.*", kv_dim, c.head_dim},
      {"text.*.attention.o_proj.weight", 1, c.head_dim},
      {"text.*.post_attention_norm.weight"},
      {"text.*.mlp.gate_proj.*", 0},
      {"text.*.mlp.up_proj.*", 0},
      {"text.*.mlp.down_proj.weight", 1},
      {"text.norm.weight"},
  };
  if (c.qk_norm) {
    table.push_back({"text.*.attention.q_norm.weight"});
    table.push_back({"text.*.attention.k_norm.weight"});
  }
  if (c.output_bias) table.push_back({"text.*.attention.o_proj.bias"});
  if (c.mlp_bias) table.push_back({"text.*.mlp.down_proj.bias"});
  if (!c.tied) table.push_back({"text.head.weight", 0});
  return table;
}

}  // namespace gimbal
