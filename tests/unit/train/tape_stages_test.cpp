// The tape of pipeline stages: ranges of blocks, several micro-batches at a time, split backward.
#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <c10/util/intrusive_ptr.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/train/tape/tape.h"
#include "train/tape_runs.h"

namespace gimbal {
namespace {

using toy::expect_bit_equal;
using toy::full;
using toy::keep;
using toy::largest;
using toy::LoggingStore;
using toy::loss_gradient;
using toy::NamedTensors;
using toy::run_tape;
using toy::TapeRun;

constexpr double kSeed = 0.37;
const std::string kTied = "text.embed.table";

class StageTapeTest : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }

  const std::unique_ptr<Comm> comm_ = make_single_comm();
};

/// The prefixes of each case are frozen.
const std::vector<std::vector<std::string>> kFrozenCases = {
    {}, {"vision"}, {"text.0"}, {"text.embed"}, {"vision", "text.embed", "text.0"}};

Model frozen_model(const std::vector<std::string>& prefixes) {
  Model model = toy::make_model();
  for (const std::string& prefix : prefixes) toy::freeze(model, prefix);
  return model;
}

/// Keep everywhere, full everywhere, and full in one block after the other.
std::vector<std::vector<Recompute>> level_cases(const Model& model) {
  std::vector<std::vector<Recompute>> cases{keep(model), full(model)};
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    cases.push_back(keep(model));
    cases.back()[i] = Recompute::kFull;
  }
  return cases;
}

/// One step with a tape for each part between the cuts.
TapeRun run_chain(const Model& model, const std::vector<std::size_t>& cuts,
                  const std::vector<Batch>& batches, const std::vector<Recompute>& levels,
                  at::ScalarType compute) {
  const auto comm = make_single_comm();
  const auto store = toy::make_store(model, *comm, at::kFloat, compute);
  std::vector<std::unique_ptr<Tape>> tapes;
  for (std::size_t i = 0; i <= cuts.size(); ++i) {
    const BlockRange range{i == 0 ? 0 : cuts[i - 1],
                           i == cuts.size() ? model.blocks.size() : cuts[i]};
    tapes.push_back(std::make_unique<Tape>(model, *store, levels, range));
  }
  TapeRun run;
  store->begin_step();
  for (std::size_t m = 0; m < batches.size(); ++m) {
    const int id = static_cast<int>(m);
    Flow flow;
    for (const auto& tape : tapes) {
      flow = tape->forward(id, {batches[m]}, std::move(flow));
      for (const at::Tensor* tensor : flow.tensors()) {
        EXPECT_FALSE(tensor->defined() && tensor->requires_grad());
      }
    }
    run.loss_sum += flow.loss.item<double>();
    Flow gradients = loss_gradient(flow.loss, kSeed);
    for (std::size_t i = tapes.size(); i-- > 0;) {
      gradients = tapes[i]->backward(id, std::move(gradients), m + 1 == batches.size());
      EXPECT_EQ(gradients.text.defined() || gradients.vision.defined(),
                tapes[i]->input_needs_gradient());
    }
  }
  store->finish_reduce();
  run.gradients = toy::gradients_of(*store);
  return run;
}

TEST_F(StageTapeTest, ChainedRangesEqualTheWholeModel) {
  const std::vector<Batch> batches{toy::make_batch(3, 9, 4), toy::make_batch(4, 5, 0)};
  for (const auto& prefixes : kFrozenCases) {
    const Model model = frozen_model(prefixes);
    for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
      const TapeRun whole = run_tape(model, batches, kSeed, keep(model), compute);
      for (const std::vector<std::size_t>& cuts :
           {std::vector<std::size_t>{1}, {2}, {3}, {4}, {5}, {2, 4}, {1, 2, 3, 4, 5}, {3, 3}}) {
        for (const auto& levels : {keep(model), full(model)}) {
          const TapeRun chain = run_chain(model, cuts, batches, levels, compute);
          EXPECT_EQ(chain.loss_sum, whole.loss_sum);
          expect_bit_equal(chain.gradients, whole.gradients);
        }
      }
    }
  }
}

TEST_F(StageTapeTest, FirstTrainedBlockCountsBorrowedParameters) {
  EXPECT_EQ(first_trained_block(toy::make_model()), 0u);
  EXPECT_EQ(first_trained_block(frozen_model({"vision"})), 2u);
  EXPECT_EQ(first_trained_block(frozen_model({"vision", "text.0", "text.1", "text.head"})), 2u);
  EXPECT_EQ(first_trained_block(frozen_model({""})), 6u);
  Model borrower = frozen_model({""});
  borrower.blocks[2]->parameters()[0]->trainable = true;
  borrower.blocks.erase(borrower.blocks.begin() + 2);
  EXPECT_EQ(first_trained_block(borrower), 4u);
}

TEST_F(StageTapeTest, MicroBatchesMayBeUnderWayTogether) {
  const Model model = toy::make_model();
  const std::vector<Batch> batches{toy::make_batch(6, 5, 2), toy::make_batch(7, 7, 0),
                                   toy::make_batch(8, 3, 3)};
  const TapeRun one_by_one = run_tape(model, batches, kSeed, keep(model));
  for (const auto& levels : {keep(model), full(model)}) {
    const auto store = toy::make_store(model, *comm_);
    Tape tape(model, *store, levels, {0, model.blocks.size()});
    store->begin_step();
    std::vector<at::Tensor> losses;
    for (int m = 0; m < 3; ++m) {
      losses.push_back(tape.forward(m, {batches[static_cast<std::size_t>(m)]}, Flow()).loss);
      EXPECT_EQ(tape.num_recordings(), static_cast<std::size_t>(m + 1));
    }
    double loss_sum = 0;
    for (int m = 0; m < 3; ++m) {
      tape.backward(m, loss_gradient(losses[static_cast<std::size_t>(m)], kSeed), m == 2);
      EXPECT_EQ(tape.num_recordings(), static_cast<std::size_t>(2 - m));
      loss_sum += losses[static_cast<std::size_t>(m)].item<double>();
    }
    store->finish_reduce();
    EXPECT_EQ(loss_sum, one_by_one.loss_sum);
    expect_bit_equal(toy::gradients_of(*store), one_by_one.gradients);
  }
}

TEST_F(StageTapeTest, SplitBackwardIsBitEqual) {
  const Batch batch = toy::make_batch(9, 6, 2);
  for (const auto& prefixes : kFrozenCases) {
    const Model model = frozen_model(prefixes);
    for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
      const TapeRun whole = run_tape(model, {batch}, kSeed, keep(model), compute);
      for (const auto& levels : level_cases(model)) {
        const auto store = toy::make_store(model, *comm_, at::kFloat, compute);
        Tape tape(model, *store, levels, {0, model.blocks.size()}, /*split_backward=*/true);
        for (const bool split : {true, false}) {
          store->begin_step();
          const Flow out = tape.forward(0, {batch}, Flow());
          if (split) {
            tape.backward_input(0, loss_gradient(out.loss, kSeed));
            tape.backward_weight(0, /*last=*/true);
          } else {
            tape.backward(0, loss_gradient(out.loss, kSeed), /*last=*/true);
          }
          store->finish_reduce();
          EXPECT_EQ(tape.num_recordings(), 0u);
          NamedTensors got = toy::gradients_of(*store), wanted = whole.gradients;
          if (split && compute == at::kBFloat16 && wanted.contains(kTied)) {
            // Its two gradients are added up in bfloat16 when the head's comes late: three
            // roundings of 2^-9, of at most the largest value.
            const double largest_value = largest(wanted.at(kTied));
            EXPECT_LT(largest(got.at(kTied) - wanted.at(kTied)), 3.0 / 512 * largest_value);
            got.erase(kTied);
            wanted.erase(kTied);
          }
          expect_bit_equal(got, wanted);
        }
      }
    }
  }
}

TEST_F(StageTapeTest, SplitBackwardPutsGradientsOfProductsOff) {
  const Model model = toy::make_model();
  const Batch batch = toy::make_batch(10, 6, 2);
  const auto store = toy::make_store(model, *comm_);
  Tape tape(model, *store, keep(model), {0, model.blocks.size()}, /*split_backward=*/true);
  store->begin_step();
  const Flow out = tape.forward(0, {batch}, Flow());
  tape.backward_input(0, loss_gradient(out.loss, kSeed));
  const NamedTensors half = toy::gradients_of(*store);
  for (const std::string name : {"text.0.w", "vision.0.w"}) EXPECT_EQ(largest(half.at(name)), 0);
  for (const std::string name : {"text.1.w", "vision.0.bias", "text.head.scale", "vision.embed.w"})
    EXPECT_GT(largest(half.at(name)), 0);
  tape.backward_weight(0, /*last=*/true);
  store->finish_reduce();
  for (const auto& [name, gradient] : toy::gradients_of(*store)) EXPECT_GT(largest(gradient), 0);
}

/// The order of a zero-bubble schedule's second rank, on stages of one process.
TEST_F(StageTapeTest, SplitMicroBatchesOverlap) {
  const Model model = toy::make_model();
  const std::vector<Batch> batches{toy::make_batch(11, 6, 2), toy::make_batch(12, 4, 0),
                                   toy::make_batch(13, 7, 3)};
  TapeRun whole = run_tape(model, batches, kSeed, keep(model));
  const auto store = toy::make_store(model, *comm_);
  Tape first(model, *store, full(model), {0, 3}, /*split_backward=*/true);
  Tape second(model, *store, keep(model), {3, 6}, /*split_backward=*/true);
  store->begin_step();
  const auto input_half = [&](int m) {
    const PassContext context{batches[static_cast<std::size_t>(m)]};
    const Flow out = second.forward(m, context, first.forward(m, context, Flow()));
    first.backward_input(m, second.backward_input(m, loss_gradient(out.loss, kSeed)));
  };
  const auto weight_half = [&](int m) {
    second.backward_weight(m, m == 2);
    first.backward_weight(m, m == 2);
  };
  input_half(0);
  input_half(1);
  EXPECT_EQ(first.num_recordings(), 2u);
  weight_half(0);
  input_half(2);
  weight_half(1);
  weight_half(2);
  store->finish_reduce();
  NamedTensors got = toy::gradients_of(*store);
  // The table's two gradients come in another order.
  EXPECT_TRUE(at::allclose(got.at(kTied), whole.gradients.at(kTied), 1e-6, 1e-6));
  got.erase(kTied);
  whole.gradients.erase(kTied);
  expect_bit_equal(got, whole.gradients);
}

TEST_F(StageTapeTest, BackwardInputFreesWhatTheWeightsDoNotNeed) {
  using Weak = c10::weak_intrusive_ptr<c10::TensorImpl>;
  for (const bool split : {false, true}) {
    Model model = toy::make_model();
    std::vector<Weak> outputs;
    for (const std::size_t i : {1, 3, 4}) {
      static_cast<toy::ToyBlock&>(*model.blocks[i]).watch = [&](const Flow& out) {
        const at::Tensor& made = out.text.defined() ? out.text : out.vision;
        outputs.emplace_back(made.getIntrusivePtr());
      };
    }
    const auto store = toy::make_store(model, *comm_);
    Tape tape(model, *store, keep(model), {0, model.blocks.size()}, split);
    const Batch batch = toy::make_batch(14, 4, 1);
    store->begin_step();
    const Flow out = tape.forward(0, {batch}, Flow());
    for (const Weak& output : outputs) EXPECT_FALSE(output.expired());
    if (split) {
      tape.backward_input(0, loss_gradient(out.loss, 1.0));
    } else {
      tape.backward(0, loss_gradient(out.loss, 1.0), /*last=*/true);
    }
    for (const Weak& output : outputs) EXPECT_TRUE(output.expired());
  }
}

TEST_F(StageTapeTest, StoreIsToldWhatComesNext) {
  const Model model = frozen_model({"vision.embed"});
  LoggingStore store(toy::make_store(model, *comm_));
  Tape tape(model, store, full(model), {0, 4}, /*split_backward=*/true);
  const Batch batch = toy::make_batch(15, 4, 1);
  store.begin_step();
  const Flow out = tape.forward(0, {batch}, Flow());
  EXPECT_EQ(store.log, (std::vector<std::string>{"open 0", "prefetch 1", "close 0",  //
                                                 "open 1", "prefetch 2", "close 1",  //
                                                 "open 2", "prefetch 3", "close 2",  //
                                                 "open 3", "close 3"}));
  store.log.clear();
  tape.backward_input(0, out);  // any numbers do as gradients
  // Most gradients are put off: no buffers for them.
  EXPECT_EQ(store.log, (std::vector<std::string>{"open 3", "prefetch 2", "close 3",  //
                                                 "open 2", "prefetch 1", "close 2",  //
                                                 "open 1", "close 1"}));
  store.log.clear();
  // Nothing is gathered, and every trained block has its turn: vision.0 too, which gets data as its
  // input, so that the toy puts nothing off.
  tape.backward_weight(0, /*last=*/false);
  EXPECT_EQ(store.log,
            (std::vector<std::string>{"gradients 3", "finish 3", "gradients 2", "finish 2",
                                      "gradients 1", "finish 1", "finish 0"}));
}

TEST_F(StageTapeTest, WeightsAreReportedOnTheirOwn) {
  const Model model = toy::make_model();
  const auto store = toy::make_store(model, *comm_);
  Tape tape(model, *store, keep(model), {1, 6}, /*split_backward=*/true);
  Tape before(model, *store, keep(model), {0, 1}, /*split_backward=*/true);
  std::vector<std::string> seen;
  tape.set_observer([&](std::size_t block, bool backward, bool begin) {
    if (begin) seen.push_back(concat(backward ? "B" : "F", block));
  });
  const Batch batch = toy::make_batch(16, 4, 1);
  store->begin_step();
  const Flow out = tape.forward(0, {batch}, before.forward(0, {batch}, Flow()));
  tape.backward_input(0, loss_gradient(out.loss, 1.0));
  EXPECT_EQ(seen,
            (std::vector<std::string>{"F1", "F2", "F3", "F4", "F5", "B5", "B4", "B3", "B2", "B1"}));
  seen.clear();
  tape.backward_weight(0, /*last=*/true);
  EXPECT_EQ(seen, (std::vector<std::string>{"B5", "B3", "B1"}));
}

TEST_F(StageTapeTest, NothingIsPutOffWithoutSplitNorAfterwards) {
  Model model = toy::make_model();
  bool put_off = false;
  const auto& parameters = model.blocks[3]->parameters();
  static_cast<toy::ToyBlock&>(*model.blocks[3]).watch = [&](const Flow&) {
    put_off = parameters[0]->deferred != nullptr;
  };
  const Batch batch = toy::make_batch(17, 4, 1);
  const auto store = toy::make_store(model, *comm_);
  for (const bool split : {false, true}) {
    Tape tape(model, *store, full(model), {0, model.blocks.size()}, split);
    store->begin_step();
    const Flow out = tape.forward(0, {batch}, Flow());
    EXPECT_EQ(put_off, split);
    EXPECT_EQ(parameters[0]->deferred, nullptr);
    put_off = false;
    tape.backward(0, loss_gradient(out.loss, 1.0), /*last=*/true);
    EXPECT_EQ(put_off, split) << "in the forward that is run again";
    EXPECT_EQ(parameters[0]->deferred, nullptr);
  }
}

TEST_F(StageTapeTest, MisuseThrows) {
  const Model model = toy::make_model();
  const auto store = toy::make_store(model, *comm_);
  const Batch batch = toy::make_batch(18, 4, 1);
  const BlockRange all{0, model.blocks.size()};
  Tape tape(model, *store, keep(model), all, /*split_backward=*/true);
  const Flow out = tape.forward(0, {batch}, Flow());
  EXPECT_THROW(tape.forward(0, {batch}, Flow()), InternalError);
  EXPECT_THROW(tape.backward(1, loss_gradient(out.loss, 1.0), true), InternalError);
  EXPECT_THROW(tape.backward_weight(0, true), InternalError);  // no backward_input
  EXPECT_EQ(tape.num_recordings(), 0u);
  tape.forward(0, {batch}, Flow());
  tape.clear();
  EXPECT_EQ(tape.num_recordings(), 0u);
  Tape unsplit(model, *store, keep(model), all);
  unsplit.forward(0, {batch}, Flow());
  EXPECT_THROW(unsplit.backward_input(0, loss_gradient(out.loss, 1.0)), InternalError);
  EXPECT_THROW(Tape(model, *store, keep(model), {3, 7}), InternalError);
  EXPECT_THROW(Tape(model, *store, keep(model), {3, 2}), InternalError);
}

TEST_F(StageTapeTest, RunForwardOfRangesGivesTheSameLoss) {
  const Model model = toy::make_model();
  const auto store = toy::make_store(model, *comm_);
  const Batch batch = toy::make_batch(19, 6, 2);
  const Flow half = run_forward(model, *store, {batch}, {0, 3}, Flow());
  EXPECT_FALSE(half.text.requires_grad());
  const Flow out = run_forward(model, *store, {batch}, {3, 6}, half);
  EXPECT_TRUE(at::equal(out.loss, run_forward(model, *store, {batch}).loss));
}

}  // namespace
}  // namespace gimbal
