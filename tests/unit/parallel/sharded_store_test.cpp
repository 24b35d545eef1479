// The store with several ranks in its groups, of which this process is one.
#include <ATen/Parallel.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "parallel/counting_comm.h"
#include "parallel/toy_model.h"

namespace gimbal {
namespace {

using toy::CountingComm;
using Calls = std::vector<std::string>;

const std::size_t kNumBlocks = 6;  // of the toy model

class ShardedStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }

  StoreSetup setup(StorePolicy policy) {
    StoreSetup result;
    result.shard = &shard_;
    result.policy = policy;
    result.group_of = toy::group_of;
    return result;
  }

  /// Fills the values. `calls_` begins anew.
  std::unique_ptr<ParameterStore> make(const StoreSetup& setup) {
    auto store = make_sharded_store(model_.blocks, setup);
    toy::fill_values(*store);
    calls_.clear();
    return store;
  }

  const ParameterPtr& parameter(std::size_t block) const {
    return model_.blocks[block]->parameters()[0];
  }

  /// Bytes of the storage of a block's first parameter, while the block is open or not.
  static std::size_t bytes_of(const at::Tensor& leaf) { return leaf.storage().nbytes(); }

  void finish_step(ParameterStore& store) {
    for (std::size_t i = kNumBlocks; i-- > 0;) store.finish_micro_batch(i, true);
    store.finish_reduce();
  }

  Model model_ = toy::make_model();
  Calls calls_;
  CountingComm shard_{2, 1, &calls_};
};

TEST_F(ShardedStoreTest, ReshardGathersBeforeEachUseAndFrees) {
  const auto store = make(setup(StorePolicy::kReshard));
  store->begin_step();
  store->open(3, false);
  const at::Tensor leaf = parameter(3)->value;
  // Rows 2 to 7 of the weight are in the second half of 64 values.
  const at::Tensor own = store->shards()[4].values;
  EXPECT_EQ(store->shards()[4].slices[0].begin, 32);
  EXPECT_TRUE(at::equal(leaf.flatten().narrow(0, 32, 17), own.narrow(0, 0, 17)));
  EXPECT_EQ(bytes_of(leaf), 64 * 4);
  store->open(3, false);  // of another micro-batch: nothing to gather
  store->close(3);
  EXPECT_EQ(bytes_of(leaf), 64 * 4);
  store->close(3);
  EXPECT_EQ(bytes_of(leaf), 0);
  EXPECT_FALSE(parameter(3)->value.defined());
  store->open(3, true);
  EXPECT_TRUE(parameter(3)->value.is_same(leaf));
  EXPECT_EQ(bytes_of(leaf), 64 * 4);
  store->close(3);
  EXPECT_EQ(calls_, (Calls{"gather values of text.0", "gather values of text.0"}));
}

TEST_F(ShardedStoreTest, WhatAutogradHasSavedSeesTheRefilledStorage) {
  const auto store = make(setup(StorePolicy::kReshard));
  store->begin_step();
  store->open(3, false);
  const at::Tensor x = toy::random_floats({4, toy::kWidth}, "x", 1).requires_grad_(true);
  const at::Tensor expected = parameter(3)->value.detach().sum(1).expand({4, -1}).clone();
  const at::Tensor y = at::mm(x, parameter(3)->value).sum();
  store->close(3);
  store->open(3, true);
  y.backward();
  store->close(3);
  EXPECT_TRUE(at::allclose(x.grad(), expected, 8 * 1.2e-7));
  finish_step(*store);
  // Both ranks have the same gradients: twice this rank's.
  const at::Tensor weight_gradient =
      x.detach().sum(0).unsqueeze(1).expand({toy::kWidth, toy::kWidth}).flatten() * 2;
  EXPECT_TRUE(at::allclose(store->shards()[4].gradients.narrow(0, 0, 17),
                           weight_gradient.narrow(0, 32, 17), 8 * 1.2e-7));
}

TEST_F(ShardedStoreTest, KeepGathersOncePerStep) {
  StoreSetup without_prefetch = setup(StorePolicy::kKeepWeights);
  without_prefetch.prefetch = false;
  const auto store = make(without_prefetch);
  for (int step = 0; step < 2; ++step) {
    calls_.clear();
    store->begin_step();
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
      for (const bool backward : {false, true}) {
        store->open(3, backward);
        EXPECT_EQ(parameter(3)->value.flatten()[32].item<float>(),
                  store->shards()[4].values[0].item<float>());
        if (backward) parameter(3)->value.mutable_grad().add_(1.0);
        store->close(3);
      }
      store->finish_micro_batch(3, micro_batch == 1);
    }
    EXPECT_EQ(calls_, (Calls{"gather values of text.0", "scatter gradients of text.0"}));
    for (std::size_t i = kNumBlocks; i-- > 0;) {
      if (i != 3) store->finish_micro_batch(i, true);
    }
    store->finish_reduce();
    EXPECT_EQ(store->shards()[4].gradients[0].item<float>(), 4.0F);
    store->shards()[4].values.add_(1.0);
    store->values_changed();
  }
}

TEST_F(ShardedStoreTest, KeepGathersAllAtTheBeginningOfAStep) {
  const auto store = make(setup(StorePolicy::kKeepWeights));
  const Calls all{"gather values of vision.embed", "gather values of vision.0",
                  "gather values of text.embed",   "gather values of text.0",
                  "gather values of text.1",       "gather values of text.head"};
  for (int step = 0; step < 2; ++step) {
    calls_.clear();
    store->begin_step();
    EXPECT_EQ(calls_, all);
    store->prefetch(4);
    store->open(3, false);
    EXPECT_EQ(parameter(3)->value.flatten()[32].item<float>(),
              store->shards()[4].values[0].item<float>());
    store->close(3);
    EXPECT_EQ(calls_, all);
    for (std::size_t i = kNumBlocks; i-- > 0;) store->finish_micro_batch(i, true);
    store->finish_reduce();
    store->shards()[4].values.add_(1.0);
    store->values_changed();
  }
}

TEST_F(ShardedStoreTest, ReshardReducesEachMicroBatch) {
  const auto store = make(setup(StorePolicy::kReshard));
  store->begin_step();
  for (int micro_batch = 0; micro_batch < 3; ++micro_batch) {
    store->open(3, true);
    const at::Tensor buffer = parameter(3)->value.mutable_grad();
    EXPECT_EQ(buffer.abs().sum().item<float>(), 0.0F);
    buffer.add_(1.0);
    store->close(3);
    store->finish_micro_batch(3, micro_batch == 2);
  }
  for (std::size_t i = kNumBlocks; i-- > 0;) {
    if (i != 3) store->finish_micro_batch(i, true);
  }
  store->finish_reduce();
  EXPECT_EQ(store->shards()[4].gradients[0].item<float>(), 6.0F);
  EXPECT_EQ(std::ranges::count(calls_, "scatter gradients of text.0"), 3);
  EXPECT_EQ(std::ranges::count(calls_, "scatter gradients of text.head"), 1);
}

TEST_F(ShardedStoreTest, GradientsThatComeLaterAreNotLost) {
  const auto store = make(setup(StorePolicy::kReshard));
  store->begin_step();
  // The weights' gradients are put off until another micro-batch has been through.
  store->open(3, true);
  store->close(3);
  store->open(3, true);
  parameter(3)->value.mutable_grad().add_(10.0);
  store->close(3);
  store->finish_micro_batch(3, false);
  store->open(3, true);
  parameter(3)->value.mutable_grad().add_(1.0);
  const at::Tensor leaf = parameter(3)->value;
  store->close(3);
  finish_step(*store);
  EXPECT_EQ(store->shards()[4].gradients[0].item<float>(), 22.0F);
  EXPECT_FALSE(leaf.grad().defined());
  // One that comes after the block was finished is.
  store->begin_step();
  for (std::size_t i = kNumBlocks; i-- > 0;) store->finish_micro_batch(i, true);
  leaf.mutable_grad() = at::ones_like(leaf);
  EXPECT_THROW(store->finish_reduce(), InternalError);
}

TEST_F(ShardedStoreTest, PutOffGradientsNeedNoValues) {
  const auto store = make(setup(StorePolicy::kReshard));
  const std::size_t with_bias = 1;
  const ParameterPtr& bias = model_.blocks[with_bias]->parameters()[1];
  store->begin_step();
  store->open(with_bias, false);
  const at::Tensor weight_leaf = parameter(with_bias)->value, bias_leaf = bias->value;
  (bias_leaf * 3.0).sum().backward();
  // The whole buffers are made when the gradients that were put off come.
  EXPECT_FALSE(weight_leaf.grad().defined());
  store->close(with_bias);
  calls_.clear();
  store->open_gradients(with_bias);
  EXPECT_TRUE(calls_.empty());
  EXPECT_EQ(bytes_of(weight_leaf), 0);
  EXPECT_EQ(bias_leaf.grad().sum().item<float>(), 3.0F * toy::kWidth);
  weight_leaf.mutable_grad().add_(2.0);
  finish_step(*store);
  for (const FlatShard& shard : store->shards()) {
    for (const auto& slice : shard.slices) {
      if (slice.parameter != bias && slice.parameter != parameter(with_bias)) continue;
      const at::Tensor gradient = shard.gradients.narrow(0, slice.offset, slice.numel);
      EXPECT_EQ(gradient.min().item<float>(), slice.parameter == bias ? 6.0F : 4.0F);
      EXPECT_EQ(gradient.max().item<float>(), slice.parameter == bias ? 6.0F : 4.0F);
    }
  }
  // What a step that failed has left is dropped.
  store->begin_step();
  store->open(with_bias, false);
  (bias_leaf * 3.0).sum().backward();
  store->close(with_bias);
  store->begin_step();
  EXPECT_FALSE(bias_leaf.grad().defined());
}

TEST_F(ShardedStoreTest, ABorrowersGradientDoesNotWaitForTheOwner) {
  const auto store = make(setup(StorePolicy::kReshard));
  const std::size_t owner = 2, borrower = 5;
  const FlatShard* table = nullptr;
  for (const FlatShard& shard : store->shards()) {
    if (shard.block == "text.embed") table = &shard;
  }
  ASSERT_NE(table, nullptr);
  store->begin_step();
  store->open(borrower, true);
  const at::Tensor leaf = parameter(owner)->value;
  leaf.mutable_grad().add_(1.0);
  store->close(borrower);
  store->finish_micro_batch(borrower, true);
  EXPECT_FALSE(leaf.grad().defined());
  for (const std::size_t i : {4, 3}) store->finish_micro_batch(i, true);
  EXPECT_EQ(table->gradients[0].item<float>(), 2.0F);
  store->open(owner, true);
  leaf.mutable_grad().add_(10.0);
  store->close(owner);
  for (const std::size_t i : {2, 1, 0}) store->finish_micro_batch(i, true);
  store->finish_reduce();
  EXPECT_EQ(table->gradients[0].item<float>(), 22.0F);
  EXPECT_EQ(std::ranges::count(calls_, "scatter gradients of text.embed"), 2);
}

TEST_F(ShardedStoreTest, PrefetchGathersTwoBlocksAhead) {
  const auto store = make(setup(StorePolicy::kReshard));
  store->begin_step();
  for (std::size_t i = 0; i < 4; ++i) store->prefetch(i);
  EXPECT_EQ(calls_, (Calls{"gather values of vision.embed", "gather values of vision.0"}));
  store->open(0, false);
  EXPECT_EQ(calls_.back(), "gather values of text.embed");
  store->close(0);
  EXPECT_EQ(calls_.size(), 3U);
  store->open(1, false);
  EXPECT_EQ(calls_.back(), "gather values of text.0");
  store->close(1);
  for (const std::size_t i : {2, 3}) {
    store->open(i, false);
    const FlatShard& shard = store->shards()[i + 1];
    EXPECT_EQ(parameter(i)->value.flatten()[shard.slices[0].begin].item<float>(),
              shard.values[0].item<float>());
    store->close(i);
  }
  EXPECT_EQ(calls_.size(), 4U);
  // Announced while it is open: it stays.
  store->open(3, false);
  store->prefetch(3);
  store->close(3);
  store->open(3, true);
  store->close(3);
  EXPECT_EQ(calls_.size(), 5U);
  store->open(3, false);
  EXPECT_EQ(calls_.size(), 6U);
  store->close(3);
}

TEST_F(ShardedStoreTest, PrefetchedValuesAreDroppedWhenTheyChange) {
  const auto store = make(setup(StorePolicy::kReshard));
  store->prefetch(3);
  store->shards()[4].values.fill_(7.0);
  store->values_changed();
  store->open(3, false);
  EXPECT_EQ(parameter(3)->value.min().item<float>(), 7.0F);
  EXPECT_THROW(store->values_changed(), InternalError);  // in use
  store->close(3);
  EXPECT_EQ(calls_, (Calls{"gather values of text.0", "gather values of text.0"}));
}

TEST_F(ShardedStoreTest, WithoutPrefetchNothingIsGatheredAhead) {
  StoreSetup alone = setup(StorePolicy::kReshard);
  alone.prefetch = false;
  const auto store = make(alone);
  store->prefetch(3);
  EXPECT_TRUE(calls_.empty());
  store->open(3, false);
  store->close(3);
  EXPECT_EQ(calls_.size(), 1U);
}

TEST_F(ShardedStoreTest, FrozenParametersAreGatheredAndNeverReduced) {
  toy::freeze(model_, "vision.0.w");
  CountingComm replicas(3, 0, &calls_);
  StoreSetup with_replicas = setup(StorePolicy::kReshard);
  with_replicas.whole_replicas = &replicas;
  const auto store = make(with_replicas);
  store->begin_step();
  store->open(1, true);
  EXPECT_FALSE(parameter(1)->value.requires_grad());
  EXPECT_FALSE(parameter(1)->value.grad().defined());
  EXPECT_TRUE(model_.blocks[1]->parameters()[1]->value.grad().defined());
  store->close(1);
  store->finish_micro_batch(1, true);
  store->finish_micro_batch(0, true);  // the block before: the sum over the replicas goes out
  EXPECT_EQ(calls_, (Calls{"gather values of vision.0", "gather values of vision.0 (frozen)",
                           "scatter gradients of vision.0", "sum gradients of vision.0",
                           "scatter gradients of vision.embed"}));
}

TEST_F(ShardedStoreTest, CutParametersAreSummedOverFewerReplicas) {
  take_part(*parameter(3), 0, 0, 4);
  CountingComm replicas(2, 1, &calls_), whole_replicas(6, 3, &calls_);
  StoreSetup both = setup(StorePolicy::kKeepWeights);
  both.replicas = &replicas;
  both.whole_replicas = &whole_replicas;
  const auto store = make(both);
  store->begin_step();
  finish_step(*store);
  for (const FlatShard& shard : store->shards()) {
    EXPECT_EQ(shard.num_replicas, shard.block == "text.0" ? 2 : 6) << shard.block;
    EXPECT_EQ(shard.replica, shard.block == "text.0" ? 1 : 3);
  }
  EXPECT_EQ(std::ranges::count(calls_, "scatter gradients of text.0 (tp)"), 1);
  EXPECT_EQ(std::ranges::count(calls_, "sum gradients of text.0 (tp)"), 1);
}

TEST_F(ShardedStoreTest, CollectivesDoNotDependOnTheData) {
  for (const StorePolicy policy : {StorePolicy::kReshard, StorePolicy::kKeepWeights}) {
    std::vector<Calls> calls;
    for (const bool with_gradients : {true, false}) {
      CountingComm replicas(2, 0, &calls_);
      StoreSetup both = setup(policy);
      both.whole_replicas = &replicas;
      const auto store = make(both);
      store->begin_step();
      for (std::size_t i = 0; i < kNumBlocks; ++i) {
        store->prefetch((i + 1) % kNumBlocks);
        store->open(i, false);
        store->close(i);
      }
      for (std::size_t i = kNumBlocks; i-- > 0;) {
        store->open(i, true);
        if (with_gradients) parameter(i)->value.sum().backward();
        store->close(i);
        store->finish_micro_batch(i, true);
      }
      store->finish_reduce();
      calls.push_back(calls_);
    }
    EXPECT_EQ(calls[0], calls[1]);
  }
}

TEST_F(ShardedStoreTest, StagesHaveTheirBlocksAndExchangeTiedGradients) {
  CountingComm stages(2, 0, &calls_), replicas(3, 1, &calls_);
  StoreSetup first = setup(StorePolicy::kKeepWeights);
  first.own_blocks = {true, true, true, false, false, false};
  first.whole_replicas = &replicas;
  EXPECT_THROW(make(first), InternalError);  // not connected
  first.tied = {&stages, 1};
  StoreSetup last = first;
  last.own_blocks.flip();
  last.tied = {&stages, 0};

  for (const bool is_first : {true, false}) {
    const auto store = make(is_first ? first : last);
    Calls names;
    for (const FlatShard& shard : store->shards()) {
      const bool tied = shard.block == "text.embed";
      EXPECT_EQ(shard.num_replicas, tied ? 6 : 3);
      EXPECT_EQ(shard.replica, tied && !is_first ? 4 : 1);
      names.push_back(shard.block);
    }
    EXPECT_EQ(names, is_first ? (Calls{"vision.embed", "vision.0", "vision.0", "text.embed"})
                              : (Calls{"text.embed", "text.0", "text.1", "text.head"}));
    const std::size_t user = is_first ? 2 : 5;
    store->begin_step();
    store->open(user, true);
    parameter(2)->value.mutable_grad().add_(1.0);
    store->close(user);
    EXPECT_THROW(store->open(is_first ? 5 : 2, false), InternalError);
    calls_.clear();
    for (std::size_t i = kNumBlocks; i-- > 0;) {
      if ((is_first ? first : last).own_blocks[i]) store->finish_micro_batch(i, true);
    }
    store->finish_reduce();
    const std::string gradients = " gradients of text.embed (tied: text.embed.table)";
    EXPECT_EQ(std::ranges::count(calls_, "scatter" + gradients), 1);
    EXPECT_EQ(std::ranges::count(calls_, "sum" + gradients), 1);
    EXPECT_EQ((Calls{calls_.end() - 2, calls_.end()}),
              is_first ? (Calls{"send to 1" + gradients, "receive from 1" + gradients})
                       : (Calls{"receive from 0" + gradients, "send to 0" + gradients}));
    // 2 ranks x 3 replicas, and 100 from the other stage.
    EXPECT_EQ(store->shards()[is_first ? 3 : 0].gradients[0].item<float>(), 106.0F);
  }
  toy::freeze(model_, "text.embed");
  first.tied = {};
  const auto store = make(first);
  EXPECT_FALSE(store->shards()[3].gradients.defined());
}

}  // namespace
}  // namespace gimbal
