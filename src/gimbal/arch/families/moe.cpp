#include "gimbal/arch/families/moe.h"

#include <algorithm>

namespace gimbal {

void read_experts(const ConfigReader& config, TextArch& text) {
  ExpertArch& experts = text.experts;
  experts.num_experts = config.count("num_experts", "num_local_experts", 128);
  experts.experts_per_token = config.count("num_experts_per_tok", 8);
  experts.ffn_width = config.count("moe_intermediate_size", 768);
  if (experts.experts_per_token > experts.num_experts)
    config.fail("num_experts_per_tok",
                concat("is ", experts.experts_per_token, ", more than there are experts (",
                       experts.num_experts, ")"));
  const std::int64_t step = config.count("decoder_sparse_step", 1);
  const std::vector<std::int64_t> dense = config.indices("mlp_only_layers", {}, text.num_layers);
  for (std::int64_t layer = 0; layer < text.num_layers; ++layer)
    text.sparse[static_cast<std::size_t>(layer)] =
        (layer + 1) % step == 0 && std::ranges::find(dense, layer) == dense.end();
}

void add_expert_mlp(const TextArch& t, BlockDesc& block) {
  const std::int64_t d = t.width, e = t.experts.num_experts, j = t.experts.experts_per_token,
                     f = t.experts.ffn_width;
  block.cost_class = "text_moe_layer";
  block.num_expert_parameters = e * 3 * d * f;
  block.num_parameters += block.num_expert_parameters + d * e;
  block.num_uncut_parameters += d * e;
  block.dispatched_values_per_row = static_cast<double>(j * d);
  PartDesc part;
  part.name = "mlp";
  part.product_flops_per_row = 2.0 * static_cast<double>(d * e + j * 3 * d * f);
  part.input_values_per_row = static_cast<double>(d);
  // The input and its norm; the router's scores and probabilities; the chosen experts' weights and
  // numbers; per expert the row that it got, gate, up, their product and the result, which the
  // routing weight multiplies.
  part.saved_values_per_row =
      static_cast<double>(2 * d + 2 * e + 2 * j + j * (2 * d + (t.fused_gate ? 3 : 4) * f));
  part.gathered_values_per_row = static_cast<double>(d);
  block.parts.push_back(part);
}

}  // namespace gimbal
