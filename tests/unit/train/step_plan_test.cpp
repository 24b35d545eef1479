#include "gimbal/train/data/step_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "support/dataset_fixture.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

/// 23 text samples of 2 to 24 tokens, all but the first with loss.
class StepPlanTest : public ::testing::Test {
 protected:
  StepPlanTest() {
    testing::DatasetFixture fixture(folder_.path());
    for (std::uint32_t i = 0; i < 23; ++i) {
      fixture.add_sample(std::vector<std::uint32_t>(i + 2, 1), {{1, i + 2}});
    }
    fixture.write();
    dataset_.emplace(folder_.path());
    rows_ = sample_rows(*dataset_);
  }

  StepPlanner planner(int rank, int ranks, std::int64_t micro_batches = 1) {
    SamplerOptions options;
    options.caps.rows = {30, 0};
    options.costs = {StreamCost{1.0, 0.0}, StreamCost{1.0, 0.0}};
    options.packs_per_step = 4;
    options.seed = 5;
    return StepPlanner(*dataset_, SampleSizes{rows_, 2}, options, micro_batches, rank, ranks);
  }

  testing::TempFolder folder_;
  std::optional<Dataset> dataset_;
  std::vector<std::uint32_t> rows_;
};

TEST_F(StepPlanTest, EachSampleOnceInAnEpochForAnyNumberOfRanks) {
  for (const int ranks : {1, 2, 3, 4, 5}) {
    std::map<std::uint32_t, int> seen;
    for (int rank = 0; rank < ranks; ++rank) {
      StepPlanner one = planner(rank, ranks);
      Position position;
      while (position.epoch == 0) {
        const StepPlan plan = one.plan(position);
        EXPECT_GE(plan.micro_batches().size(), 1U);
        for (const auto& part : plan.micro_batches()) {
          for (const std::uint32_t sample : part) ++seen[sample];
        }
        position = plan.next;
      }
      EXPECT_EQ(position.epoch, 1U);
      EXPECT_EQ(position.step_in_epoch, 0U);
    }
    EXPECT_EQ(seen.size(), 23U) << ranks << " ranks";
    for (const auto& [sample, times] : seen) EXPECT_EQ(times, 1) << "sample " << sample;
  }
}

TEST_F(StepPlanTest, AllRanksKnowAllLoadsAndTheSameNormaliser) {
  StepPlanner first = planner(0, 2);
  StepPlanner second = planner(1, 2);
  const StepPlan a = first.plan({0, 0});
  const StepPlan b = second.plan({0, 0});
  StepPlanner alone = planner(0, 1);
  EXPECT_EQ(a.loss_tokens, b.loss_tokens);
  EXPECT_EQ(a.loss_tokens, alone.plan({0, 0}).loss_tokens);
  ASSERT_EQ(a.loads.size(), 2U);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(a.loads[rank].tokens, b.loads[rank].tokens);
    EXPECT_EQ(a.loads[rank].cost, b.loads[rank].cost);
  }
  std::uint64_t own_tokens = 0;
  for (const auto& part : b.micro_batches()) {
    for (const std::uint32_t sample : part) own_tokens += dataset_->sample(sample).num_tokens;
  }
  EXPECT_EQ(own_tokens, b.loads[1].tokens);
}

TEST_F(StepPlanTest, PaddedRanksHaveEquallyManyMicroBatchesAndTheSameSamples) {
  constexpr int kRanks = 3;  // of 4 packs
  std::vector<StepPlanner> padded;
  for (int rank = 0; rank < kRanks; ++rank) {
    padded.push_back(planner(rank, kRanks, 2));
    padded.back().pad_micro_batches([](std::size_t count) { return (count + 1) / 2 * 2; });
  }
  bool any_empty = false;
  for (Position position; position.epoch == 0;) {
    std::vector<StepPlan> plans;
    for (StepPlanner& one : padded) plans.push_back(one.plan(position));
    const std::size_t count = plans[0].micro_batches().size();
    for (int rank = 0; rank < kRanks; ++rank) {
      const auto place = static_cast<std::size_t>(rank);
      const StepPlan& plan = plans[place];
      // Every rank knows what all run: rank 0 writes it down. Its own part is no copy.
      ASSERT_EQ(plan.all_micro_batches.size(), 3U);
      EXPECT_EQ(plan.all_micro_batches, plans[0].all_micro_batches);
      EXPECT_EQ(&plan.micro_batches(), &plan.all_micro_batches[place]);
      EXPECT_EQ(plan.micro_batches().size(), count);
      EXPECT_EQ(plan.micro_batches().size() % 2, 0U);
      auto unpadded = plan.micro_batches();
      while (!unpadded.empty() && unpadded.back().empty()) {
        unpadded.pop_back();
        any_empty = true;
      }
      auto plain = planner(rank, kRanks, 2).plan(position).all_micro_batches[place];
      if (plain.back().empty()) plain.pop_back();
      EXPECT_EQ(unpadded, plain);
    }
    position = plans[0].next;
  }
  EXPECT_TRUE(any_empty);
}

TEST_F(StepPlanTest, ZeroMicroBatchesMeansOneSampleEach) {
  StepPlanner one = planner(0, 1, 0);
  const StepPlan plan = one.plan({0, 0});
  for (const auto& part : plan.micro_batches()) EXPECT_EQ(part.size(), 1U);
}

TEST(StepPlan, WasteIsOneMinusMeanOverMax) {
  StepPlan plan;
  plan.loads.resize(2);
  EXPECT_DOUBLE_EQ(plan.waste(), 0.0);
  plan.loads[0].cost = 1;
  plan.loads[1].cost = 3;
  EXPECT_DOUBLE_EQ(plan.waste(), 1.0 - 2.0 / 3.0);
}

TEST_F(StepPlanTest, MeanWasteIsThatOfTheStepsAlsoWithFewerPacksThanRanks) {
  for (const int ranks : {1, 2, 3, 6}) {
    StepPlanner one = planner(0, ranks);
    double sum = 0;
    int steps = 0;
    for (Position position; position.epoch == 0; ++steps) {
      const StepPlan plan = one.plan(position);
      sum += plan.waste();
      position = plan.next;
    }
    EXPECT_DOUBLE_EQ(one.mean_waste(0), sum / steps) << ranks << " ranks";
    EXPECT_EQ(one.mean_waste(0) > 0, ranks > 1);
    // Of 4 packs in a step, 6 ranks have none twice.
    if (ranks == 6) {
      EXPECT_GE(one.mean_waste(0), 1.0 / 3.0);
    }
  }
}

TEST_F(StepPlanTest, HeaviestMicroBatchIsTheHeaviestOfAllThatAreRun) {
  for (const std::int64_t micro_batches : {1, 2}) {
    const auto weigh = [](const WorkSize& work) { return work.text_pairs; };
    const PlacedBatch heaviest = planner(0, 3, micro_batches).heaviest_micro_batch(0, weigh);
    double most = 0;
    bool found = false;
    for (int rank = 0; rank < 3; ++rank) {
      StepPlanner one = planner(rank, 3, micro_batches);
      for (Position position; position.epoch == 0;) {
        const StepPlan plan = one.plan(position);
        for (const auto& part : plan.micro_batches()) {
          const double weight = weigh(work_of_samples(*dataset_, part));
          most = std::max(most, weight);
          const bool here = rank == heaviest.rank && part == heaviest.samples &&
                            position.step_in_epoch == heaviest.step_in_epoch;
          EXPECT_TRUE(!here || weight == heaviest.weight);
          found = found || here;
        }
        position = plan.next;
      }
    }
    EXPECT_TRUE(found);
    EXPECT_EQ(heaviest.weight, most);
    EXPECT_EQ(heaviest.work.text_pairs, most);
  }
}

}  // namespace
}  // namespace gimbal
