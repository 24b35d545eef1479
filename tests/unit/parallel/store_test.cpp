#include "gimbal/parallel/store.h"

#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "parallel/counting_comm.h"
#include "parallel/toy_model.h"

namespace gimbal {
namespace {

using toy::CountingComm;
using Calls = std::vector<std::string>;

class StoreTest : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
  std::unique_ptr<Comm> comm_ = make_single_comm();
};

void finish_step(ParameterStore& store, std::size_t num_blocks) {
  for (std::size_t i = num_blocks; i-- > 0;) store.finish_micro_batch(i, true);
  store.finish_reduce();
}

TEST_F(StoreTest, ShardsHoldEveryParameterOnce) {
  Model model = toy::make_model();
  toy::freeze(model, "vision.0.w");
  const auto store = toy::make_store(model, *comm_);
  std::vector<std::string> seen;
  for (const FlatShard& shard : store->shards()) {
    std::int64_t end = 0;
    for (const auto& slice : shard.slices) {
      EXPECT_GE(slice.offset, end);
      EXPECT_EQ(slice.offset * 4 % 64, 0);
      end = slice.offset + slice.parameter->numel();
      EXPECT_EQ(shard.gradients.defined(), slice.parameter->trainable) << slice.parameter->name;
      EXPECT_EQ(shard.group, slice.parameter->shape.size() == 1 ? 1 : 0);
      seen.push_back(shard.block + "|" + slice.parameter->name);
    }
    EXPECT_LE(end, shard.values.numel());
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"vision.embed|vision.embed.w", "vision.0|vision.0.bias",
                                            "vision.0|vision.0.w", "text.embed|text.embed.table",
                                            "text.0|text.0.w", "text.1|text.1.w",
                                            "text.head|text.head.scale"}));
}

TEST_F(StoreTest, OpenBindsAndCloseUnbinds) {
  const Model model = toy::make_model();
  const auto store = toy::make_store(model, *comm_);
  const ParameterPtr table = model.blocks[2]->parameters()[0];
  EXPECT_FALSE(table->value.defined());
  store->open(2, false);
  EXPECT_TRUE(at::equal(table->value, toy::values_of(*store).at("text.embed.table")));
  EXPECT_TRUE(table->value.requires_grad());
  EXPECT_TRUE(table->value.is_leaf());
  store->open(5, false);  // borrows the table
  store->close(2);
  EXPECT_TRUE(table->value.defined());
  store->close(5);
  EXPECT_FALSE(table->value.defined());
  EXPECT_THROW(store->close(5), InternalError);
}

TEST_F(StoreTest, LeavesSeeTheOptimizersChanges) {
  const Model model = toy::make_model();
  for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
    const auto store = toy::make_store(model, *comm_, at::kFloat, compute);
    const ParameterPtr weight = model.blocks[3]->parameters()[0];
    store->open(3, false);
    EXPECT_EQ(weight->value.scalar_type(), compute);
    store->close(3);
    for (FlatShard& shard : store->shards()) shard.values.fill_(2.5);
    store->values_changed();
    store->open(3, false);
    EXPECT_EQ(weight->value.min().item<double>(), 2.5);
    store->close(3);
  }
}

TEST_F(StoreTest, GradientsGoToTheFlatBuffer) {
  const Model model = toy::make_model();
  const auto store = toy::make_store(model, *comm_, at::kDouble, at::kDouble);
  const ParameterPtr weight = model.blocks[3]->parameters()[0];
  store->begin_step();
  store->open(3, true);
  weight->value.mutable_grad().add_(1.0);
  store->close(3);
  finish_step(*store, model.blocks.size());
  const auto gradients = toy::gradients_of(*store);
  EXPECT_EQ(gradients.at("text.0.w").scalar_type(), at::kDouble);
  EXPECT_EQ(gradients.at("text.0.w").sum().item<double>(), 49.0);
  store->begin_step();
  EXPECT_EQ(toy::gradients_of(*store).at("text.0.w").abs().sum().item<double>(), 0.0);
}

TEST_F(StoreTest, ReducesBlocksAsTheyAreFinishedOnce) {
  Model model = toy::make_model();
  toy::freeze(model, "vision.0");
  CountingComm comm;
  const auto store = toy::make_store(model, comm);
  store->begin_step();
  for (std::size_t i = model.blocks.size(); i-- > 0;) store->finish_micro_batch(i, false);
  EXPECT_TRUE(comm.calls.empty());
  finish_step(*store, model.blocks.size());
  EXPECT_EQ(comm.calls, (Calls{"sum gradients of text.head", "sum gradients of text.1",
                               "sum gradients of text.0", "sum gradients of text.embed",
                               "sum gradients of vision.embed"}));
}

TEST_F(StoreTest, RefusesToReduceTwiceOrTooEarly) {
  const Model model = toy::make_model();
  const auto store = toy::make_store(model, *comm_);
  store->begin_step();
  store->finish_micro_batch(3, true);
  EXPECT_THROW(store->finish_micro_batch(3, true), InternalError);
  EXPECT_THROW(store->finish_reduce(), InternalError);  // not all are finished
  store->finish_micro_batch(2, true);
  EXPECT_THROW(store->finish_micro_batch(5, true), InternalError);  // uses the table of block 2
}

TEST_F(StoreTest, GradientsOfTheComputeTypeAreAddedInTheMasters) {
  const Model model = toy::make_model();
  const auto store = toy::make_store(model, *comm_, at::kFloat, at::kBFloat16);
  const at::Tensor& weight = model.blocks[3]->parameters()[0]->value;
  store->begin_step();
  // 256 + 1 is no bfloat16.
  for (const double gradient : {256.0, 1.0}) {
    store->open(3, true);
    (weight * gradient).sum().backward();
    store->close(3);
    store->finish_micro_batch(3, false);
  }
  finish_step(*store, model.blocks.size());
  const at::Tensor gradients = toy::gradients_of(*store).at("text.0.w");
  EXPECT_EQ(gradients.min().item<double>(), 257.0);
  EXPECT_EQ(gradients.max().item<double>(), 257.0);
}

TEST_F(StoreTest, RefusesBorrowersThatComeFirst) {
  const auto forward = [](const toy::ToyBlock&, const PassContext&, const Flow& in) { return in; };
  Model model;
  toy::ToyBlock& borrower = toy::add(model, "first", forward);
  toy::ToyBlock& owner = toy::add(model, "second", forward).weight("w", {2});
  borrower.borrow(owner.parameters()[0]);
  EXPECT_THROW(toy::make_store(model, *comm_), InternalError);

  Model stray;
  toy::add(stray, "first", forward).borrow(owner.parameters()[0]);
  EXPECT_THROW(toy::make_store(stray, *comm_), InternalError);
}

}  // namespace
}  // namespace gimbal
