// Every UserError of src/gimbal/arch, by the configuration that triggers it.
#include <gtest/gtest.h>

#include "arch/model_configs.h"

namespace gimbal {
namespace {

// `config` with the value at a path such as "/vision_config/depth" replaced.
Json with(Json config, const std::string& path, const Json& value) {
  config[Json::json_pointer(path)] = value;
  return config;
}

TEST(ArchRefusals, NameWhatIsNoModel) {
  expect_refused(Json::array(), "must be a JSON object");
  expect_refused(Json::object(), "key 'model_type' is missing");
  expect_refused({{"model_type", 3}}, "must be a string");
  expect_refused({{"model_type", "bert"}},
                 "known model types are internlm2, llama, mistral, qwen2, qwen3, qwen3_moe, "
                 "internvl, internvl_chat, llava, qwen2_vl, qwen2_5_vl, qwen3_vl");
}

TEST(ArchRefusals, NameKeysOfTheWrongType) {
  const Json base = small_text("qwen2");
  expect_refused(with(base, "/hidden_size", 64.5), "key 'hidden_size' must be a whole number");
  expect_refused(with(base, "/hidden_size", 0), "key 'hidden_size' must be from 1 to");
  expect_refused(with(base, "/vocab_size", 1 << 21), "key 'vocab_size' must be from 1 to");
  expect_refused(with(base, "/num_hidden_layers", 10001), "at most 10000");
  expect_refused(with(base, "/max_position_embeddings", 0), "must be at least 1");
  expect_refused(with(base, "/tie_word_embeddings", 1), "must be true or false");
  expect_refused(with(base, "/layer_types", "all"), "must be a list of strings");
  expect_refused(with(base, "/layer_types", {1}), "must be a list of strings");
  expect_refused(with(small_internvl(), "/downsample_ratio", "half"), "must be a number");
  expect_refused(with(small_internvl(), "/text_config", 3), "here: text_config: ");
  expect_refused(with(small_internvl(), "/vision_config/patch_size", {14, 7}),
                 "one number or two equal ones");
}

TEST(ArchRefusals, NameHeadsThatDoNotDivide) {
  expect_refused(with(small_text("llama"), "/num_key_value_heads", 3),
                 "does not divide num_attention_heads 4");
  expect_refused(with(small_text("llama"), "/hidden_size", 66), "does not divide hidden_size 66");
  expect_refused(with(small_internvl(), "/vision_config/num_attention_heads", 5),
                 "does not divide hidden_size 48");
  expect_refused(with(small_qwen_vl("qwen2_vl"), "/vision_config/num_heads", 5),
                 "does not divide embed_dim 32");
}

TEST(ArchRefusals, NameShortWindows) {
  Json qwen = small_text("qwen2");
  qwen["use_sliding_window"] = true;
  qwen["sliding_window"] = 256;
  EXPECT_NO_THROW(describe_model(qwen, "here"));  // starts at layer 28
  expect_refused(with(qwen, "/max_window_layers", 1), "set use_sliding_window to false");
  expect_refused(with(qwen, "/layer_types", {"full_attention", "sliding_attention"}),
                 "key 'sliding_window' is 256 tokens");
  EXPECT_NO_THROW(
      describe_model(with(with(qwen, "/max_window_layers", 1), "/sliding_window", 512), "here"));
  expect_refused(with(small_text("qwen3"), "/layer_types", {"sliding_attention"}),
                 "key 'layer_types' has 'sliding_attention'");
  expect_refused(with(small_text("mistral"), "/sliding_window", 256), "set it to null");
  Json absent = with(small_text("mistral"), "/max_position_embeddings", 32768);
  absent.erase("sliding_window");  // Mistral's default is 4096
  expect_refused(absent, "key 'sliding_window' is 4096 tokens");
  Json moe = small_text("qwen3_moe");
  moe["use_sliding_window"] = true;
  expect_refused(with(moe, "/sliding_window", 128), "key 'sliding_window' is 128 tokens");
}

TEST(ArchRefusals, NameWrongExperts) {
  const Json base = small_text("qwen3_moe");
  expect_refused(with(base, "/num_experts", 4), "more than there are experts (4)");
  expect_refused(with(with(base, "/num_experts", 64), "/num_local_experts", 32), "its other name");
  expect_refused(with(base, "/mlp_only_layers", {3}), "there are layers 0 to 2");
  expect_refused(with(base, "/mlp_only_layers", {1, 1}), "each layer once");
  expect_refused(with(base, "/mlp_only_layers", 1), "a list of layer numbers");
  expect_refused(with(base, "/mlp_only_layers", {"a"}), "a list of layer numbers");
}

TEST(ArchRefusals, NameWrongTileTowers) {
  const Json base = small_internvl();
  expect_refused(with(base, "/vision_config/image_size", 7), "larger than a tile of 7");
  expect_refused(with(base, "/vision_config/norm_type", "batch"), "layer_norm or rms_norm");
  expect_refused(with(base, "/vision_config/use_mask_token", true), "masked image modelling");
  expect_refused(with(base, "/vision_feature_layer", 9), "one of the tower's 5 layers");
  expect_refused(with(base, "/vision_feature_layer", -2), "must be the last layer, -1");
  expect_refused(with(base, "/vision_feature_layer", {-1}), "must be a whole number");
  expect_refused(with(base, "/vision_feature_select_strategy", "full"), "only 'default'");
  expect_refused(with(base, "/downsample_ratio", 0.3), "1/n for a whole n");
  expect_refused(with(base, "/downsample_ratio", 0), "1/n for a whole n");
  expect_refused(with(base, "/downsample_ratio", 1.0 / 3), "joins 3 patches");
  expect_refused(with(base, "/image_seq_length", 16), "give 4 tokens a tile");
  expect_refused(with(base, "/text_config/model_type", "gpt2"),
                 "known text models are internlm2, llama");
  expect_refused(with(small_chat(), "/use_llm_lora", 16), "LoRA");
  Json nameless = small_chat();
  nameless["llm_config"].erase("model_type");
  expect_refused(nameless, "names no known text model");
  expect_refused(with(small_llava(), "/vision_config/model_type", "siglip"), "clip_vision_model");
  expect_refused(with(small_llava(), "/vision_feature_select_strategy", "cls"), "default");
  expect_refused(with(small_llava(), "/vision_feature_layer", 0), "one of the tower's 5 layers");
}

TEST(ArchRefusals, NameWrongPatchTowers) {
  expect_refused(with(small_qwen_vl("qwen2_vl"), "/vision_config/hidden_size", 32),
                 "as wide as the text");
  const Json window = small_qwen_vl("qwen2_5_vl");
  expect_refused(with(window, "/vision_config/out_hidden_size", 32), "as wide as the text");
  expect_refused(with(window, "/vision_config/window_size", 20), "less than a visual token of 28");
  const Json deepstack = small_qwen_vl("qwen3_vl");
  expect_refused(with(deepstack, "/vision_config/deepstack_visual_indexes", {1, 4}),
                 "there are layers 0 to 3");
  expect_refused(with(deepstack, "/vision_config/deepstack_visual_indexes", {2, 1}),
                 "in rising order");
  expect_refused(with(deepstack, "/text_config/num_hidden_layers", 1), "makes 2 features");
  expect_refused(with(deepstack, "/vision_config/num_hidden_layers", 5), "its other name");
}

}  // namespace
}  // namespace gimbal
