#include "gimbal/arch/describe.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "arch/model_configs.h"

namespace gimbal {
namespace {

std::vector<Json> all_families() {
  std::vector<Json> all{small_internvl(), small_chat(), small_llava()};
  for (const char* type : {"llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "internlm2"})
    all.push_back(small_text(type));
  for (const char* type : {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
    all.push_back(small_qwen_vl(type));
  return all;
}

const BlockDesc& find_block(const ModelDesc& model, const std::string& name) {
  for (const BlockDesc& block : model.blocks)
    if (block.name == name) return block;
  throw std::out_of_range(name);
}

TEST(Describe, EveryFamilyIsKnownAndSmallOnesAreDescribed) {
  const auto all = all_families();
  EXPECT_EQ(known_model_types().size(), all.size());
  for (const Json& config : all) {
    const ModelDesc model = describe_model(config, "here");
    EXPECT_EQ(model.type, config.at("model_type"));
    EXPECT_EQ(model.blocks.back().name, "text.head");
    EXPECT_EQ(model.vocab_size, 320);
    EXPECT_EQ(model.max_positions, 512);
    EXPECT_EQ(model.text_kv_heads, 2);
  }
}

TEST(Describe, BlocksAreInTheOrderOfTheFlow) {
  const ModelDesc model = describe_model(small_internvl(), "here");
  std::vector<std::string> names;
  for (const BlockDesc& block : model.blocks) names.push_back(block.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"vision.embed", "vision.0", "vision.1", "vision.2",
                                      "vision.3", "vision.4", "projector", "text.embed", "text.0",
                                      "text.1", "text.2", "text.norm", "text.head"}));
  EXPECT_EQ(model.vision_row, "tile");
  EXPECT_EQ(model.tokens_per_vision_row, 4);
  EXPECT_TRUE(model.tied_embeddings);  // transformers' default for InternVL
  EXPECT_EQ(model.vision_heads, 3);
}

TEST(Describe, EqualClassesCostTheSame) {
  const WorkSize work{
      .text_rows = 7, .text_pairs = 31, .loss_rows = 3, .vision_rows = 5, .vision_pairs = 25};
  for (const Json& config : all_families()) {
    const ModelDesc model = describe_model(config, "here");
    for (const BlockDesc& a : model.blocks)
      for (const BlockDesc& b : model.blocks) {
        if (a.cost_class != b.cost_class) continue;
        EXPECT_EQ(forward_flops(a, work), forward_flops(b, work)) << a.name << " " << b.name;
        if (a.unused || b.unused) continue;
        for (const Recompute level : recompute_levels(a))
          EXPECT_EQ(saved_values(a, work, level), saved_values(b, work, level)) << a.name;
      }
  }
}

TEST(Describe, RecomputeKeepsLessAndDoesTheRestAgain) {
  const WorkSize work{
      .text_rows = 64, .text_pairs = 4096, .loss_rows = 9, .vision_rows = 32, .vision_pairs = 1024};
  for (const Json& config : all_families()) {
    for (const BlockDesc& block : describe_model(config, "here").blocks) {
      const auto levels = recompute_levels(block);
      const bool layer =
          block.kind == BlockKind::kTextLayer || block.kind == BlockKind::kVisionLayer;
      EXPECT_EQ(levels.size(), block.unused                          ? 1u
                               : layer                               ? 4u
                               : block.kind == BlockKind::kProjector ? 2u
                                                                     : 1u)
          << block.name;
      const double kept = saved_values(block, work, Recompute::kKeep);
      for (const Recompute level : levels) {
        EXPECT_EQ(saved_values(block, work, level) + recomputed_values(block, work, level), kept);
        if (level == Recompute::kKeep) continue;
        EXPECT_LT(saved_values(block, work, level), kept) << block.name;
        EXPECT_GT(recompute_flops(block, work, level), 0) << block.name;
      }
    }
  }
}

TEST(Describe, TextLayerKeepsWhatItsOperationsNeed) {
  const BlockDesc layer = find_block(describe_model(small_text("llama"), "here"), "text.0");
  ASSERT_EQ(layer.parts.size(), 2u);
  // x, norm, q, k, v, result, log-sums; x, norm, gate, up, product.
  EXPECT_EQ(layer.parts[0].saved_values_per_row, 2 * 64 + 64 + 32 + 32 + 64 + 4);
  EXPECT_EQ(layer.parts[1].saved_values_per_row, 2 * 64 + 3 * 160);
  EXPECT_EQ(layer.parts[0].input_values_per_row, 64);
  EXPECT_EQ(layer.tensor_reductions, 2);
  EXPECT_EQ(layer.exchanged_values_per_row, 64 + 32 + 32 + 64);
  Json config = small_text("llama");
  config["hidden_act"] = "gelu";  // the gate's activation is kept besides
  EXPECT_EQ(find_block(describe_model(config, "here"), "text.0").parts[1].saved_values_per_row,
            2 * 64 + 4 * 160);
}

TEST(Describe, ProjectionsOfKeysAndValuesAreCountedWithTheirBiases) {
  const auto counted = [](const std::string& type) {
    return find_block(describe_model(small_text(type), "here"), "text.0").num_key_value_parameters;
  };
  EXPECT_EQ(counted("llama"), 2 * 64 * 32);
  EXPECT_EQ(counted("qwen2"), 2 * 64 * 32 + 2 * 32);
}

TEST(Describe, VisionCutsSendTheRowsOfTheirPlace) {
  const WorkSize work{.text_rows = 100, .vision_rows = 3};
  const ModelDesc model = describe_model(small_internvl(), "here");
  EXPECT_EQ(cut_values(model, 2, work), 3 * 17 * 48);  // rows of a tile with the class token
  EXPECT_EQ(cut_values(model, 6, work), 3 * 4 * 64);   // visual tokens
  EXPECT_EQ(cut_values(model, 7, work), 100 * 64);
  EXPECT_EQ(cut_values(model, 12, work), 0);
}

TEST(Describe, LlavaCarriesItsFeaturesPastUnusedLayers) {
  Json config = small_llava();
  config["vision_feature_layer"] = 3;
  const ModelDesc model = describe_model(config, "here");
  const WorkSize work{.vision_rows = 1};
  EXPECT_EQ(cut_values(model, 3, work), 17 * 48);
  EXPECT_TRUE(model.blocks[4].unused);
  EXPECT_EQ(cut_values(model, 4, work), 2 * 17 * 48);  // the stream and the features
  EXPECT_EQ(cut_values(model, 5, work), 17 * 48);      // the stream ends: features alone
  EXPECT_EQ(saved_values(model.blocks[4], work, Recompute::kKeep), 0);
  EXPECT_EQ(model.tokens_per_vision_row, 16);
  EXPECT_FALSE(describe_model(small_llava(), "here").blocks[4].unused);
  EXPECT_TRUE(describe_model(small_llava(), "here").blocks[5].unused);
}

TEST(Describe, DeepStackFeaturesAreCarriedToTheLayersThatAddThem) {
  const ModelDesc model = describe_model(small_qwen_vl("qwen3_vl"), "here");
  const WorkSize work{.text_rows = 40, .vision_rows = 16};
  const double feature = 4 * 64;  // 16 patches are 4 tokens
  EXPECT_EQ(find_block(model, "vision.0").cost_class, "vision_deepstack_layer");
  EXPECT_EQ(find_block(model, "vision.1").cost_class, "vision_layer");
  EXPECT_EQ(cut_values(model, 0, work), 16 * 32);
  EXPECT_EQ(cut_values(model, 1, work), 16 * 32 + feature);
  EXPECT_EQ(cut_values(model, 2, work), 16 * 32 + feature);
  EXPECT_EQ(cut_values(model, 3, work), 16 * 32 + 2 * feature);
  EXPECT_EQ(model.blocks[5].name, "projector");
  EXPECT_EQ(cut_values(model, 5, work), feature + 2 * feature);
  EXPECT_EQ(cut_values(model, 6, work), 40 * 64 + 2 * feature);  // text.embed
  EXPECT_EQ(cut_values(model, 7, work), 40 * 64 + feature);      // text.0 has added one
  EXPECT_EQ(cut_values(model, 8, work), 40 * 64);
  EXPECT_EQ(model.vision_row, "patch");
  EXPECT_EQ(model.tokens_per_vision_row, 0.25);
}

TEST(Describe, WindowLayersHaveTheirOwnClass) {
  const ModelDesc model = describe_model(small_qwen_vl("qwen2_5_vl"), "here");
  const WorkSize work{.vision_rows = 32, .vision_pairs = 1024};
  const BlockDesc& window = find_block(model, "vision.0");
  const BlockDesc& full = find_block(model, "vision.1");
  EXPECT_EQ(window.cost_class, "vision_window_layer");
  EXPECT_EQ(full.cost_class, "vision_layer");
  // One picture of 32 patches: 32 pairs per row; a window of 56 pixels has 16 patches.
  EXPECT_EQ(forward_flops(full, work) - forward_flops(window, work), 4 * 32 * (1024 - 32 * 16));
}

TEST(Describe, OriginalInternVlTakesTilesOfTheOuterSize) {
  const ModelDesc as_is = describe_model(small_chat(), "here");
  Json config = small_chat();
  config["force_image_size"] = 112;
  const ModelDesc larger = describe_model(config, "here");
  EXPECT_EQ(larger.num_parameters(), as_is.num_parameters());  // positions are interpolated
  EXPECT_EQ(larger.tokens_per_vision_row, 4 * as_is.tokens_per_vision_row);
  config["select_layer"] = -2;
  EXPECT_TRUE(describe_model(config, "here").blocks[5].unused);
  config["llm_config"].erase("model_type");
  config["llm_config"]["architectures"] = {"InternLM2ForCausalLM"};
  EXPECT_EQ(describe_model(config, "here").num_parameters(), as_is.num_parameters());
}

TEST(Describe, ReadsAFileOrItsFolder) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "arch_describe_test";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << small_text("qwen3").dump();
  const std::int64_t expected = describe_model(small_text("qwen3"), "here").num_parameters();
  EXPECT_EQ(describe_model_file(folder).num_parameters(), expected);
  EXPECT_EQ(describe_model_file(folder / "config.json").num_parameters(), expected);
  EXPECT_THROW(describe_model_file(folder / "other.json"), UserError);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace gimbal
