#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/temp_folder.h"
#include "gimbal/balance/costs/cost_file.h"
#include "gimbal/base/error.h"
#include "gimbal/base/json.h"

namespace gimbal {
namespace {

using testing::message_of;
using testing::TempFolder;
using Streams = std::vector<std::string>;

const Streams kText{"tokens"};

Json text_config(const std::string& type) {
  return {{"model_type", type},     {"hidden_size", 64},        {"intermediate_size", 176},
          {"num_hidden_layers", 3}, {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"vocab_size", 1000}};
}

// Tiles of 4 x 4 patches, 4 text rows each.
Json vision_config() {
  return {{"hidden_size", 48},        {"intermediate_size", 96}, {"num_hidden_layers", 2},
          {"num_attention_heads", 4}, {"image_size", {56, 56}},  {"patch_size", {14, 14}}};
}

Json internvl_config() {
  return {{"model_type", "internvl"},
          {"text_config", text_config("qwen2")},
          {"vision_config", vision_config()}};
}

std::vector<StreamCost> costs_of(const Json& config, const Streams& streams,
                                 double head_share = 1.0) {
  const TempFolder folder;
  std::ofstream(folder / "config.json") << config;
  return model_costs(folder.path(), streams, head_share);
}

std::string error_of(const Json& config, const Streams& streams = kText) {
  return message_of<UserError>([&] { costs_of(config, streams); });
}

// The numbers are those of torch's FlopCounterMode for transformers' models of these settings with
// eager attention, of which the causal half counts.
TEST(ModelCosts, AgreeWithCountedFlops) {
  const StreamCost qwen2 = costs_of(text_config("qwen2"), kText)[0];
  EXPECT_EQ(qwen2.per_row, 404480);
  EXPECT_EQ(qwen2.per_pair, 768 / 2);

  Json wide = text_config("qwen3");
  wide["head_dim"] = 24;
  const StreamCost qwen3 = costs_of(wide, kText)[0];
  EXPECT_EQ(qwen3.per_row, 441344);
  EXPECT_EQ(qwen3.per_pair, 1152 / 2);

  Json heads = text_config("llama");
  heads.erase("num_key_value_heads");  // as many as heads
  const StreamCost llama = costs_of(heads, kText)[0];
  EXPECT_EQ(llama.per_row, 429056);
  EXPECT_EQ(llama.per_pair, 768 / 2);

  const auto both = costs_of(internvl_config(), {"vision", "text", "patches"});
  EXPECT_EQ(both[0].per_row, 2398592);
  EXPECT_EQ(both[0].per_pair, 0);
  EXPECT_EQ(both[1].per_row, 404480);
  EXPECT_EQ(both[2].per_row, 2398592.0 / 16);
}

TEST(ModelCosts, KnowTheStreamNames) {
  const auto costs = costs_of(internvl_config(), {"tiles", "images", "vision", "text", "tokens"});
  EXPECT_EQ(costs[0].per_row, costs[2].per_row);
  EXPECT_EQ(costs[1].per_row, costs[2].per_row);
  EXPECT_EQ(costs[3].per_row, costs[4].per_row);
}

TEST(ModelCosts, ScaleTheHead) {
  const double whole = costs_of(text_config("qwen2"), kText)[0].per_row;
  EXPECT_EQ(costs_of(text_config("qwen2"), kText, 0)[0].per_row, whole - 2 * 64 * 1000);
  EXPECT_EQ(costs_of(text_config("qwen2"), kText, 0.5)[0].per_row, whole - 64 * 1000);
  const TempFolder folder;
  for (const double share : {-0.1, 1.1, std::nan("")})
    EXPECT_THROW(model_costs(folder.path(), kText, share), UserError);
}

TEST(ModelCosts, ReadTheOlderInternVlForm) {
  Json chat = {{"model_type", "internvl_chat"},
               {"llm_config", text_config("internlm2")},
               {"vision_config", vision_config()}};
  chat["vision_config"]["image_size"] = 56;
  chat["vision_config"]["patch_size"] = 14;
  EXPECT_EQ(costs_of(chat, {"vision"})[0].per_row, 2398592);
  EXPECT_EQ(costs_of(chat, kText)[0].per_row, 404480);
  chat["vision_config"]["image_size"] = 448;
  chat["force_image_size"] = 56;
  EXPECT_EQ(costs_of(chat, {"vision"})[0].per_row, 2398592);
  chat["llm_config"].erase("model_type");
  chat["llm_config"]["architectures"] = {"Qwen2ForCausalLM"};
  EXPECT_EQ(costs_of(chat, kText)[0].per_row, 404480);
  chat["llm_config"]["architectures"] = {"NewForCausalLM"};
  EXPECT_NE(error_of(chat).find("'NewForCausalLM'"), std::string::npos);
}

TEST(ModelCosts, UseTheDefaultsOfTransformers) {
  // Every key absent: Qwen2's 4096 wide, 22016 feed-forward, 32 layers, heads and key-value heads.
  const double d = 4096, f = 22016;
  EXPECT_EQ(costs_of({{"model_type", "qwen2"}}, kText)[0].per_row,
            32 * 2 * (4 * d * d + 3 * d * f) + 2 * d * 151936);
  // Qwen3's heads are 128 wide whatever the width.
  EXPECT_EQ(costs_of({{"model_type", "qwen3"}, {"hidden_size", 1024}}, kText)[0].per_pair,
            32.0 * 2 * 32 * 128);
}

TEST(ModelCosts, ReadAFileOrItsFolder) {
  const TempFolder folder;
  std::ofstream(folder / "config.json") << text_config("qwen2");
  EXPECT_EQ(model_costs(folder / "config.json", kText)[0].per_row,
            model_costs(folder.path(), kText)[0].per_row);
  EXPECT_THROW(model_costs(folder / "no.json", kText), UserError);
}

TEST(ModelCosts, NameWhatIsWrong) {
  EXPECT_NE(error_of(internvl_config(), {"tokens", "audio"}).find("stream 'audio'"),
            std::string::npos);
  EXPECT_NE(error_of(text_config("qwen2"), {"vision"}).find("no vision part"), std::string::npos);
  EXPECT_NE(error_of(text_config("gpt9")).find("'gpt9'"), std::string::npos);
  EXPECT_NE(error_of(Json::array()).find("is an object"), std::string::npos);
  EXPECT_NE(error_of(Json::object()).find("'model_type' is missing"), std::string::npos);

  Json config = text_config("qwen2");
  config["hidden_size"] = 0;
  EXPECT_NE(error_of(config).find("'hidden_size' is 0"), std::string::npos);
  config["hidden_size"] = "64";
  EXPECT_NE(error_of(config).find("'hidden_size'"), std::string::npos);

  Json vision = internvl_config();
  vision.erase("vision_config");
  EXPECT_NE(error_of(vision).find("'vision_config' is missing"), std::string::npos);
  vision = internvl_config();
  vision["vision_config"]["image_size"] = {56, 28};
  EXPECT_NE(error_of(vision).find("two equal ones"), std::string::npos);
  vision["vision_config"]["image_size"] = 7;
  EXPECT_NE(error_of(vision).find("below patch_size"), std::string::npos);
  vision = internvl_config();
  vision["downsample_ratio"] = 2;
  EXPECT_NE(error_of(vision).find("'downsample_ratio' is 2"), std::string::npos);
}

}  // namespace
}  // namespace gimbal
