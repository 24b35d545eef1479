#include "gimbal/train/tape/tape.h"

#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/intrusive_ptr.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "gimbal/base/error.h"
#include "parallel/toy_model.h"
#include "train/tape_runs.h"

namespace gimbal {
namespace {

using toy::expect_bit_equal;
using toy::full;
using toy::keep;
using toy::largest;
using toy::LoggingStore;
using toy::NamedTensors;
using toy::run_tape;
using toy::TapeRun;

/// Loss and gradients of one autograd graph over the whole model, summed over the batches.
NamedTensors one_graph(const Model& model, const std::vector<Batch>& batches, double seed,
                       double* loss_sum = nullptr) {
  NamedTensors leaves;
  for (const auto& block : model.blocks) {
    for (const ParameterPtr& p : block->parameters()) {
      at::Tensor leaf = toy::random_floats(p->shape, p->name, 1).requires_grad_(p->trainable);
      if (p->trainable) leaf.mutable_grad() = at::zeros_like(leaf);
      p->value = leaf;
      leaves[p->name] = leaf;
    }
  }
  if (loss_sum != nullptr) *loss_sum = 0;
  for (const Batch& batch : batches) {
    Flow flow;
    for (const auto& block : model.blocks) flow = block->forward({batch}, flow);
    if (loss_sum != nullptr) *loss_sum += flow.loss.item<double>();
    torch::autograd::backward({flow.loss}, {at::zeros_like(flow.loss) + seed});
  }
  NamedTensors gradients;
  for (const auto& block : model.blocks) {
    for (const ParameterPtr& p : block->parameters()) {
      if (p->trainable) gradients[p->name] = leaves[p->name].grad();
      p->value.reset();
    }
  }
  return gradients;
}

class TapeTest : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_F(TapeTest, GradientsAreBitEqualToOneGraph) {
  const Model model = toy::make_model();
  const std::vector<Batch> batches{toy::make_batch(3, 9, 4)};
  double loss = 0;
  const NamedTensors expected = one_graph(model, batches, 0.37, &loss);
  const TapeRun run = run_tape(model, batches, 0.37, keep(model));
  EXPECT_EQ(run.loss_sum, loss);
  EXPECT_GT(largest(expected.at("vision.embed.w")), 0);
  EXPECT_GT(largest(expected.at("text.embed.table")), 0);
  expect_bit_equal(run.gradients, expected);
}

TEST_F(TapeTest, RecomputeIsBitEqualToKeep) {
  const Model model = toy::make_model();
  const std::vector<Batch> batches{toy::make_batch(4, 6, 2), toy::make_batch(5, 8, 3)};
  const TapeRun kept = run_tape(model, batches, 0.5, keep(model));
  const TapeRun recomputed = run_tape(model, batches, 0.5, full(model));
  EXPECT_EQ(kept.loss_sum, recomputed.loss_sum);
  expect_bit_equal(kept.gradients, recomputed.gradients);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    std::vector<Recompute> mixed = keep(model);
    mixed[i] = Recompute::kFull;
    expect_bit_equal(kept.gradients, run_tape(model, batches, 0.5, mixed).gradients);
  }
}

TEST_F(TapeTest, MicroBatchesAddUp) {
  const Model model = toy::make_model();
  const std::vector<Batch> batches{toy::make_batch(6, 5, 2), toy::make_batch(7, 7, 1),
                                   toy::make_batch(8, 3, 3)};
  NamedTensors expected = one_graph(model, batches, 1.0);
  TapeRun run = run_tape(model, batches, 1.0, keep(model));
  // The table is used by two blocks: the tape adds its two gradients one by one.
  const std::string tied = "text.embed.table";
  EXPECT_TRUE(at::allclose(run.gradients.at(tied), expected.at(tied), 1e-6, 1e-6));
  run.gradients.erase(tied);
  expected.erase(tied);
  expect_bit_equal(run.gradients, expected);
}

TEST_F(TapeTest, ZeroRowsGiveZeroGradients) {
  const Model model = toy::make_model();
  for (const auto& levels : {keep(model), full(model)}) {
    const std::vector<Batch> no_images{toy::make_batch(9, 6, 0)};
    const TapeRun run = run_tape(model, no_images, 1.0, levels);
    expect_bit_equal(run.gradients, one_graph(model, no_images, 1.0));
    EXPECT_EQ(largest(run.gradients.at("vision.0.w")), 0);
    EXPECT_GT(largest(run.gradients.at("text.0.w")), 0);

    const TapeRun empty = run_tape(model, {toy::make_batch(9, 0, 0)}, 1.0, levels);
    EXPECT_EQ(empty.loss_sum, 0);
    for (const auto& [name, gradient] : empty.gradients) EXPECT_EQ(largest(gradient), 0) << name;
  }
}

TEST_F(TapeTest, FrozenBlocksGetNoGradient) {
  // A prefix, a middle block, the tied table, the head's own weights, and all at once.
  for (const std::vector<std::string>& prefixes : {std::vector<std::string>{"vision"},
                                                   {"text.0"},
                                                   {"text.embed"},
                                                   {"text.head"},
                                                   {"vision", "text.embed", "text.1"}}) {
    Model model = toy::make_model();
    for (const std::string& prefix : prefixes) toy::freeze(model, prefix);
    const std::vector<Batch> batches{toy::make_batch(10, 6, 2)};
    const NamedTensors expected = one_graph(model, batches, 1.0);
    expect_bit_equal(run_tape(model, batches, 1.0, keep(model)).gradients, expected);
    expect_bit_equal(run_tape(model, batches, 1.0, full(model)).gradients, expected);
  }
}

std::vector<std::string> calls_of_a_step(const Model& model, const std::vector<Batch>& batches) {
  const auto comm = make_single_comm();
  LoggingStore store(toy::make_store(model, *comm));
  Tape tape(model, store, full(model));
  store.begin_step();
  for (std::size_t i = 0; i < batches.size(); ++i) {
    tape.forward({batches[i]});
    tape.backward(1.0, i + 1 == batches.size());
  }
  store.finish_reduce();
  return store.log;
}

TEST_F(TapeTest, StoreCallsDoNotDependOnTheData) {
  Model model = toy::make_model();
  toy::freeze(model, "vision.embed");
  const auto log = calls_of_a_step(model, {toy::make_batch(1, 5, 3), toy::make_batch(2, 4, 2)});
  EXPECT_EQ(log, calls_of_a_step(model, {toy::make_batch(3, 8, 0), toy::make_batch(4, 0, 0)}));
  const std::vector<std::string> first_batch_end{"open 1 backward", "close 1", "finish 1",
                                                 "finish 0"};
  // Per micro-batch: open and close forward and backward, finish, and what is announced.
  ASSERT_EQ(log.size(), 2u * (6 * 2 + 5 * 2 + 6 + 5 + 4));
  const auto half = log.begin() + static_cast<std::ptrdiff_t>(log.size() / 2);
  EXPECT_EQ(std::vector<std::string>(half - 4, half), first_batch_end);
  EXPECT_EQ(log.back(), "finish 0 last");
  EXPECT_EQ(log[log.size() - 2], "finish 1 last");
}

/// Closing fails, as when a collective that it waits for has failed.
class BrokenStore : public LoggingStore {
 public:
  using LoggingStore::LoggingStore;
  void close(std::size_t) override { throw InternalError("close failed"); }
};

std::string error_of_forward(const Model& model) {
  const auto comm = make_single_comm();
  BrokenStore store(toy::make_store(model, *comm));
  Tape tape(model, store, keep(model));
  const Batch batch = toy::make_batch(1, 5, 3);
  try {
    tape.forward({batch});
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

TEST_F(TapeTest, TheFirstErrorIsTold) {
  Model model = toy::make_model();
  EXPECT_NE(error_of_forward(model).find("close failed"), std::string::npos);
  static_cast<toy::ToyBlock&>(*model.blocks[0]).watch = [](const Flow&) {
    throw InternalError("block failed");
  };
  EXPECT_NE(error_of_forward(model).find("block failed"), std::string::npos);
}

TEST_F(TapeTest, AllFrozenRunsForwardOnly) {
  Model model = toy::make_model();
  toy::freeze(model, "");
  const TapeRun run = run_tape(model, {toy::make_batch(11, 6, 2)}, 1.0, keep(model));
  EXPECT_GT(run.loss_sum, 0);
  EXPECT_TRUE(run.gradients.empty());
}

TEST_F(TapeTest, ObserverSeesEveryBlockOnce) {
  Model model = toy::make_model();
  toy::freeze(model, "vision");
  const auto comm = make_single_comm();
  const auto store = toy::make_store(model, *comm);
  Tape tape(model, *store, keep(model));
  std::vector<std::string> seen;
  tape.set_observer([&](std::size_t block, bool backward, bool begin) {
    if (begin) seen.push_back(concat(backward ? "B" : "F", block));
  });
  const Batch batch = toy::make_batch(12, 4, 1);
  store->begin_step();
  tape.forward({batch});
  tape.backward(1.0, true);
  EXPECT_EQ(seen,
            (std::vector<std::string>{"F0", "F1", "F2", "F3", "F4", "F5", "B5", "B4", "B3", "B2"}));
}

TEST_F(TapeTest, RecomputeIsObservedWithinTheBackwardOfItsBlock) {
  const Model model = toy::make_model();
  const auto comm = make_single_comm();
  const auto store = toy::make_store(model, *comm);
  std::vector<Recompute> levels = keep(model);
  levels[3] = Recompute::kFull;
  Tape tape(model, *store, levels);
  std::vector<std::string> seen;
  tape.set_observer([&](std::size_t block, bool backward, bool begin) {
    if (backward) seen.push_back(concat(begin ? "B" : "b", block));
  });
  tape.set_recompute_observer(
      [&](std::size_t block, bool begin) { seen.push_back(concat(begin ? "R" : "r", block)); });
  const Batch batch = toy::make_batch(12, 4, 1);
  store->begin_step();
  tape.forward({batch});
  tape.backward(1.0, true);
  EXPECT_EQ(seen, (std::vector<std::string>{"B5", "b5", "B4", "b4", "B3", "R3", "r3", "b3", "B2",
                                            "b2", "B1", "b1", "B0", "b0"}));
}

TEST_F(TapeTest, BackwardFreesBlockByBlock) {
  Model model = toy::make_model();
  using Weak = c10::weak_intrusive_ptr<c10::TensorImpl>;
  std::vector<Weak> outputs;
  for (const std::size_t i : {3, 4}) {
    static_cast<toy::ToyBlock&>(*model.blocks[i]).watch = [&](const Flow& out) {
      outputs.emplace_back(out.text.getIntrusivePtr());
    };
  }
  const auto comm = make_single_comm();
  const auto store = toy::make_store(model, *comm);
  Tape tape(model, *store, keep(model));
  std::vector<std::pair<bool, bool>> expired;
  tape.set_observer([&](std::size_t, bool backward, bool begin) {
    if (backward && begin) expired.emplace_back(outputs[0].expired(), outputs[1].expired());
  });
  const Batch batch = toy::make_batch(13, 4, 1);
  store->begin_step();
  tape.forward({batch});
  tape.backward(1.0, true);
  const std::vector<std::pair<bool, bool>> wanted{{false, false}, {false, false}, {false, true},
                                                  {true, true},   {true, true},   {true, true}};
  EXPECT_EQ(expired, wanted);
}

TEST_F(TapeTest, RunForwardGivesTheSameLoss) {
  const Model model = toy::make_model();
  const auto comm = make_single_comm();
  const auto store = toy::make_store(model, *comm);
  const Batch batch = toy::make_batch(14, 6, 2);
  Tape tape(model, *store, keep(model));
  const Flow flow = run_forward(model, *store, {batch});
  EXPECT_FALSE(flow.loss.requires_grad());
  EXPECT_TRUE(at::equal(flow.loss, tape.forward({batch})));
  EXPECT_FALSE(model.blocks[0]->parameters()[0]->value.defined());
}

TEST_F(TapeTest, BFloat16SumsGradientsInFloat32) {
  const Model model = toy::make_model();
  const std::vector<Batch> batches{toy::make_batch(15, 6, 2), toy::make_batch(16, 6, 3)};
  const TapeRun exact = run_tape(model, batches, 1.0, keep(model));
  const TapeRun rounded = run_tape(model, batches, 1.0, keep(model), at::kBFloat16);
  expect_bit_equal(rounded.gradients,
                   run_tape(model, batches, 1.0, full(model), at::kBFloat16).gradients);
  for (const auto& [name, gradient] : rounded.gradients) {
    EXPECT_EQ(gradient.scalar_type(), at::kFloat);
    // Half a dozen roundings of 2^-9 on the way from the loss to the first block.
    const double error = largest(gradient - exact.gradients.at(name));
    EXPECT_LT(error, 0.05 * largest(exact.gradients.at(name))) << name;
    EXPECT_GT(error, 0) << name;
  }
}

TEST_F(TapeTest, ThrowingBlockIsClosed) {
  Model model = toy::make_model();
  toy::add(model, "broken", [](const toy::ToyBlock&, const PassContext&, const Flow&) -> Flow {
    throw UserError("no");
  }).weight("w", {2});
  const auto comm = make_single_comm();
  const auto store = toy::make_store(model, *comm);
  Tape tape(model, *store, keep(model));
  const Batch batch = toy::make_batch(17, 4, 1);
  EXPECT_THROW(tape.forward({batch}), UserError);
  EXPECT_FALSE(model.blocks.back()->parameters()[0]->value.defined());
  EXPECT_THROW(tape.backward(1.0, true), InternalError);
}

}  // namespace
}  // namespace gimbal
