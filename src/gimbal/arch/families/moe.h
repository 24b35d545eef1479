// Feed-forward layers with routed experts (Qwen3-MoE). Letters: D width, E experts, J experts per
// token.
#pragma once

#include "gimbal/arch/families/text.h"

namespace gimbal {

/// Fills text.experts and text.sparse: layers (l + 1) % decoder_sparse_step == 0 that are not in
/// mlp_only_layers have experts.
void read_experts(const ConfigReader& config, TextArch& text);

/// Adds the router and the experts of a layer to its block.
void add_expert_mlp(const TextArch& text, BlockDesc& block);

}  // namespace gimbal
