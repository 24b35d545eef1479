// What is counted of a step's collectives, against the table of docs/parallel.md.
#include "gimbal/train/report/communication.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <chrono>
#include <iostream>

#include "gimbal/parallel/store.h"
#include "parallel/toy_model.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

constexpr int kCountedSteps = 3;

/// Sizes that halve into whole lines of 64 bytes: nothing is padded.
Model make_counted_layers() {
  Model model;
  for (int i = 0; i < 4; ++i) {
    toy::add(model, "text." + std::to_string(i),
             [](const toy::ToyBlock&, const PassContext&, const Flow& in) { return in; })
        .weight("up", {64, 32})
        .weight("bias", {64});
  }
  return model;
}

std::int64_t bytes_of_call(const StepCommunication& counted, const std::string& call) {
  std::int64_t bytes = 0;
  for (const CommTotal& total : counted.totals()) {
    GIMBAL_CHECK(total.group == "dp_shard", "counted on ", total.group, ": ", total.call);
    GIMBAL_CHECK(total.calls == kCountedSteps * 4, "calls of ", total.call, ": ", total.calls);
    GIMBAL_CHECK(total.wait_seconds >= 0, "negative: ", total.wait_seconds);
    if (total.call == call) bytes += total.bytes;
  }
  return bytes;
}

void check_counts(CommWorld& world, at::ScalarType compute, const std::string& name) {
  MeshShape shape;
  shape.dp_shard = 2;
  const Mesh mesh(world, shape, name);
  const Model model = make_counted_layers();
  StoreSetup setup;
  setup.shard = &mesh.shard();
  setup.compute = compute;
  setup.group_of = toy::group_of;
  const auto store = make_sharded_store(model.blocks, setup);
  StepCommunication counted(mesh);
  for (int step = 0; step < kCountedSteps; ++step) {
    counted.begin_step();
    store->begin_step();
    for (std::size_t i = 0; i < model.blocks.size(); ++i) {
      store->open(i, false);
      store->close(i);
    }
    for (std::size_t i = model.blocks.size(); i-- > 0;) {
      store->open(i, true);
      for (const ParameterPtr& parameter : model.blocks[i]->parameters()) {
        at::Tensor& gradient = parameter->value.mutable_grad();
        if (!gradient.defined()) gradient = at::zeros_like(parameter->value.detach());
        gradient.add_(1.0);
      }
      store->close(i);
      store->finish_micro_batch(i, true);
    }
    store->finish_reduce();
    store->values_changed();
    counted.end_step();
    // Between steps, as an evaluation: not counted.
    mesh.world().all_gather(at::ones({100}), "something else");
    mesh.shard().all_gather(at::ones({100}), "something else");
  }
  const std::int64_t values = model.num_parameters();  // P
  const auto w = static_cast<std::int64_t>(c10::elementSize(compute));
  GIMBAL_CHECK_EQ(counted.num_steps(), kCountedSteps);
  // P w (1 - 1/dp_shard) and P m (1 - 1/dp_shard), m = 4.
  GIMBAL_CHECK_EQ(bytes_of_call(counted, "all-gather"), kCountedSteps * values * w / 2);
  GIMBAL_CHECK_EQ(bytes_of_call(counted, "reduce-scatter"), kCountedSteps * values * 4 / 2);
}

const Worker kCountedCalls("counted_calls", [] {
  const auto world = make_comm_world(read_launch_info(), at::kCPU, std::chrono::seconds(60));
  check_counts(*world, at::kFloat, "first");
  check_counts(*world, at::kBFloat16, "second");
  // An all-reduce is a reduce-scatter and an all-gather: 2 (1 - 1/2) of its 400 bytes.
  const auto bytes_of_sums = [&] {
    std::int64_t bytes = 0;
    for (const CommTotal& total : world->totals())
      if (total.group == "world" && total.call == "all-reduce") bytes += total.bytes;
    return bytes;
  };
  GIMBAL_CHECK_EQ(bytes_of_sums(), 0);
  world->world().all_reduce_sum(at::ones({100}), "sum")->wait();
  GIMBAL_CHECK_EQ(bytes_of_sums(), 400);
  std::cout << "as in the table";
});

TEST(DistCommunication, ShardedStepSendsWhatTheTableSays) {
  for (const WorkerResult& result : run_workers("counted_calls", 2)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, "as in the table");
  }
}

}  // namespace
}  // namespace gimbal
