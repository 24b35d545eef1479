#include "gimbal/profile/measure_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

BlockDesc block_of(BlockKind kind, const std::string& cost_class) {
  BlockDesc block;
  block.name = cost_class;
  block.kind = kind;
  block.cost_class = cost_class;
  block.output_values_per_row = 8;
  return block;
}

ModelDesc small_model() {
  ModelDesc model;
  model.blocks = {block_of(BlockKind::kTextEmbed, "text_embed"),
                  block_of(BlockKind::kTextLayer, "text_layer"),
                  block_of(BlockKind::kTextLayer, "text_layer")};
  return model;
}

/// A machine whose blocks cost exactly a line, except when it is disturbed. The work of a pack is
/// known from the lengths of its samples.
class LineRunner : public PassRunner {
 public:
  std::vector<BlockPass> run(const Batch& batch, PassMode mode) override {
    ++passes;
    double rows = 0, pairs = 0;
    for (std::size_t i = 0; i + 1 < batch.text_cu_seqlens.size(); ++i) {
      const auto length =
          static_cast<double>(batch.text_cu_seqlens[i + 1] - batch.text_cu_seqlens[i]);
      rows += length;
      pairs += length * length;
    }
    const bool full = mode == PassMode::kFull;
    // The layers of a class differ; their mean counts. Every seventh pass is disturbed: each pack
    // in each mode once in seven of its rounds.
    const double disturbed = passes % 7 == 0 ? 1.7 : 1.0;
    std::vector<BlockPass> result;
    for (const double scale : {1.0, 1.5, 2.5}) {
      // The first block, an embedding, knows no pairs.
      const double forward = 1e-4 + 1e-6 * rows + (result.empty() ? 0 : 1e-9 * pairs);
      const double input = 0.25 * forward, weight = 1.25 * forward;
      BlockPass pass;
      pass.forward_seconds = disturbed * scale * forward;
      pass.backward_seconds =
          disturbed * scale * (input + (mode == PassMode::kInputGradients ? 0 : weight));
      // Another program slows every pass of this mode: no part of what running again takes.
      if (full) pass.backward_seconds *= 1.4;
      pass.recompute_seconds = full ? disturbed * scale * forward : 0;
      pass.saved_bytes = full ? 8 * rows : 100 * rows + 2 * pairs;
      pass.forward_peak_bytes = 5 * rows;
      pass.backward_peak_bytes = full ? 150 * rows : 50 * rows;
      result.push_back(pass);
    }
    return result;
  }
  int passes = 0;
};

Batch lengths_only(const PackShape& pack) {
  Batch batch;
  batch.text_cu_seqlens = {0};
  for (const SampleShape& sample : pack)
    batch.text_cu_seqlens.push_back(batch.text_cu_seqlens.back() + sample.tokens);
  return batch;
}

std::vector<PackShape> packs_of_lengths() {
  return {{{50, 0, 1}},  {{30, 0, 1}, {90, 0, 1}},
          {{200, 0, 1}}, {{80, 0, 1}, {80, 0, 1}, {90, 0, 1}},
          {{400, 0, 1}}, {{20, 0, 1}, {300, 0, 1}, {300, 0, 1}}};
}

MeasureOptions rounds_only(int rounds) {
  MeasureOptions options;
  options.max_rounds = rounds;
  options.seconds = 1e3;
  return options;
}

TEST(MeasureBlocks, QuantileInterpolates) {
  EXPECT_EQ(quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(quantile({1, 2}, 0.25), 1.25);
  EXPECT_EQ(quantile({4}, 0.9), 4);
  EXPECT_THROW(quantile({}, 0.5), InternalError);
}

TEST(MeasureBlocks, FindsTheLineOfADisturbedMachine) {
  LineRunner runner;
  const BlockMeasurements measured =
      measure_blocks(runner, packs_of_lengths(), lengths_only, rounds_only(12));
  EXPECT_EQ(measured.rounds, 12);
  EXPECT_EQ(measured.dropped_tokens, 0);
  const auto costs = fit_blocks(small_model(), measured.packs, 4);
  ASSERT_EQ(costs.size(), 2U);
  const BlockCost& layer = costs.at("text_layer");
  EXPECT_NEAR(layer.forward.base, 2e-4, 2e-8);
  EXPECT_NEAR(layer.forward.per_row, 2e-6, 2e-10);
  EXPECT_NEAR(layer.forward.per_pair, 2e-9, 2e-13);
  EXPECT_NEAR(layer.backward_input.per_row, 0.25 * 2e-6, 1e-10);
  EXPECT_NEAR(layer.backward_weight.per_row, 1.25 * 2e-6, 1e-10);
  const auto full = static_cast<std::size_t>(Recompute::kFull);
  const auto keep = static_cast<std::size_t>(Recompute::kKeep);
  EXPECT_NEAR(layer.recompute[full].at(300, 9e4), layer.forward.at(300, 9e4), 1e-8);
  EXPECT_EQ(layer.recompute[keep], CostLine());
  EXPECT_NEAR(layer.saved[keep].per_row, 100, 1e-3);
  EXPECT_NEAR(layer.saved[keep].per_pair, 2, 1e-5);
  EXPECT_NEAR(layer.saved[full].per_row, 8, 1e-4);
  EXPECT_NEAR(layer.backward_workspace[full].per_row, 150, 1e-2);
  EXPECT_NEAR(layer.forward_workspace.per_row, 5, 1e-4);
  EXPECT_EQ(layer.output.per_row, 32);
  EXPECT_LT(layer.residual, 1e-3);
  // The first block has no gradient of inputs.
  EXPECT_EQ(costs.at("text_embed").backward_input, CostLine());
  EXPECT_NEAR(costs.at("text_embed").backward_weight.per_row, 1.5e-6, 1e-10);
}

/// Of three rounds of a pack in a mode one is calm, one half as slow again in all blocks, and in
/// one another program holds up the second block.
class RestlessRunner : public PassRunner {
 public:
  std::vector<BlockPass> run(const Batch& batch, PassMode mode) override {
    const int kind = passes_[{mode, batch.num_tokens()}]++ % 3;
    const std::vector<double> forward = kind == 0   ? std::vector{1.0, 2.0, 1.0}
                                        : kind == 1 ? std::vector{1.5, 3.0, 1.5}
                                                    : std::vector{1.0, 20.0, 1.0};
    std::vector<BlockPass> result(3);
    for (std::size_t block = 0; block < 3; ++block) {
      result[block].forward_seconds = forward[block];
      result[block].backward_seconds = 2 * forward[block];
    }
    return result;
  }

 private:
  std::map<std::pair<PassMode, std::int64_t>, int> passes_;
};

TEST(MeasureBlocks, BlocksShareTheMedianPassAsTheirQuartilesDo) {
  RestlessRunner runner;
  // 9 rounds: 3 passes of 4 s, 3 of 6 s and 3 of 22 s, wherever the first of them stands.
  const BlockMeasurements measured =
      measure_blocks(runner, packs_of_lengths(), lengths_only, rounds_only(9));
  ASSERT_EQ(measured.rounds, 9);
  for (const PackCosts& pack : measured.packs) {
    for (const std::vector<BlockPass>& mode : pack.modes) {
      ASSERT_EQ(mode.size(), 3U);
      // Quartiles 1, 2 and 1; the median pass takes 6.
      for (std::size_t block = 0; block < 3; ++block) {
        EXPECT_DOUBLE_EQ(mode[block].forward_seconds, block == 1 ? 3.0 : 1.5);
        EXPECT_DOUBLE_EQ(mode[block].backward_seconds, block == 1 ? 6.0 : 3.0);
      }
    }
  }
}

/// The third block is a head: it computes the weight's gradient in forward.
class HeadRunner : public LineRunner {
 public:
  std::vector<BlockPass> run(const Batch& batch, PassMode mode) override {
    std::vector<BlockPass> result = LineRunner::run(batch, PassMode::kKeep);
    const auto rows = static_cast<double>(batch.num_tokens());
    BlockPass& head = result.back();
    head.forward_seconds = 2e-4 + 3e-6 * rows;
    if (mode != PassMode::kInputGradients) head.forward_seconds += 1e-4 + 2e-6 * rows;
    head.backward_seconds = 1e-7 * rows;
    if (mode != PassMode::kInputGradients) head.backward_seconds += 5e-5;
    return result;
  }
};

TEST(MeasureBlocks, TheHeadsWeightGradientIsNoPartOfItsForward) {
  ModelDesc model = small_model();
  model.blocks[2] = block_of(BlockKind::kTextHead, "text_head");
  HeadRunner runner;
  std::vector<PackCosts> packs;
  for (const PackShape& pack : packs_of_lengths()) {
    PackCosts costs;
    costs.work = work_of(pack);
    costs.work.loss_rows = costs.work.text_rows;
    for (std::size_t mode = 0; mode < kNumPassModes; ++mode)
      costs.modes[mode] = runner.run(lengths_only(pack), static_cast<PassMode>(mode));
    packs.push_back(costs);
  }
  const auto costs = fit_blocks(model, packs, 4);
  const BlockCost& head = costs.at("text_head");
  EXPECT_NEAR(head.forward.base, 2e-4, 1e-9);
  EXPECT_NEAR(head.forward.per_row, 3e-6, 1e-11);
  EXPECT_NEAR(head.backward_input.per_row, 1e-7, 1e-12);
  EXPECT_NEAR(head.backward_weight.base, 1.5e-4, 1e-9);
  EXPECT_NEAR(head.backward_weight.per_row, 2e-6, 1e-11);
}

TEST(MeasureBlocks, LeavesOutWhatTakesTooLong) {
  class SlowRunner : public LineRunner {
   public:
    std::vector<BlockPass> run(const Batch& batch, PassMode mode) override {
      const auto begin = std::chrono::steady_clock::now();
      const double seconds = 1e-5 * static_cast<double>(batch.num_tokens());
      while (std::chrono::steady_clock::now() - begin < std::chrono::duration<double>(seconds)) {
      }
      return LineRunner::run(batch, mode);
    }
  };
  SlowRunner runner;
  MeasureOptions options = rounds_only(2);
  options.seconds = 0.06;  // all packs: 1,910 tokens, 19 ms a mode, 190 ms for two rounds
  const BlockMeasurements measured =
      measure_blocks(runner, packs_of_lengths(), lengths_only, options);
  EXPECT_GE(measured.rounds, 2);
  EXPECT_EQ(measured.packs.size(), 4U);
  EXPECT_EQ(measured.dropped_tokens, 400);
}

TEST(MeasureBlocks, NamesAClassWithoutRows) {
  LineRunner runner;
  const BlockMeasurements measured =
      measure_blocks(runner, packs_of_lengths(), lengths_only, rounds_only(2));
  ModelDesc model = small_model();
  model.blocks[1] = block_of(BlockKind::kVisionLayer, "vision_layer");
  try {
    fit_blocks(model, measured.packs, 4);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("vision_layer"));
    EXPECT_THAT(error.what(), testing::HasSubstr("balance.vision_cap"));
  }
}

}  // namespace
}  // namespace gimbal
