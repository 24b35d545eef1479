#include "gimbal/cost/model_fingerprint.h"

#include <bit>
#include <cstdint>

#include "gimbal/base/sha256.h"

namespace gimbal {
namespace {

// Every piece has a length that its reader knows, so different models give different texts.
void put(std::string& text, std::int64_t value) {
  for (int byte = 0; byte < 8; ++byte)
    text += static_cast<char>((static_cast<std::uint64_t>(value) >> (8 * byte)) & 0xff);
}

void put(std::string& text, double value) { put(text, std::bit_cast<std::int64_t>(value)); }

void put(std::string& text, const std::string& word) {
  put(text, static_cast<std::int64_t>(word.size()));
  text += word;
}

}  // namespace

std::string model_fingerprint(const ModelDesc& model) {
  std::string text;
  put(text, model.type);
  for (const BlockDesc& block : model.blocks) {
    put(text, block.name);
    put(text, block.cost_class);
    put(text, static_cast<std::int64_t>(block.kind));
    put(text, block.num_parameters);
    put(text, block.num_expert_parameters);
    put(text, block.output_values_per_row);
    put(text, block.carried_values_per_vision_row);
    put(text, static_cast<std::int64_t>(block.tensor_reductions));
    put(text, block.exchanged_values_per_row);
    put(text, block.dispatched_values_per_row);
    put(text, static_cast<std::int64_t>(block.unused));
    put(text, static_cast<std::int64_t>(block.parts.size()));
    for (const PartDesc& part : block.parts) {
      put(text, part.name);
      put(text, part.product_flops_per_row);
      put(text, part.attention_flops_per_row);
      put(text, part.attention_flops_per_pair);
      put(text, part.input_values_per_row);
      put(text, part.saved_values_per_row);
    }
  }
  return sha256_of(text);
}

}  // namespace gimbal
