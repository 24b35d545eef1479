// Bytes that a rank holds for parameters, gradients and optimizer, counted by the allocator.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <thread>

#include "gimbal/optim/adamw.h"
#include "gimbal/optim/clip.h"
#include "gimbal/profile/allocation_meter.h"
#include "parallel/toy_model.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

constexpr std::size_t kNumBlocks = 6;
constexpr std::int64_t kSize = 384;

/// Transformer-like: two matrices, a bias and two norms' weights in each block.
Model make_layers() {
  Model model;
  for (std::size_t i = 0; i < kNumBlocks; ++i) {
    toy::add(model, "text." + std::to_string(i),
             [](const toy::ToyBlock&, const PassContext&, const Flow& in) { return in; })
        .weight("norm", {kSize})
        .weight("up", {2 * kSize, kSize})
        .weight("bias", {2 * kSize})
        .weight("down", {kSize, 2 * kSize})
        .weight("norm_2", {kSize});
  }
  return model;
}

/// The backend's threads let go of the last tensors a moment after their collectives are done.
std::int64_t settled_bytes(const AllocationMeter& meter) {
  std::int64_t fewest = meter.current_bytes();
  for (int i = 0; i < 50; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    fewest = std::min(fewest, meter.current_bytes());
  }
  return fewest;
}

struct Held {
  std::int64_t at_rest = 0, most = 0;  // bytes
  double norm = 0;
};

/// Bytes after a step with the optimizer, and the most in the step.
Held measure(Comm& world, Comm& shard, Comm& replicas, StorePolicy policy) {
  const Model model = make_layers();
  AllocationMeter meter(at::kCPU);
  const std::int64_t before = settled_bytes(meter);
  StoreSetup setup;
  setup.shard = &shard;
  setup.replicas = setup.whole_replicas = &replicas;
  setup.policy = policy;
  setup.group_of = toy::group_of;
  const auto store = make_sharded_store(model.blocks, setup);
  AdamW adamw(store->shards(), {});
  Held held;
  for (int step = 0; step < 2; ++step) {
    meter.reset_peak();
    store->begin_step();
    for (std::size_t i = 0; i < kNumBlocks; ++i) {
      if (i + 1 < kNumBlocks) store->prefetch(i + 1);
      store->open(i, false);
      store->close(i);
    }
    for (std::size_t i = kNumBlocks; i-- > 0;) {
      if (i > 0) store->prefetch(i - 1);
      store->open(i, true);
      for (const ParameterPtr& parameter : model.blocks[i]->parameters()) {
        parameter->value.mutable_grad().add_(1.0);
      }
      store->close(i);
      store->finish_micro_batch(i, true);
    }
    store->finish_reduce();
    held.norm = global_norm(store->shards(), world).item<double>();
    adamw.step({{0.01, 0.1}, {0.01, 0.0}});
    store->values_changed();
    held.most = meter.peak_bytes() - before;
  }
  held.at_rest = settled_bytes(meter) - before;
  return held;
}

const Worker kStoreMemory("store_memory", [] {
  at::set_num_threads(1);
  AllocationMeter meter(at::kCPU);  // counts from here on
  const auto comm = make_comm_world(read_launch_info(), at::kCPU, std::chrono::seconds(60));
  const auto single = make_single_comm();
  Comm& world = comm->world();
  const Held whole = measure(world, *single, world, StorePolicy::kKeepWeights);
  const Held keep = measure(world, world, *single, StorePolicy::kKeepWeights);
  const Held reshard = measure(world, world, *single, StorePolicy::kReshard);
  const std::int64_t parameter_bytes = make_layers().num_parameters() * 4;
  const auto block_bytes = parameter_bytes / static_cast<std::int64_t>(kNumBlocks);
  const auto check = [](const char* what, double value, double expected, double tolerance) {
    GIMBAL_CHECK(std::abs(value - expected) <= tolerance * expected, "bytes of ", what, ": ", value,
                 ", expected ", expected);
  };
  const auto bytes = [](std::int64_t value) { return static_cast<double>(value); };
  // Values, gradients, two moments.
  check("one shard", bytes(whole.at_rest), bytes(4 * parameter_bytes), 0.03);
  check("two shards, kept", bytes(keep.at_rest), bytes(whole.at_rest) / 2, 0.03);
  check("two shards", bytes(reshard.at_rest), bytes(whole.at_rest) / 2, 0.03);
  // Besides: two gathered blocks and two blocks' whole gradients, and what the backend copies of
  // one of them.
  GIMBAL_CHECK(reshard.most <= reshard.at_rest + 6 * block_bytes, "most bytes ", reshard.most,
               " of ", reshard.at_rest, ", block ", block_bytes);
  for (const Held& held : {keep, reshard}) {
    GIMBAL_CHECK(std::abs(held.norm - whole.norm) <= 1e-6 * whole.norm, "norm ", held.norm, " of ",
                 whole.norm);
  }
  std::cout << "halved";
});

TEST(DistStoreMemory, TwoShardsHalveWhatARankHolds) {
  for (const WorkerResult& result : run_workers("store_memory", 2)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, "halved");
  }
}

}  // namespace
}  // namespace gimbal
