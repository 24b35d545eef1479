#include "gimbal/train/tape/pipeline_stages.h"

#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <c10/util/intrusive_ptr.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "gimbal/base/error.h"
#include "gimbal/schedule/text.h"
#include "gimbal/schedule/validate.h"
#include "train/tape_runs.h"

namespace gimbal {
namespace {

using toy::expect_bit_equal;
using toy::NamedTensors;
using toy::TapeRun;

constexpr double kSeed = 0.37;
const std::string kTied = "text.embed.table";
using Weak = c10::weak_intrusive_ptr<c10::TensorImpl>;

std::vector<Batch> four_batches() {
  return {toy::make_batch(21, 5, 2), toy::make_batch(22, 7, 0), toy::make_batch(23, 0, 0),
          toy::make_batch(24, 3, 3)};
}

/// All stages on one rank.
TapeStagesSetup setup_of(const Model& model, std::vector<BlockRange> stages) {
  TapeStagesSetup setup;
  setup.stages = std::move(stages);
  setup.levels = toy::full(model);
  return setup;
}

std::vector<std::vector<BlockRange>> cut_cases() {
  return {{{0, 6}}, {{0, 3}, {3, 6}}, {{0, 1}, {1, 5}, {5, 6}}, {{0, 2}, {2, 4}, {4, 4}, {4, 6}}};
}

/// The batches as they are asked for.
TapeStages::NextBatch dealt(std::vector<Batch>& batches) {
  return [&batches, next = std::size_t{0}]() mutable { return std::move(batches.at(next++)); };
}

class PipelineStagesTest : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }

  const std::unique_ptr<Comm> comm_ = make_single_comm();
};

TEST_F(PipelineStagesTest, StagesOnOneRankEqualTheWholeModel) {
  for (const bool frozen : {false, true}) {
    Model model = toy::make_model();
    if (frozen) toy::freeze(model, "vision");
    const TapeRun whole = toy::run_tape(model, four_batches(), kSeed, toy::keep(model));
    for (const std::vector<BlockRange>& stages : cut_cases()) {
      const int num_stages = static_cast<int>(stages.size());
      const Schedule schedule = make_schedule({PipelineKind::kInterleaved, 1, num_stages, 4});
      const auto store = toy::make_store(model, *comm_);
      TapeStages runner(model, *store, setup_of(model, stages));
      for (int step = 0; step < 2; ++step) {
        std::vector<Batch> batches = four_batches();
        store->begin_step();
        runner.begin(schedule, dealt(batches), kSeed);
        std::vector<std::string> ran;
        run_schedule(schedule, {}, runner, [&](const Action& action, bool begin) {
          if (!begin) ran.push_back(to_string(action));
        });
        store->finish_reduce();
        ASSERT_EQ(ran.size(), schedule.ranks[0].size());
        double loss_sum = 0;
        for (const at::Tensor& loss : runner.losses()) loss_sum += loss.item<double>();
        EXPECT_EQ(loss_sum, whole.loss_sum);
        NamedTensors got = toy::gradients_of(*store), wanted = whole.gradients;
        if (num_stages > 1) {
          // Several micro-batches are under way, so the table's two gradients come in another
          // order.
          EXPECT_TRUE(at::allclose(got.at(kTied), wanted.at(kTied), 1e-6, 1e-6));
          got.erase(kTied);
          wanted.erase(kTied);
        }
        expect_bit_equal(got, wanted);
      }
    }
  }
}

TEST_F(PipelineStagesTest, LiveRecordingsAreThoseOfTheSchedule) {
  const Model model = toy::make_model();
  for (const std::vector<BlockRange>& stages : cut_cases()) {
    const int num_stages = static_cast<int>(stages.size());
    const Schedule schedule = make_schedule({PipelineKind::kInterleaved, 1, num_stages, 4});
    const auto store = toy::make_store(model, *comm_);
    TapeStages runner(model, *store, setup_of(model, stages));
    std::vector<Batch> batches = four_batches();
    store->begin_step();
    runner.begin(schedule, dealt(batches), kSeed);
    std::vector<int> most(stages.size(), 0);
    run_schedule(schedule, {}, runner, [&](const Action& action, bool) {
      const auto stage = static_cast<std::size_t>(action.stage);
      most[stage] =
          std::max(most[stage], static_cast<int>(runner.tape(action.stage).num_recordings()));
    });
    EXPECT_EQ(most, check_schedule(schedule).in_flight);
    for (int s = 0; s < num_stages; ++s) EXPECT_EQ(runner.tape(s).num_recordings(), 0u);
  }
}

TEST_F(PipelineStagesTest, BatchesComeInOrderAndGoAfterTheirLastUse) {
  const Model model = toy::make_model();
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 1, 1, 4});
  const auto store = toy::make_store(model, *comm_);
  TapeStages runner(model, *store, setup_of(model, {{0, 6}}));
  std::vector<Batch> batches = four_batches();
  std::vector<Weak> tokens;
  for (const Batch& batch : batches) tokens.emplace_back(batch.token_ids_T.getIntrusivePtr());
  store->begin_step();
  runner.begin(schedule, dealt(batches), kSeed);
  std::size_t step = 0;
  run_schedule(schedule, {}, runner, [&](const Action&, bool begin) {
    if (begin) return;
    ++step;
    for (std::size_t m = 0; m < tokens.size(); ++m)
      EXPECT_EQ(tokens[m].expired(), 2 * (m + 1) <= step);
  });
  EXPECT_EQ(step, 8u);
}

TEST_F(PipelineStagesTest, BoundariesAreThoseOfTheBlocks) {
  Model model = toy::make_model();
  toy::freeze(model, "vision");
  const auto store = toy::make_store(model, *comm_);
  TapeStagesSetup setup = setup_of(model, {{0, 2}, {2, 4}, {4, 6}, {6, 6}});
  setup.num_ranks = 2;
  setup.rank = 1;
  setup.compute = at::kBFloat16;
  TapeStages runner(model, *store, setup);
  const Schedule schedule = make_schedule({PipelineKind::kInterleaved, 2, 2, 2});
  std::vector<Batch> batches = four_batches();
  runner.begin(schedule, dealt(batches), kSeed);
  const RowsShape vision{2, toy::kWidth}, text{5, toy::kWidth};
  EXPECT_EQ(runner.boundary(0, 0).shape, (FlowShape{vision, std::nullopt}));
  EXPECT_EQ(runner.boundary(1, 0).shape, (FlowShape{vision, text}));
  EXPECT_EQ(runner.boundary(1, 1).shape,
            (FlowShape{RowsShape{0, toy::kWidth}, RowsShape{7, toy::kWidth}}));
  EXPECT_EQ(runner.boundary(2, 1).shape, FlowShape());
  EXPECT_FALSE(runner.boundary(0, 0).needs_gradient);
  EXPECT_TRUE(runner.boundary(1, 0).needs_gradient);
  EXPECT_EQ(runner.boundary(0, 0).dtype, at::kBFloat16);
  EXPECT_THROW(runner.boundary(0, 2), InternalError);
  EXPECT_THROW(runner.tape(0), InternalError);  // of rank 0
}

TEST_F(PipelineStagesTest, ErrorsKnowTheirBatch) {
  Model model = toy::make_model();
  int calls = 0;
  static_cast<toy::ToyBlock&>(*model.blocks[4]).watch = [&](const Flow&) {
    if (++calls == 3) throw UserError("no memory");
  };
  const auto store = toy::make_store(model, *comm_);
  TapeStages runner(model, *store, setup_of(model, {{0, 3}, {3, 6}}));
  const Schedule schedule = make_schedule({PipelineKind::kInterleaved, 1, 2, 4});
  std::vector<Batch> batches = four_batches();
  for (std::uint32_t i = 0; i < 4; ++i) batches[i].samples = {i};
  EXPECT_EQ(runner.running_batch(), nullptr);
  runner.begin(schedule, dealt(batches), kSeed);
  EXPECT_THROW(run_schedule(schedule, {}, runner), UserError);
  // The blocks of the second stage run twice per micro-batch: the third is micro-batch 1's forward
  // or backward, by the schedule.
  ASSERT_NE(runner.running_batch(), nullptr);
  std::vector<std::string> order;
  for (const Action& action : schedule.ranks[0]) {
    if (action.stage == 1) order.push_back(to_string(action));
  }
  EXPECT_EQ(order[2].back(), static_cast<char>('0' + runner.running_batch()->samples.at(0)));
  // The next step starts anew.
  calls = 100;
  batches = four_batches();
  store->begin_step();
  runner.begin(schedule, dealt(batches), kSeed);
  run_schedule(schedule, {}, runner);
  EXPECT_EQ(runner.running_batch(), nullptr);
}

TEST_F(PipelineStagesTest, MisuseThrows) {
  const Model model = toy::make_model();
  const auto store = toy::make_store(model, *comm_);
  for (const std::vector<BlockRange>& stages :
       {std::vector<BlockRange>{}, {{0, 3}, {4, 6}}, {{0, 3}, {3, 5}}, {{1, 6}}})
    EXPECT_THROW(TapeStages(model, *store, setup_of(model, stages)), InternalError);
  TapeStages runner(model, *store, setup_of(model, {{0, 3}, {3, 6}}));
  std::vector<Batch> batches = four_batches();
  EXPECT_THROW(
      runner.begin(make_schedule({PipelineKind::kInterleaved, 1, 3, 4}), dealt(batches), 1),
      InternalError);
  const Schedule schedule = make_schedule({PipelineKind::kInterleaved, 1, 2, 1});
  runner.begin(schedule, dealt(batches), 1);
  store->begin_step();
  run_schedule(schedule, {}, runner);
  EXPECT_THROW(runner.forward(0, 0, Flow()), InternalError);  // the batch is gone
}

}  // namespace
}  // namespace gimbal
