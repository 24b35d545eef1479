#include "gimbal/profile/memory.h"

#include <gtest/gtest.h>

#include <vector>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

TEST(Memory, PeakGrowsWithTheProcess) {
  reset_peak_resident_bytes();
  const std::int64_t before = peak_resident_bytes();
  EXPECT_GT(before, 1 << 20);
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  const std::vector<char> large(kBytes, 1);
  // Other pages may be given back at the same time: a little less than the whole counts.
  EXPECT_GE(peak_resident_bytes(), before + static_cast<std::int64_t>(large.size()) * 9 / 10);
}

ModelDesc three_blocks() {
  ModelDesc model;
  for (const auto kind : {BlockKind::kVisionLayer, BlockKind::kTextLayer, BlockKind::kTextLayer}) {
    BlockDesc block;
    block.kind = kind;
    block.num_parameters = 100;
    block.parts.resize(2);
    for (PartDesc& part : block.parts) {
      part.input_values_per_row = 2;
      part.saved_values_per_row = 5;
    }
    block.output_values_per_row = 2;
    model.blocks.push_back(block);
  }
  return model;
}

const WorkSize kWork{.text_rows = 10, .vision_rows = 3};

TEST(Memory, EstimateCountsWhatTrainingHolds) {
  MemorySetting setting;
  setting.frozen = {false, false, false};
  setting.levels = {Recompute::kKeep, Recompute::kKeep, Recompute::kKeep};
  const MemoryEstimate estimate = estimate_training_memory(three_blocks(), kWork, setting);
  EXPECT_EQ(estimate.parameter_bytes, 300 * 4);
  EXPECT_EQ(estimate.gradient_bytes, 300 * 4);
  EXPECT_EQ(estimate.optimizer_bytes, 300 * 8);
  // All saved values, and in the last layer's backward the gradients of its output and input and of
  // half of what a part saves between.
  constexpr double kActivations = 30 + 100 + 100 + (2 * 2 + 1.5) * 10;
  EXPECT_EQ(estimate.activation_bytes, kActivations * 4);
  EXPECT_EQ(estimate.total_bytes(), (300 * 4 + kActivations) * 4);
}

TEST(Memory, EstimateOfFrozenRecomputedAndHalfPrecision) {
  MemorySetting setting;
  setting.compute_bytes = 2;
  setting.frozen = {true, false, false};
  setting.levels = {Recompute::kKeep, Recompute::kFull, Recompute::kMlp};
  const MemoryEstimate estimate = estimate_training_memory(three_blocks(), kWork, setting);
  EXPECT_EQ(estimate.parameter_bytes, 300 * 6);
  EXPECT_EQ(estimate.gradient_bytes, 200 * 4);
  EXPECT_EQ(estimate.optimizer_bytes, 200 * 8);
  // The first text layer's input; of the second the attention part and the other part's input. Then
  // in the second's backward: what it computes again, gradients of activations as above, and those
  // of its parameters. None of the frozen prefix.
  EXPECT_EQ(estimate.activation_bytes, (20 + (50 + 20) + 30 + 55 + 100) * 2);
  EXPECT_THROW(estimate_training_memory(three_blocks(), kWork, MemorySetting{}), InternalError);
}

MemorySetting keep_everything() {
  MemorySetting setting;
  setting.frozen = {false, false, false};
  setting.levels = {Recompute::kKeep, Recompute::kKeep, Recompute::kKeep};
  return setting;
}

// Of one micro-batch on one device, in values.
constexpr double kKept = 30 + 100 + 100, kMoment = (2 * 2 + 1.5) * 10;

TEST(Memory, StateIsSharedByTheRanksOfTheMesh) {
  MemorySetting setting = keep_everything();
  setting.dp_shard = 2;
  for (const bool reshard : {false, true}) {
    setting.reshard = reshard;
    const MemoryEstimate shared = estimate_training_memory(three_blocks(), kWork, setting);
    EXPECT_EQ(shared.parameter_bytes, 150 * 4);
    EXPECT_EQ(shared.gradient_bytes, 150 * 4);
    EXPECT_EQ(shared.optimizer_bytes, 150 * 8);
  }
  setting.dp_shard = 1;
  setting.tp = 2;
  ModelDesc model = three_blocks();
  const MemoryEstimate cut = estimate_training_memory(model, kWork, setting);
  EXPECT_EQ(cut.parameter_bytes, 150 * 4);
  EXPECT_EQ(cut.optimizer_bytes, 150 * 8);
  model.blocks[0].num_uncut_parameters = 40;
  EXPECT_EQ(estimate_training_memory(model, kWork, setting).parameter_bytes, (150 + 20) * 4);
}

TEST(Memory, GatheredWeightsAndWholeGradientsCountForThePeak) {
  MemorySetting setting = keep_everything();
  // Activations decide where the peak is: in the last block.
  const WorkSize work = 10 * kWork;
  const double alone = peak_activation_bytes(three_blocks(), work, setting);
  const auto beside = [&](bool reshard, int micro_batches, std::vector<bool> frozen) {
    setting.dp_shard = 2;
    setting.reshard = reshard;
    setting.micro_batches = micro_batches;
    setting.frozen = std::move(frozen);
    return peak_activation_bytes(three_blocks(), work, setting) - alone;
  };
  const std::vector<bool> none{false, false, false};
  // All values, and all gradients, which wait for the last backward.
  EXPECT_EQ(beside(false, 2, none), (300 + 300) * 4);
  // Only one backward, in which the last block's gradient is the first.
  EXPECT_EQ(beside(false, 1, none), (300 + 100) * 4);
  // The block's values, and those of the one that is gathered ahead.
  EXPECT_EQ(beside(true, 2, none), (200 + 100) * 4);
  EXPECT_EQ(beside(true, 2, {false, false, true}), 200 * 4);
  setting.prefetch = false;
  EXPECT_EQ(beside(true, 2, none), (100 + 100) * 4);
  EXPECT_EQ(beside(false, 2, none), (300 + 300) * 4);
}

TEST(Memory, AGradientThatIsReducedCountsWithWhatArrives) {
  ModelDesc model = three_blocks();
  // The peak is in the block before the last.
  model.blocks[1].parts[0].saved_values_per_row = 105;
  MemorySetting setting = keep_everything();
  const double alone = peak_activation_bytes(model, kWork, setting);
  setting.dp_shard = 2;
  setting.reshard = true;
  EXPECT_EQ(peak_activation_bytes(model, kWork, setting) - alone, (200 + 100 + 1.5 * 100) * 4);
}

TEST(Memory, ActivationsAreThoseOfTheStageAndItsMicroBatchesUnderWay) {
  MemorySetting setting = keep_everything();
  setting.pp = 2;
  setting.stages = {{2, 3}};
  setting.held = {{2}};
  const MemoryEstimate last = estimate_training_memory(three_blocks(), kWork, setting);
  EXPECT_EQ(last.parameter_bytes, 100 * 4);
  // Two micro-batches' saved values; gradients of one; messages of the cut.
  EXPECT_EQ(last.activation_bytes, (2 * 100 + kMoment + 3 * 20) * 4);
  setting.sp = 2;
  setting.tp = 5;
  EXPECT_DOUBLE_EQ(peak_activation_bytes(three_blocks(), kWork, setting),
                   last.activation_bytes / 10);
}

TEST(Memory, AStageThatSendsItsResultKeepsIt) {
  MemorySetting setting = keep_everything();
  setting.pp = 2;
  setting.stages = {{0, 2}};
  setting.held = {{3}};
  EXPECT_EQ(peak_activation_bytes(three_blocks(), kWork, setting),
            (3 * (30 + 100 + 20) + kMoment + 3 * 20) * 4);
  // What is recomputed has no graph that holds it.
  setting.levels[1] = Recompute::kFull;
  EXPECT_EQ(peak_activation_bytes(three_blocks(), kWork, setting),
            (3 * (30 + 20) + 80 + kMoment + 3 * 20) * 4);
}

TEST(Memory, StagesOfARankAreHeldTogetherAtTheMomentsOfTheSchedule) {
  MemorySetting setting = keep_everything();
  setting.stages = {{0, 1}, {2, 3}};
  setting.held = {{2, 1}, {1, 2}};
  // One neighbour: the messages over the larger cut. With two, those of both.
  const double held = ((30 + 6) + 2 * 100 + kMoment) * 4;
  setting.pp = 2;
  EXPECT_EQ(peak_activation_bytes(three_blocks(), kWork, setting), held + 3 * 20 * 4);
  setting.pp = 3;
  EXPECT_EQ(peak_activation_bytes(three_blocks(), kWork, setting), held + 3 * (20 + 6) * 4);
}

TEST(Memory, ProductsThatWaitForTheirWeightGradientsKeepTheirInputs) {
  MemorySetting setting = keep_everything();
  setting.split_backward = true;
  EXPECT_EQ(peak_activation_bytes(three_blocks(), kWork, setting),
            (kKept + (2 * 2 + 0.75 * 3) * 10) * 4);
}

TEST(Memory, ABlockWithoutBackwardHoldsWhatItMakes) {
  MemorySetting setting = keep_everything();
  setting.frozen = {true, false, false};
  setting.pp = 2;
  setting.stages = {{0, 1}};
  setting.held = {{2}};
  EXPECT_EQ(peak_activation_bytes(three_blocks(), kWork, setting), (5 * 3 + 3 * 6) * 4);
}

TEST(Memory, ATiedHeadOnAnotherRankHasItsCopy) {
  ModelDesc model = three_blocks();
  model.blocks[1].kind = BlockKind::kTextEmbed;
  model.blocks[2].kind = BlockKind::kTextHead;
  model.blocks[2].num_parameters = 0;
  model.vocab_size = 10;
  MemorySetting setting = keep_everything();
  setting.stages = {{2, 3}};
  EXPECT_EQ(estimate_training_memory(model, kWork, setting).parameter_bytes, 0);
  model.tied_embeddings = true;
  const MemoryEstimate estimate = estimate_training_memory(model, kWork, setting);
  EXPECT_EQ(estimate.parameter_bytes, 100 * 4);
  EXPECT_EQ(estimate.gradient_bytes, 100 * 4);
  EXPECT_EQ(estimate.optimizer_bytes, 100 * 8);
}

TEST(Memory, ATiedGradientWaitsFromTheHeadToTheEmbedding) {
  ModelDesc model = three_blocks();
  model.blocks[0].kind = BlockKind::kTextEmbed;
  model.blocks[0].num_parameters = 1000;
  // The peak is in the block behind the embedding.
  model.blocks[1].parts[0].saved_values_per_row = 105;
  model.vocab_size = 10;
  BlockDesc head;
  head.kind = BlockKind::kTextHead;
  head.parts.resize(1);
  model.blocks.push_back(head);
  const WorkSize work = 10 * kWork;
  const auto beside = [&](bool reshard, int micro_batches) {
    MemorySetting setting;
    setting.frozen.assign(4, false);
    setting.levels.assign(4, Recompute::kKeep);
    const double alone = peak_activation_bytes(model, work, setting);
    setting.dp_shard = 2;
    setting.reshard = reshard;
    setting.micro_batches = micro_batches;
    return (peak_activation_bytes(model, work, setting) - alone) / 4;
  };
  // Gradients of the block and of the one behind it, with what arrives of that.
  constexpr double kTwoBlocks = 100 + 1.5 * 100;
  for (const bool tied : {false, true}) {
    model.tied_embeddings = tied;
    // The one backward of a step: all values, and the embedding's gradient.
    EXPECT_EQ(beside(false, 1), 1200 + kTwoBlocks + (tied ? 1000 : 0));
    // All gradients wait, or none does.
    EXPECT_EQ(beside(false, 2), 1200 + 1200);
    EXPECT_EQ(beside(true, 1), 1100 + kTwoBlocks);
  }
}

/// The head has 1,000 words and keeps two values a row.
ModelDesc three_blocks_and_head() {
  ModelDesc model = three_blocks();
  model.vocab_size = 1000;
  BlockDesc head;
  head.kind = BlockKind::kTextHead;
  head.parts.resize(1);
  head.parts[0].input_values_per_row = head.parts[0].saved_values_per_row = 2;
  model.blocks.push_back(head);
  return model;
}

TEST(Memory, AHeadKeepsItsWeightsGradientForEachMicroBatchUnderWay) {
  const ModelDesc model = three_blocks_and_head();
  MemorySetting setting;
  setting.frozen.assign(4, false);
  setting.levels.assign(4, Recompute::kKeep);
  setting.loss_chunk_rows = 4;
  setting.pp = 2;
  setting.stages = {{3, 4}};
  setting.held = {{3}};
  WorkSize work = kWork;
  work.loss_rows = 6;
  constexpr double kSaved = 6 * 2, kWeight = 1000 * 2, kLogits = 4 * 1000, kMessages = 3 * 20;
  // In the last of three forwards: the product that is added to its sum, and its logits.
  EXPECT_EQ(peak_activation_bytes(model, work, setting),
            (3 * (kSaved + kWeight) + kWeight + kLogits + kMessages) * 4);
  // Input gradients follow at once: what waits for weight gradients has none.
  setting.split_backward = true;
  EXPECT_EQ(peak_activation_bytes(model, work, setting),
            (3 * kSaved + 2 * kWeight + kLogits + kMessages) * 4);
  setting.split_backward = false;
  setting.frozen[3] = true;
  EXPECT_EQ(peak_activation_bytes(model, work, setting), (3 * kSaved + kLogits + kMessages) * 4);
}

TEST(Memory, PeakMayBeInTheHead) {
  ModelDesc model = three_blocks_and_head();
  MemorySetting setting;
  setting.frozen = {false, false, false, false};
  setting.levels.assign(4, Recompute::kKeep);
  setting.loss_chunk_rows = 4;
  WorkSize work = kWork;
  work.loss_rows = 6;
  // Four rows of logits, the gradient of the weight and the product that is added to it.
  EXPECT_EQ(peak_activation_bytes(model, work, setting),
            (230 + 6 * 2 + 4 * 1000 + 2 * 1000 * 2) * 4);
  setting.frozen[3] = true;
  EXPECT_EQ(peak_activation_bytes(model, work, setting), (230 + 6 * 2 + 4 * 1000) * 4);
  // In bfloat16: logits in both dtypes; the sum, the product and the product as float32.
  setting.frozen[3] = false;
  setting.compute_bytes = 2;
  EXPECT_EQ(peak_activation_bytes(model, work, setting),
            (230 + 6 * 2) * 2 + 4 * 1000 * 6 + 1000 * 2 * (4 + 2 + 4));
  setting.compute_bytes = 4;
  // A tied head has the embedding's weight; here there is no embedding that is trained.
  model.tied_embeddings = true;
  setting.frozen[3] = false;
  EXPECT_EQ(peak_activation_bytes(model, work, setting), (230 + 6 * 2 + 4 * 1000) * 4);
}

TEST(Memory, PeakMayBeInTheEmbedding) {
  ModelDesc model = three_blocks();
  model.blocks.erase(model.blocks.begin());
  model.blocks[0].kind = BlockKind::kTextEmbed;
  model.blocks[0].num_parameters = 5000;
  MemorySetting setting;
  setting.frozen = {false, true};
  setting.levels = {Recompute::kKeep, Recompute::kKeep};
  // What it has saved, gradients of activations, and its weight's gradient before it is added.
  EXPECT_EQ(peak_activation_bytes(model, kWork, setting), (100 + 55 + 5000) * 4);
  setting.compute_bytes = 2;
  EXPECT_EQ(peak_activation_bytes(model, kWork, setting), (100 + 55 + 5000) * 2 + 5000 * 4);
}

}  // namespace
}  // namespace gimbal
