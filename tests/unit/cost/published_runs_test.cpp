// Analytic profiles against published training runs. The shares of the peak are set from those of
// one device; the last one, with tensor parallelism, is not used for it.
#include <gtest/gtest.h>

#include "unit/cost/test_models.h"

namespace gimbal {
namespace {

using testing::LayerShape;

Seconds step_seconds(const ModelDesc& model, const std::string& machine, int tp,
                     const WorkSize& work) {
  CostSettings settings;
  settings.mesh.tp = tp;
  const CostModel costs(model, analytic_profile(model, find_hardware(machine), "bfloat16"),
                        settings);
  Seconds sum = costs.profile().step_overhead;
  for (std::size_t b = 0; b < costs.num_blocks(); ++b)
    sum += costs.forward(b, work) + costs.backward(b, work) + costs.optimizer_seconds(b);
  return sum;
}

WorkSize text_work(double samples, double length) {
  return {.text_rows = samples * length,
          .text_pairs = samples * length * length,
          .loss_rows = samples * length};
}

// Dao 2023 (arXiv 2307.08691), table 1: TFLOP/s of one A100, counted as 6 N + 12 L D S per token.
double gpt_tera_flops(int layers, double width, double heads, double length) {
  const ModelDesc model = testing::text_model(
      layers, {.width = width, .ffn = 4 * width, .kv_width = width, .heads = heads, .gated = false},
      50257);
  const double samples = 65536 / length;
  const double flops =
      6 * static_cast<double>(model.num_parameters()) + 12 * layers * width * length;
  return flops * samples * length / step_seconds(model, "a100-80g", 1, text_work(samples, length)) /
         1e12;
}

TEST(PublishedRuns, GptOnOneA100) {
  EXPECT_NEAR(gpt_tera_flops(24, 2048, 16, 2048) / 196, 1, 0.1);
  EXPECT_NEAR(gpt_tera_flops(32, 2560, 32, 2048) / 205, 1, 0.1);
  EXPECT_NEAR(gpt_tera_flops(24, 2048, 16, 8192) / 220, 1, 0.1);
  EXPECT_NEAR(gpt_tera_flops(32, 2560, 32, 8192) / 225, 1, 0.1);
}

// NVIDIA NeMo guide, ViT performance: images/s of a node of 8 devices for ViT g/14 with 224 pixels.
double vit_images_per_second(const std::string& machine) {
  const LayerShape shape{
      .width = 1408, .ffn = 6144, .kv_width = 1408, .heads = 16, .gated = false, .tile_rows = 257};
  ModelDesc model;
  for (int i = 0; i < 40; ++i)
    model.blocks.push_back(testing::layer_block("vision." + std::to_string(i), shape));
  const double images = 256;
  return 8 * images / step_seconds(model, machine, 1, {.vision_rows = images});
}

TEST(PublishedRuns, VisionTransformerOnEightA100AndH100) {
  EXPECT_NEAR(vit_images_per_second("a100-80g") / 693, 1, 0.1);
  EXPECT_NEAR(vit_images_per_second("h100-80g") / 1428, 1, 0.1);
}

// Korthikanti et al. 2022 (arXiv 2205.05198), table 5: 22B parameters, tensor parallel 8, sequence
// parallel activations, 4 sequences of 2,048 tokens: 1.10 s with the attention's scores recomputed.
TEST(PublishedRuns, GptWithTensorParallelEight) {
  const ModelDesc model = testing::text_model(
      48, {.width = 6144, .ffn = 4 * 6144, .kv_width = 6144, .heads = 64, .gated = false}, 51200);
  EXPECT_NEAR(step_seconds(model, "a100-80g", 8, text_work(4, 2048)) / 1.10, 1, 0.1);
}

}  // namespace
}  // namespace gimbal
