// Weight gradients that are put off, on the real blocks.
#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <set>

#include "gimbal/profile/allocation_meter.h"
#include "train/small_models.h"
#include "train/tape_runs.h"

namespace gimbal {
namespace {

using small_models::make_batch;
using toy::loss_gradient;
using toy::NamedTensors;

constexpr double kSeed = 0.25;

class SplitBackwardTest : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }

  const std::unique_ptr<Comm> comm_ = make_single_comm();
};

TEST_F(SplitBackwardTest, GradientsAreThoseOfBackward) {
  struct ModelCase {
    std::string name;
    Json config;
    bool vision;
  };
  for (const ModelCase& test :
       {ModelCase{"qwen2", small_models::text_config("qwen2", false), false},
        ModelCase{"llama tied", small_models::text_config("llama", true), false},
        ModelCase{"internvl qwen3 tied", small_models::internvl_config("qwen3", true), true}}) {
    const Model model = make_model(test.config, test.name);
    const std::vector<Batch> batches{make_batch(1, {9, 5, 13}, test.vision ? 2 : 0),
                                     make_batch(2, {4, 6}, 0)};
    for (const Recompute level :
         {Recompute::kKeep, Recompute::kAttention, Recompute::kMlp, Recompute::kFull}) {
      const std::vector<Recompute> levels(model.blocks.size(), level);
      NamedTensors gradients[2];
      std::set<std::string> put_off;
      for (const bool split : {false, true}) {
        const auto store = small_models::make_store(model, *comm_);
        Tape tape(model, *store, levels, {0, model.blocks.size()}, split);
        store->begin_step();
        for (std::size_t m = 0; m < batches.size(); ++m) {
          const Flow out = tape.forward(0, {batches[m]}, Flow());
          const Flow seed = loss_gradient(out.loss, kSeed);
          const bool last = m + 1 == batches.size();
          if (!split) {
            tape.backward(0, seed, last);
            continue;
          }
          tape.backward_input(0, seed);
          tape.set_observer(
              [&](std::size_t block, bool, bool) { put_off.insert(model.blocks[block]->name()); });
          tape.backward_weight(0, last);
          tape.set_observer(nullptr);
        }
        store->finish_reduce();
        gradients[split ? 1 : 0] = toy::gradients_of(*store);
      }
      toy::expect_bit_equal(gradients[1], gradients[0], test.name);
      EXPECT_TRUE(put_off.contains("text.0") && put_off.contains("text.1")) << test.name;
      EXPECT_EQ(put_off.contains("vision.0"), test.vision) << test.name;
    }
  }
}

/// With frozen patches the tower's input asks for no gradient; its layers do all the same.
TEST_F(SplitBackwardTest, CallsDoNotDependOnPictures) {
  const Model model = make_model(small_models::internvl_config("qwen3", true), "internvl");
  for (const ParameterPtr& parameter : model.blocks[0]->parameters()) parameter->trainable = false;
  for (const Recompute level : {Recompute::kKeep, Recompute::kFull}) {
    const std::vector<Recompute> levels(model.blocks.size(), level);
    std::vector<std::vector<std::string>> logs;
    for (const int num_tiles : {2, 0}) {
      toy::LoggingStore store(small_models::make_store(model, *comm_));
      Tape tape(model, store, levels, {0, model.blocks.size()}, /*split_backward=*/true);
      std::set<std::string> put_off;
      const Batch batch = make_batch(1, {9, 5, 13}, num_tiles);
      store.begin_step();
      const Flow out = tape.forward(0, {batch}, Flow());
      tape.backward_input(0, loss_gradient(out.loss, kSeed));
      tape.set_observer(
          [&](std::size_t block, bool, bool) { put_off.insert(model.blocks[block]->name()); });
      tape.backward_weight(0, /*last=*/true);
      store.finish_reduce();
      EXPECT_TRUE(put_off.contains("vision.0")) << num_tiles << " tiles";
      logs.push_back(store.log);
    }
    EXPECT_EQ(logs[0], logs[1]);
  }
}

TEST_F(SplitBackwardTest, OnlyWhatTheProductsNeedIsKept) {
  small_models::Sizes sizes{.width = 64, .ffn_width = 160, .layers = 4};
  const Model model = make_model(small_models::text_config("qwen2", /*tied=*/false, sizes), "wide");
  const Batch batch = make_batch(3, {150, 90, 120}, 0, sizes);
  AllocationMeter meter(at::kCPU);
  const auto store = small_models::make_store(model, *comm_);
  for (const Recompute level : {Recompute::kKeep, Recompute::kFull}) {
    Tape tape(model, *store, std::vector<Recompute>(model.blocks.size(), level),
              {0, model.blocks.size()}, /*split_backward=*/true);
    // The first pass makes what stays: tables of angles.
    for (const bool first : {true, false}) {
      store->begin_step();
      const std::int64_t before = meter.current_bytes();
      {
        const at::Tensor loss = tape.forward(0, {batch}, Flow()).loss;
        tape.backward_input(0, loss_gradient(loss, kSeed));
      }
      const auto held = static_cast<double>(meter.current_bytes() - before);
      tape.backward_weight(0, /*last=*/true);
      store->finish_reduce();
      if (first) continue;
      // Inputs: of q, k and v together, of o, of gate and up together, of down. Gradients of
      // outputs: q, k and v (half as wide each), o, gate, up, down.
      const double values =
          360.0 * static_cast<double>(sizes.layers * ((3 * 64 + 160) + (4 * 64 + 2 * 160)));
      EXPECT_NEAR(held / (4 * values), 1, 0.02) << "level " << static_cast<int>(level);
      EXPECT_LE(meter.current_bytes(), before);
    }
  }
}

}  // namespace
}  // namespace gimbal
