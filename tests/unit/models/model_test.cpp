#include "gimbal/models/model.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <set>

#include "gimbal/base/error.h"
#include "unit/models/tiny_models.h"

namespace gimbal {
namespace {

using tiny_models::bind;
using tiny_models::error_of;
using tiny_models::internvl_config;
using tiny_models::loss_of;
using tiny_models::text_batch;
using tiny_models::text_config;

std::string error_of_config(const Json& config) {
  return error_of([&] { make_model(config, "m/config.json"); });
}

TEST(Model, KnowsItsBlocksNamesAndSizes) {
  for (const char* family : {"qwen2", "qwen3", "llama"}) {
    const Model model = make_model(internvl_config(family), "m");
    std::vector<std::string> names;
    for (const auto& block : model.blocks) names.push_back(block->name());
    EXPECT_EQ(names, (std::vector<std::string>{"vision.embed", "vision.0", "vision.1", "projector",
                                               "text.embed", "text.0", "text.1", "text.norm",
                                               "text.head"}));
    ASSERT_EQ(model.desc.blocks.size(), names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      EXPECT_EQ(model.desc.blocks[i].name, names[i]);
      std::int64_t count = 0;
      for (const auto& p : model.blocks[i]->parameters()) count += p->numel();
      EXPECT_EQ(model.desc.blocks[i].num_parameters, count) << names[i];
    }
    EXPECT_EQ(model.image_seq_length, 4);
    EXPECT_EQ(model.cache.num_layers, 2);
    std::set<std::string> hf;
    for (const auto& p : model.parameters()) hf.insert(model.hf_names.at(p->name));
    EXPECT_EQ(hf.size(), model.parameters().size());
  }
}

TEST(Model, TiedHeadBorrowsTheEmbedding) {
  const Model model = make_model(internvl_config("qwen2"), "m");  // tied: the outer default
  const Block& head = *model.blocks.back();
  EXPECT_TRUE(head.parameters().empty());
  ASSERT_EQ(head.borrowed().size(), 1U);
  EXPECT_EQ(head.borrowed()[0]->name, "text.embed.weight");
  Json untied = internvl_config("qwen2");
  untied["tie_word_embeddings"] = false;
  EXPECT_EQ(make_model(untied, "m").blocks.back()->parameters().size(), 1U);
}

TEST(Model, BatchWithoutPicturesGivesZeroVisionGradients) {
  at::set_num_threads(1);
  Model model = make_model(internvl_config("llama"), "m");
  bind(model, at::kFloat);
  loss_of(model, text_batch({9, 12}, false)).backward();
  for (const auto& p : model.parameters()) {
    const bool vision = p->name.starts_with("vision") || p->name.starts_with("projector");
    if (vision)
      EXPECT_TRUE(!p->value.grad().defined() || !p->value.grad().any().item<bool>()) << p->name;
    else
      EXPECT_TRUE(p->value.grad().any().item<bool>()) << p->name;
  }
}

TEST(Model, BatchOfNoRowsWorksForwardAndBackward) {
  Model model = make_model(internvl_config("qwen3"), "m");
  bind(model, at::kFloat);
  const at::Tensor loss = loss_of(model, text_batch({}, false));
  EXPECT_EQ(loss.item<float>(), 0.0f);
  loss.backward();
  for (const auto& p : model.parameters())
    EXPECT_TRUE(!p->value.grad().defined() || !p->value.grad().any().item<bool>()) << p->name;
}

TEST(Model, ImageTokensHaveNoEmbeddingGradient) {
  Json config = internvl_config("qwen2");
  config["tie_word_embeddings"] = false;
  Model model = make_model(config, "m");
  bind(model, at::kDouble);
  loss_of(model, text_batch({12, 9}, true)).backward();
  for (const auto& p : model.parameters())
    if (p->name == "text.embed.weight") {
      EXPECT_FALSE(p->value.grad()[3].any().item<bool>());
      EXPECT_TRUE(p->value.grad().any().item<bool>());
    }
}

TEST(Model, WrongTilesAreUserErrors) {
  Model model = make_model(internvl_config("qwen2"), "m");
  bind(model, at::kFloat);
  Batch batch = text_batch({12}, true);
  batch.pixels_ICYX = at::zeros({1, 3, 10, 10});
  EXPECT_NE(error_of([&] { loss_of(model, batch); }).find("image_size"), std::string::npos);
  batch.pixels_ICYX = at::zeros({2, 3, 8, 8});
  EXPECT_THROW(loss_of(model, batch), InternalError);
  batch.num_tiles = 2;
  EXPECT_NE(error_of([&] { loss_of(model, batch); }).find("8 visual tokens"), std::string::npos);
}

TEST(Model, SamplesBeyondTheSlidingWindowAreUserErrors) {
  Json config = text_config("qwen2");
  config["use_sliding_window"] = true;
  config["sliding_window"] = 64;
  config["max_window_layers"] = 0;
  Model model = make_model(config, "m");
  bind(model, at::kFloat);
  EXPECT_EQ(error_of([&] { loss_of(model, text_batch({64}, false)); }), "no error");
  EXPECT_NE(error_of([&] { loss_of(model, text_batch({65}, false)); }).find("sliding_window"),
            std::string::npos);
}

TEST(Model, FreezesByPattern) {
  Model model = make_model(internvl_config("qwen2"), "m");
  freeze_parameters(model, {"vision.*", "text.0", "*.mlp.down_proj.weight"});
  for (const auto& p : model.parameters()) {
    const bool frozen = p->name.starts_with("vision.") || p->name.starts_with("text.0.") ||
                        p->name.ends_with("down_proj.weight");
    EXPECT_EQ(p->trainable, !frozen) << p->name;
  }
  EXPECT_NE(error_of([&] { freeze_parameters(model, {"vison.*"}); }).find("vison.*"),
            std::string::npos);
}

// A change of a valid configuration, and a word of the message it must give.
struct BadKey {
  const char* part;  // "", "text_config", "vision_config"
  const char* key;
  Json value;
  const char* word;
};

TEST(Model, UnsupportedSettingsNameFileAndKey) {
  const std::vector<BadKey> cases{
      {"", "model_type", "llava", "model_type"},
      {"", "quantization_config", Json::object({{"bits", 4}}), "quantization_config"},
      {"", "vision_feature_layer", -2, "vision_feature_layer"},
      {"", "vision_feature_select_strategy", "full", "vision_feature_select_strategy"},
      {"", "downsample_ratio", 0.4, "downsample_ratio"},
      {"", "downsample_ratio", 2.0, "downsample_ratio"},
      {"", "downsample_ratio", 1.0 / 3, "downsample_ratio"},
      {"", "image_seq_length", 5, "image_seq_length"},
      {"", "image_token_id", 40, "image_token_id"},
      {"", "projector_hidden_act", "tanh", "projector_hidden_act"},
      {"", "text_config", nullptr, "text_config"},
      {"", "vision_config", 3, "vision_config"},
      {"vision_config", "num_channels", 1, "num_channels"},
      {"vision_config", "image_size", Json::array({8, 16}), "image_size"},
      {"vision_config", "image_size", 9, "image_size"},
      {"vision_config", "norm_type", "batch_norm", "norm_type"},
      {"vision_config", "use_mask_token", true, "use_mask_token"},
      {"vision_config", "hidden_dropout_prob", 0.1, "hidden_dropout_prob"},
      {"vision_config", "attention_dropout", 0.1, "attention_dropout"},
      {"vision_config", "projection_dropout", 0.1, "projection_dropout"},
      {"vision_config", "hidden_act", "mish", "hidden_act"},
      {"vision_config", "num_attention_heads", 5, "num_attention_heads"},
      {"vision_config", "initializer_range", -0.1, "initializer_range"},
      {"text_config", "model_type", "gpt2", "model_type"},
      {"text_config", "quantization_config", Json::object({{"bits", 4}}), "quantization_config"},
      {"text_config", "hidden_size", 0, "hidden_size"},
      {"text_config", "hidden_size", "wide", "hidden_size"},
      {"text_config", "hidden_act", "mish", "hidden_act"},
      {"text_config", "num_key_value_heads", 3, "num_key_value_heads"},
      {"text_config", "head_dim", 5, "head_dim"},
      {"text_config", "attention_dropout", 0.2, "attention_dropout"},
      {"text_config", "pad_token_id", 41, "pad_token_id"},
      {"text_config", "layer_types", Json::array({"sliding_attention", "full_attention"}),
       "layer_types"},
      {"text_config", "rope_parameters", 3, "rope_parameters"},
      {"text_config", "rope_theta", -1, "rope_theta"},
      {"text_config", "partial_rotary_factor", 0.5, "partial_rotary_factor"},
      {"text_config", "rope_parameters", Json::object({{"rope_type", "longrope"}}), "longrope"},
      {"text_config", "rope_parameters", Json::object({{"rope_type", "linear"}}), "factor"},
      {"text_config", "rope_parameters", Json::object({{"rope_type", "linear"}, {"factor", 0}}),
       "factor"},
      {"text_config", "rope_scaling",
       Json::object(
           {{"type", "llama3"}, {"factor", 2}, {"low_freq_factor", 4}, {"high_freq_factor", 1}}),
       "high_freq_factor"},
  };
  for (const BadKey& bad : cases) {
    Json config = internvl_config("qwen2");
    Json& part = *bad.part ? config[bad.part] : config;
    part[bad.key] = bad.value;
    const std::string message = error_of_config(config);
    EXPECT_NE(message.find(bad.word), std::string::npos) << bad.key << ": " << message;
    EXPECT_NE(message.find("m/config.json"), std::string::npos) << message;
  }
}

TEST(Model, ActiveSlidingWindowIsAUserError) {
  Json config = text_config("qwen2");
  config["use_sliding_window"] = true;
  config["sliding_window"] = 32;
  EXPECT_EQ(error_of_config(config), "no error");  // max_window_layers 28: no layer has a window
  config["max_window_layers"] = 1;
  EXPECT_NE(error_of_config(config).find("use_sliding_window"), std::string::npos);
  Json odd = text_config("llama");
  odd.erase("head_dim");
  odd["hidden_size"] = 18;
  EXPECT_NE(error_of_config(odd).find("num_attention_heads"), std::string::npos);
  EXPECT_NE(error_of_config(Json::array()).find("JSON object"), std::string::npos);
  EXPECT_NE(error_of_config(Json::object()).find("model_type"), std::string::npos);
}

TEST(Model, PartsAreThoseOfTheDescription) {
  const c10::AutoGradMode no_graph(false);
  for (const std::string family : {"qwen2", "qwen3", "llama"}) {
    Model model = make_model(internvl_config(family), "test");
    bind(model, at::kFloat);
    const Batch batch = text_batch({9, 7}, /*with_image_places=*/true);
    Flow flow;
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      const Block& block = *model.blocks[i];
      EXPECT_EQ(static_cast<std::size_t>(block.num_parts()), model.desc.blocks[i].parts.size())
          << block.name();
      const Flow whole = block.forward({batch}, flow);
      for (int part = 0; part < block.num_parts(); ++part)
        flow = block.forward_part(part, {batch}, flow);
      for (std::size_t k = 0; k < Flow::kNumTensors; ++k) {
        const at::Tensor &a = *whole.tensors()[k], &b = *flow.tensors()[k];
        ASSERT_EQ(a.defined(), b.defined()) << block.name();
        EXPECT_TRUE(!a.defined() || a.equal(b)) << block.name();
      }
      EXPECT_THROW(block.forward_part(block.num_parts(), {batch}, flow), InternalError);
    }
  }
}

}  // namespace
}  // namespace gimbal
