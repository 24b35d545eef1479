// Recompute levels on the real blocks: gradients are those of keep, bit for bit, and memory falls
// as arch says.
#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "gimbal/profile/allocation_meter.h"
#include "gimbal/profile/memory.h"
#include "gimbal/train/tape/block_levels.h"
#include "gimbal/train/tape/tape.h"
#include "parallel/toy_model.h"
#include "train/small_models.h"

namespace gimbal {
namespace {

using small_models::make_batch;
using toy::NamedTensors;

constexpr Recompute kLevels[] = {Recompute::kKeep, Recompute::kAttention, Recompute::kMlp,
                                 Recompute::kFull};

/// The level as the trainer gives it to each block.
std::vector<Recompute> all_at(const Model& model, Recompute level) {
  ModelConfig config;
  config.recompute = level;
  return block_levels(config, model.desc);
}

NamedTensors tape_gradients(const Model& model, const std::vector<Batch>& batches,
                            at::ScalarType compute, const std::vector<Recompute>& levels) {
  const auto comm = make_single_comm();
  const auto store = small_models::make_store(model, *comm, compute);
  Tape tape(model, *store, levels);
  store->begin_step();
  for (std::size_t i = 0; i < batches.size(); ++i) {
    tape.forward({batches[i]});
    tape.backward(0.25, i + 1 == batches.size());
  }
  store->finish_reduce();
  return toy::gradients_of(*store);
}

/// Gradients of one autograd graph over the whole model, one batch.
NamedTensors graph_gradients(const Model& model, const Batch& batch) {
  for (const ParameterPtr& p : model.parameters()) {
    p->value = initial_values(*p, 7).requires_grad_(p->trainable);
    if (p->trainable) p->value.mutable_grad() = at::zeros_like(p->value);
  }
  Flow flow;
  for (const auto& block : model.blocks) flow = block->forward({batch}, flow);
  torch::autograd::backward({flow.loss}, {at::zeros_like(flow.loss) + 0.25});
  NamedTensors gradients;
  for (const ParameterPtr& p : model.parameters()) {
    if (p->trainable) gradients[p->name] = p->value.grad();
    p->value.reset();
  }
  return gradients;
}

void expect_equal_bits(const NamedTensors& a, const NamedTensors& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << what << ": " << name;
    EXPECT_TRUE(at::equal(tensor, b.at(name))) << what << ": " << name;
  }
}

struct ModelCase {
  std::string name;
  Json config;
  bool vision = false;
};

std::vector<ModelCase> model_cases() {
  std::vector<ModelCase> cases;
  for (const std::string family : {"qwen2", "qwen3", "llama"})
    cases.push_back({family, small_models::text_config(family, false), false});
  cases.push_back({"qwen2 tied", small_models::text_config("qwen2", true), false});
  cases.push_back({"internvl qwen2", small_models::internvl_config("qwen2", false), true});
  cases.push_back({"internvl qwen3 tied", small_models::internvl_config("qwen3", true), true});
  return cases;
}

class RecomputeTest : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_F(RecomputeTest, EveryLevelGivesTheGradientsOfKeep) {
  for (const ModelCase& test : model_cases()) {
    const Model model = make_model(test.config, test.name);
    // Packs of several samples; the second micro-batch has no picture.
    const std::vector<Batch> batches{make_batch(1, {9, 5, 13}, test.vision ? 2 : 0),
                                     make_batch(2, {4, 6}, 0), make_batch(3, {17}, test.vision)};
    for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
      const NamedTensors kept =
          tape_gradients(model, batches, compute, all_at(model, Recompute::kKeep));
      for (const Recompute level : {Recompute::kAttention, Recompute::kMlp, Recompute::kFull}) {
        const std::string what =
            concat(test.name, " ", at::toString(compute), " level ", static_cast<int>(level));
        expect_equal_bits(kept, tape_gradients(model, batches, compute, all_at(model, level)),
                          what);
        // Not as the trainer chooses them: every block, head and embeddings too.
        const std::vector<Recompute> everywhere(model.blocks.size(), level);
        expect_equal_bits(kept, tape_gradients(model, batches, compute, everywhere), what);
      }
    }
  }
}

TEST_F(RecomputeTest, EveryLevelGivesTheGradientsOfOneGraph) {
  for (const ModelCase& test : model_cases()) {
    const Model model = make_model(test.config, test.name);
    const Batch batch = make_batch(4, {9, 5, 13}, test.vision ? 2 : 0);
    const NamedTensors expected = graph_gradients(model, batch);
    for (const Recompute level : kLevels) {
      expect_equal_bits(expected, tape_gradients(model, {batch}, at::kFloat, all_at(model, level)),
                        test.name);
    }
  }
}

TEST_F(RecomputeTest, LevelsMixAndPartsMayBeFrozen) {
  const Json config = small_models::internvl_config("qwen2", false);
  for (const std::vector<std::string>& frozen : {std::vector<std::string>{},
                                                 {"vision.*"},
                                                 {"vision.*", "projector"},
                                                 {"text.*"},
                                                 {"text.0*"},
                                                 {"projector"}}) {
    Model model = make_model(config, "mix");
    if (!frozen.empty()) freeze_parameters(model, frozen);
    const std::vector<Batch> batches{make_batch(5, {9, 7}, 1), make_batch(6, {3}, 0)};
    const NamedTensors kept =
        tape_gradients(model, batches, at::kFloat, all_at(model, Recompute::kKeep));
    for (std::size_t shift = 0; shift < 4; ++shift) {
      std::vector<Recompute> levels;
      for (std::size_t i = 0; i < model.blocks.size(); ++i)
        levels.push_back(kLevels[(i + shift) % 4]);
      expect_equal_bits(kept, tape_gradients(model, batches, at::kFloat, levels), "mixed");
    }
  }
}

TEST_F(RecomputeTest, RankWithoutPicturesGetsZeroVisionGradients) {
  const Model model = make_model(small_models::internvl_config("qwen2", false), "no pictures");
  for (const Recompute level : kLevels) {
    const NamedTensors gradients =
        tape_gradients(model, {make_batch(7, {6, 5}, 0)}, at::kFloat, all_at(model, level));
    EXPECT_EQ(gradients.at("vision.0.attention.q_proj.weight").abs().max().item<float>(), 0);
    EXPECT_GT(gradients.at("text.0.attention.q_proj.weight").abs().max().item<float>(), 0);
  }
}

struct MeasuredBytes {
  std::int64_t saved = 0;  // held after forward
  std::int64_t peak = 0;   // above the start, forward and backward
};

MeasuredBytes measure(const Model& model, const Batch& batch, at::ScalarType compute,
                      const std::vector<Recompute>& levels) {
  AllocationMeter meter(at::kCPU);
  const auto comm = make_single_comm();
  const auto store = small_models::make_store(model, *comm, compute);
  Tape tape(model, *store, levels);
  MeasuredBytes bytes;
  // The first pass makes what stays: gradients' buffers, tables of angles.
  for (int pass = 0; pass < 2; ++pass) {
    store->begin_step();
    const std::int64_t before = meter.current_bytes();
    meter.reset_peak();
    tape.forward({batch});
    bytes.saved = meter.current_bytes() - before;
    tape.backward(1.0, true);
    store->finish_reduce();
    bytes.peak = meter.peak_bytes() - before;
  }
  return bytes;
}

/// Wide enough that what is left over (loss, lengths) does not count.
Json wide_config(small_models::Sizes& sizes) {
  sizes = {.width = 64,
           .ffn_width = 160,
           .layers = 4,
           .vision_width = 48,
           .vision_ffn_width = 128,
           .image_size = 16};
  return small_models::internvl_config("qwen2", false, sizes);
}

/// Bytes that the CPU's bfloat16 attention holds besides: it computes in float32
/// (nn/attention/attention.cpp) and so keeps q, k, v and its result with 2 more bytes a value, and
/// the result in bfloat16 too.
double float32_attention_bytes(const small_models::Sizes& sizes, const WorkSize& work) {
  const auto layers = static_cast<double>(sizes.layers);
  const auto width = static_cast<double>(sizes.width);
  const auto vision_width = static_cast<double>(sizes.vision_width);
  const auto patches = static_cast<double>(4 * small_models::tokens_per_tile(sizes));
  return layers * (work.text_rows * (3 * width * 2 + width * 2) +  // half as many k and v heads
                   work.vision_rows * (patches + 1) * (4 * vision_width * 2 + vision_width * 2));
}

TEST_F(RecomputeTest, SavedBytesAreThoseThatArchCounts) {
  small_models::Sizes sizes;
  const Model model = make_model(wide_config(sizes), "wide");
  const Batch batch = make_batch(8, {150, 90, 120}, 3, sizes);
  const WorkSize work = small_models::work_of(batch);
  for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
    for (const Recompute level : kLevels) {
      const std::vector<Recompute> levels = all_at(model, level);
      double values = 0;
      for (std::size_t i = 0; i < levels.size(); ++i)
        values += saved_values(model.desc.blocks[i], work, levels[i]);
      double expected = values * static_cast<double>(c10::elementSize(compute));
      const bool attention_kept = level == Recompute::kKeep || level == Recompute::kMlp;
      if (compute == at::kBFloat16 && attention_kept)
        expected += float32_attention_bytes(sizes, work);
      const MeasuredBytes bytes = measure(model, batch, compute, levels);
      const auto saved = static_cast<double>(bytes.saved);
      EXPECT_NEAR(saved / expected, 1, 0.05)
          << at::toString(compute) << " level " << static_cast<int>(level) << ": " << saved
          << " bytes, expected " << expected;
    }
  }
}

TEST_F(RecomputeTest, PeakIsThatOfTheEstimate) {
  small_models::Sizes sizes;
  const Json config = wide_config(sizes);
  const Batch batch = make_batch(10, {150, 90, 120}, 3, sizes);
  const WorkSize work = small_models::work_of(batch);
  for (const std::vector<std::string>& frozen :
       {std::vector<std::string>{}, {"vision.*"}, {"vision.*", "text.*"}}) {
    Model model = make_model(config, "wide");
    if (!frozen.empty()) freeze_parameters(model, frozen);
    for (const Recompute level : kLevels) {
      MemorySetting setting;
      setting.levels = all_at(model, level);
      for (const auto& block : model.blocks)
        setting.frozen.push_back(!block->parameters().front()->trainable);
      const auto peak = static_cast<double>(measure(model, batch, at::kFloat, setting.levels).peak);
      const double estimate = peak_activation_bytes(model.desc, work, setting);
      // Gradients of activations are an estimate.
      EXPECT_NEAR(estimate / peak, 1, 0.1)
          << "level " << static_cast<int>(level) << ", " << frozen.size()
          << " frozen patterns: " << peak << " bytes, estimate " << estimate;
    }
  }
}

/// Vocabulary x width is far above the rest: what the head holds in forward is the peak.
TEST_F(RecomputeTest, PeakOfALargeHeadIsThatOfTheEstimate) {
  small_models::Sizes sizes;
  for (const std::int64_t vocabulary : {4000, 20000}) {
    Json config = wide_config(sizes);
    config["text_config"]["vocab_size"] = vocabulary;
    for (const auto& lengths : {std::vector<std::int64_t>{30, 20}, {150, 90, 120}}) {
      const Batch batch = make_batch(11, lengths, 1, sizes);
      const WorkSize work = small_models::work_of(batch);
      for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
        for (const bool frozen : {false, true}) {
          Model model = make_model(config, "large head");
          if (frozen) freeze_parameters(model, {"text.head.*"});
          MemorySetting setting;
          setting.compute_bytes = static_cast<int>(c10::elementSize(compute));
          setting.levels = all_at(model, Recompute::kFull);
          setting.frozen.assign(model.blocks.size(), false);
          setting.frozen.back() = frozen;
          const auto peak =
              static_cast<double>(measure(model, batch, compute, setting.levels).peak);
          const double estimate = peak_activation_bytes(model.desc, work, setting);
          EXPECT_NEAR(estimate / peak, 1, 0.05)
              << "vocabulary " << vocabulary << ", " << work.text_rows << " rows, "
              << at::toString(compute) << (frozen ? ", frozen head: " : ": ") << peak
              << " bytes, estimate " << estimate;
        }
      }
    }
  }
}

TEST_F(RecomputeTest, PeakMemoryFallsWithTheLevel) {
  small_models::Sizes sizes;
  const Model model = make_model(wide_config(sizes), "wide");
  const Batch batch = make_batch(9, {150, 90, 120}, 3, sizes);
  const MeasuredBytes keep = measure(model, batch, at::kFloat, all_at(model, Recompute::kKeep));
  const MeasuredBytes attention =
      measure(model, batch, at::kFloat, all_at(model, Recompute::kAttention));
  const MeasuredBytes mlp = measure(model, batch, at::kFloat, all_at(model, Recompute::kMlp));
  const MeasuredBytes full = measure(model, batch, at::kFloat, all_at(model, Recompute::kFull));
  for (const MeasuredBytes& part : {attention, mlp}) {
    EXPECT_LT(part.saved, keep.saved);
    EXPECT_LT(part.peak, keep.peak);
    EXPECT_LT(full.saved, part.saved);
    EXPECT_LT(full.peak, part.peak);
  }
}

}  // namespace
}  // namespace gimbal
