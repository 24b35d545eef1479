// Small config.json contents of each family for the tests of src/gimbal/arch.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "gimbal/arch/describe.h"

namespace gimbal {

inline Json small_text(const std::string& type) {
  return {{"model_type", type},     {"hidden_size", 64},         {"intermediate_size", 160},
          {"num_hidden_layers", 3}, {"num_attention_heads", 4},  {"num_key_value_heads", 2},
          {"vocab_size", 320},      {"sliding_window", nullptr}, {"max_position_embeddings", 512}};
}

inline Json small_tower() {
  return {{"hidden_size", 48},        {"intermediate_size", 112}, {"num_hidden_layers", 5},
          {"num_attention_heads", 3}, {"image_size", 56},         {"patch_size", 14}};
}

inline Json small_internvl() {
  return {{"model_type", "internvl"},
          {"text_config", small_text("qwen2")},
          {"vision_config", small_tower()},
          {"image_seq_length", 4}};
}

inline Json small_chat() {
  return {{"model_type", "internvl_chat"},
          {"llm_config", small_text("internlm2")},
          {"vision_config", small_tower()}};
}

inline Json small_llava() {
  return {{"model_type", "llava"},
          {"text_config", small_text("llama")},
          {"vision_config", small_tower()}};
}

inline Json small_qwen_vl(const std::string& type) {
  Json vision = {{"depth", 4},
                 {"num_heads", 4},
                 {"patch_size", 14},
                 {"spatial_merge_size", 2},
                 {"intermediate_size", 72},
                 {"window_size", 56},
                 {"fullatt_block_indexes", {1, 3}},
                 {"deepstack_visual_indexes", {0, 2}},
                 {"num_position_embeddings", 64},
                 {"out_hidden_size", 64},
                 {"embed_dim", 32},
                 {"mlp_ratio", 3}};
  vision["hidden_size"] = type == "qwen2_vl" ? 64 : 32;
  return {{"model_type", type}, {"text_config", small_text("")}, {"vision_config", vision}};
}

/// Expects that describing `config` fails with a message that names "here" and contains `text`.
inline void expect_refused(const Json& config, const std::string& text) {
  try {
    describe_model(config, "here");
    ADD_FAILURE() << "accepted: " << config.dump();
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with("here")) << message;
    EXPECT_NE(message.find(text), std::string::npos) << message << "\nhas no: " << text;
  }
}

}  // namespace gimbal
