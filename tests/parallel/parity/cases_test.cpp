// The cases of the parity matrix, and a test that all of them are there.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <set>
#include <string>

#include "gimbal/base/json.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/config/enums.h"
#include "parity/parity_case.h"
#include "support/dataset_fixture.h"

namespace gimbal::parity {

namespace {

/// Of parameters; empty: all are trained.
std::string frozen_pattern(FrozenPart part) {
  switch (part) {
    case FrozenPart::kNone:
      return "";
    case FrozenPart::kVision:
      return "vision.*";
    case FrozenPart::kVisionEmbed:
      return "vision.embed.*";
    case FrozenPart::kText:
      return "text.*";
    case FrozenPart::kTextEmbed:
      return "text.embed.*";
  }
  return "";
}

}  // namespace

std::string Case::group() const {
  std::string text = concat("rep", mesh.dp_replicate, "_shard", mesh.dp_shard, "_sp", mesh.sp,
                            "_tp", mesh.tp, "_pp", mesh.pp);
  if (stages_per_rank > 1) text += concat("x", stages_per_rank);
  // Reduced micro-batch by micro-batch: which gradients go together depends on when they are there.
  if (weights == WeightsChoice::kReshard) text += concat("_reshard_", enum_name(schedule));
  if (frozen != FrozenPart::kNone) {
    std::string part = frozen_pattern(frozen);
    part.resize(part.size() - 2);
    text += "_frozen_" + part;
  }
  if (!tied) text += "_untied";
  if (!clip) text += "_unclipped";
  return text;
}

std::string Case::name() const {
  std::string text = group();
  if (weights == WeightsChoice::kKeep) text += concat("_", enum_name(schedule));
  text += concat("_", enum_name(recompute));
  if (!prefetch) text += "_noprefetch";
  return text;
}

Case Case::alone() const {
  Case one;
  one.frozen = frozen;
  one.tied = tied;
  one.clip = clip;
  return one;
}

std::vector<MeshShape> factorizations(int devices) {
  std::vector<MeshShape> meshes;
  const auto divides = [&](int product) { return devices % product == 0; };
  for (int pp = 1; pp <= devices; ++pp) {
    for (int rep = 1; divides(pp) && rep * pp <= devices; ++rep) {
      for (int shard = 1; divides(pp * rep) && shard * rep * pp <= devices; ++shard) {
        for (int sp = 1; divides(pp * rep * shard) && sp * shard * rep * pp <= devices; ++sp) {
          const int rest = pp * rep * shard * sp;
          if (divides(rest)) meshes.push_back({pp, rep, shard, sp, devices / rest, 1});
        }
      }
    }
  }
  return meshes;
}

std::vector<Case> matrix(int devices) {
  std::vector<Case> cases;
  for (const MeshShape& mesh : factorizations(devices)) {
    for (const FrozenPart frozen :
         {FrozenPart::kNone, FrozenPart::kVision, FrozenPart::kVisionEmbed}) {
      for (const WeightsChoice weights : {WeightsChoice::kKeep, WeightsChoice::kReshard}) {
        if (weights == WeightsChoice::kReshard && mesh.dp_shard == 1) continue;
        for (const PipelineChoice schedule :
             {PipelineChoice::kOneFOneB, PipelineChoice::kZeroBubble}) {
          if (schedule == PipelineChoice::kZeroBubble && mesh.pp == 1) continue;
          for (const Recompute recompute : {Recompute::kKeep, Recompute::kFull}) {
            if (frozen == FrozenPart::kVisionEmbed &&
                (schedule != PipelineChoice::kZeroBubble || recompute != Recompute::kFull ||
                 weights != WeightsChoice::kReshard))
              continue;
            Case one{mesh, schedule, 1, recompute, weights, frozen};
            cases.push_back(one);
            one.prefetch = false;
            if (mesh.dp_shard > 1) cases.push_back(one);
          }
        }
      }
    }
  }
  return cases;
}

namespace {

/// Cuts at other places for frozen towers; some lie inside the tower.
std::vector<std::string> stage_starts(const Case& parity_case) {
  const std::int64_t num_stages = parity_case.mesh.pp * parity_case.stages_per_rank;
  if (num_stages > 4 || parity_case.mesh.pp == 1 || parity_case.frozen != FrozenPart::kNone)
    return {};  // by work
  if (num_stages == 2) return {"vision.1"};
  return {"vision.1", "text.0", "text.3"};
}

void write_model(const std::filesystem::path& folder, bool tied) {
  std::filesystem::create_directories(folder);
  const Json text{
      {"model_type", "qwen2"},    {"hidden_size", 32},          {"intermediate_size", 48},
      {"num_hidden_layers", 4},   {"num_attention_heads", 4},   {"num_key_value_heads", 2},
      {"vocab_size", 100},        {"rms_norm_eps", 1e-6},       {"max_position_embeddings", 128},
      {"initializer_range", 0.1}, {"tie_word_embeddings", tied}};
  const Json vision{{"hidden_size", 16},
                    {"intermediate_size", 32},
                    {"num_hidden_layers", 2},
                    {"num_attention_heads", 4},
                    {"image_size", 16},
                    {"patch_size", 4},
                    {"attention_bias", true},
                    {"use_absolute_position_embeddings", true},
                    {"layer_scale_init_value", 0.5},
                    {"initializer_range", 0.1}};
  const Json config{{"model_type", "internvl"},   {"text_config", text},
                    {"vision_config", vision},    {"image_token_id", testing::kImageToken},
                    {"image_seq_length", 4},      {"downsample_ratio", 0.5},
                    {"tie_word_embeddings", tied}};
  std::ofstream(folder / "config.json") << config.dump(1);
  std::ofstream(folder / "tokenizer.json") << "{}";
  std::ofstream(folder / "tokenizer_config.json") << "{}";
  std::ofstream(folder / "preprocessor_config.json") << "{}";
}

}  // namespace

void write_inputs(const std::filesystem::path& root) {
  write_model(root / "tied", true);
  write_model(root / "untied", false);
  testing::DatasetFixture data(root / "data");
  const std::uint32_t one = data.add_picture("one.png", testing::make_picture(20, 14));
  const std::uint32_t three = data.add_picture("three.png", testing::make_picture(40, 20, 5), 2, 1);
  std::minstd_rand numbers(11);
  for (std::uint32_t i = 0; i < 60; ++i) {
    std::vector<std::uint32_t> items;
    if (i % 7 == 0) items.push_back(one);
    if (i % 11 == 0) items.push_back(three);
    std::vector<std::uint32_t> tokens{1};
    for (const std::uint32_t item : items) {
      tokens.insert(tokens.end(), 4 * data.media[item].rows, testing::kImageToken);
    }
    const auto begin = static_cast<std::uint32_t>(tokens.size());
    const std::uint32_t num_text = 3 + i * i % 17;
    for (std::uint32_t k = 0; k < num_text; ++k) {
      tokens.push_back(8 + static_cast<std::uint32_t>(numbers() % 92));
    }
    data.add_sample(tokens, {{begin + 1, begin + num_text}}, items);
  }
  data.write({{"model", {{"tokenizer_sha256", tokenizer_sha256(root / "tied")}}}});
}

Recipe recipe_of(const Case& parity_case, const std::filesystem::path& root) {
  Recipe recipe;
  recipe.name = "parity";
  recipe.model.path = (root / (parity_case.tied ? "tied" : "untied")).string();
  recipe.model.init = WeightInit::kRandom;
  recipe.model.recompute = parity_case.recompute;
  if (parity_case.frozen != FrozenPart::kNone)
    recipe.model.freeze = {frozen_pattern(parity_case.frozen)};
  recipe.data.train = (root / "data").string();
  recipe.balance.method = BalanceMethod::kRandom;
  recipe.balance.samples_per_pack = 2;
  recipe.balance.packs_per_step = 8;
  recipe.optimizer.lr = kLearningRate;
  recipe.optimizer.schedule = ScheduleKind::kConstant;
  // Above the rounding noise of gradients that are zero (biases of keys), which AdamW would blow up
  // to full steps.
  recipe.optimizer.eps = 1e-4;
  recipe.optimizer.clip_norm = parity_case.clip ? 0.5 : 0.0;
  recipe.optimizer.groups = {{"vision.*", 0.5, 0.1}};
  recipe.train.run = (root / parity_case.name()).string();
  recipe.train.max_steps = kSteps;
  recipe.train.device = DeviceKind::kCpu;
  recipe.train.threads = 1;
  recipe.train.loss_chunk_rows = 7;
  recipe.log.every_steps = kSteps;
  recipe.parallel.pp = parity_case.mesh.pp;
  recipe.parallel.dp_replicate = parity_case.mesh.dp_replicate;
  recipe.parallel.dp_shard = parity_case.mesh.dp_shard;
  recipe.parallel.sp = parity_case.mesh.sp;
  recipe.parallel.tp = parity_case.mesh.tp;
  recipe.parallel.schedule = parity_case.schedule;
  recipe.parallel.stages_per_rank = parity_case.stages_per_rank;
  recipe.parallel.stage_starts = stage_starts(parity_case);
  recipe.parallel.weights = parity_case.weights;
  recipe.parallel.prefetch = parity_case.prefetch;
  return recipe;
}

TEST(ParityCases, HaveEveryFactorizationOnce) {
  // Ordered products of five factors: 5 for 2; for 4 one axis of 4, or two axes of 2.
  EXPECT_EQ(factorizations(1).size(), 1u);
  EXPECT_EQ(factorizations(2).size(), 5u);
  EXPECT_EQ(factorizations(4).size(), 15u);
  std::set<std::string> names;
  for (const int devices : {2, 4}) {
    for (const Case& one : matrix(devices)) {
      EXPECT_EQ(one.mesh.devices(), devices);
      EXPECT_TRUE(names.insert(one.name()).second) << one.name();
    }
  }
}

}  // namespace gimbal::parity
