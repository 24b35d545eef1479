// Models and samples that the planner's tests plan for.
#pragma once

#include <cstdint>
#include <string>

#include "gimbal/arch/describe.h"
#include "gimbal/base/rng.h"
#include "gimbal/cost/hardware.h"
#include "gimbal/plan/planner.h"

namespace gimbal::testing {

/// InternViT and a Qwen2 text model of the given sizes.
inline ModelDesc vision_language_model(int vision_layers, int vision_width, int text_layers,
                                       int text_width) {
  const Json config = {{"model_type", "internvl"},
                       {"downsample_ratio", 0.5},
                       {"image_seq_length", 256},
                       {"vision_config",
                        {{"hidden_size", vision_width},
                         {"num_hidden_layers", vision_layers},
                         {"num_attention_heads", vision_width / 64},
                         {"intermediate_size", 4 * vision_width},
                         {"image_size", {448, 448}},
                         {"patch_size", {14, 14}}}},
                       {"text_config",
                        {{"model_type", "qwen2"},
                         {"hidden_size", text_width},
                         {"num_hidden_layers", text_layers},
                         {"num_attention_heads", text_width / 128},
                         {"num_key_value_heads", text_width / 128 / 4},
                         {"intermediate_size", 4 * text_width},
                         {"vocab_size", 32000}}}};
  return describe_model(config, "test");
}

/// 24 vision layers of width 1024, 24 text layers of width 2048.
inline ModelDesc small_model() { return vision_language_model(24, 1024, 24, 2048); }

/// Text of 100 to 900 tokens around one to five tiles of 256.
inline SampleTable random_samples(std::size_t count, std::uint64_t seed = 7) {
  SampleTable samples;
  samples.origin = "test";
  const CounterRng rng(seed);
  for (std::size_t i = 0; i < count; ++i) {
    const auto tiles = static_cast<std::uint32_t>(1 + rng.below(2 * i, 5));
    samples.vision_rows.push_back(tiles);
    samples.text_rows.push_back(256 * tiles +
                                static_cast<std::uint32_t>(100 + rng.below(2 * i + 1, 800)));
  }
  return samples;
}

inline PlanInput small_input(int devices) {
  PlanInput input;
  input.model = small_model();
  input.profile = analytic_profile(input.model, find_hardware("a100-80g"), "bfloat16");
  input.samples = random_samples(4000);
  input.devices = devices;
  input.samples_per_step = 256;
  return input;
}

}  // namespace gimbal::testing
