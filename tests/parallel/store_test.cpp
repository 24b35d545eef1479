// The sharded store on several processes: gradients and values equal those of one process.
#include "gimbal/parallel/store.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <iostream>

#include "gimbal/base/error.h"
#include "parallel/toy_model.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

/// A micro-batch under way through some of the blocks.
struct Recording {
  std::vector<Flow> inputs, outputs;
};

struct Blocks {
  const Model& model;
  ParameterStore& store;
  std::size_t begin = 0, end = 6;
};

Flow run_forward_blocks(const Blocks& blocks, const Batch& batch, Flow flow, Recording& recording) {
  const PassContext context{batch, PassKind::kLoss, nullptr, 1024};
  for (std::size_t i = blocks.begin; i < blocks.end; ++i) {
    if (i + 1 < blocks.end) blocks.store.prefetch(i + 1);
    for (at::Tensor* tensor : flow.tensors()) {
      if (tensor->defined()) *tensor = tensor->detach().requires_grad_(true);
    }
    recording.inputs.push_back(flow);
    blocks.store.open(i, false);
    flow = blocks.model.blocks[i]->forward(context, flow);
    blocks.store.close(i);
    recording.outputs.push_back(flow);
  }
  return flow;
}

Flow run_backward_blocks(const Blocks& blocks, Recording& recording, Flow gradients, bool last) {
  for (std::size_t i = blocks.end; i-- > blocks.begin;) {
    if (i > blocks.begin) blocks.store.prefetch(i - 1);
    const Flow inputs = recording.inputs[i - blocks.begin];
    const Flow outputs = recording.outputs[i - blocks.begin];
    std::vector<at::Tensor> roots, root_gradients;
    for (std::size_t k = 0; k < Flow::kNumTensors; ++k) {
      if (!gradients.tensors()[k]->defined() || !outputs.tensors()[k]->requires_grad()) continue;
      roots.push_back(*outputs.tensors()[k]);
      root_gradients.push_back(*gradients.tensors()[k]);
    }
    blocks.store.open(i, true);
    if (!roots.empty()) torch::autograd::backward(roots, root_gradients);
    blocks.store.close(i);
    blocks.store.finish_micro_batch(i, last);
    for (std::size_t k = 0; k < Flow::kNumTensors; ++k) {
      const at::Tensor& input = *inputs.tensors()[k];
      *gradients.tensors()[k] = input.defined() ? input.grad() : at::Tensor();
    }
  }
  return gradients;
}

/// All micro-batches are under way at the same time when `at_once`.
void run_step(const Blocks& blocks, const std::vector<Batch>& batches, bool at_once) {
  blocks.store.begin_step();
  std::vector<Recording> recordings(batches.size());
  std::vector<Flow> gradients(batches.size());
  const auto backward = [&](std::size_t i) {
    run_backward_blocks(blocks, recordings[i], gradients[i], i + 1 == batches.size());
  };
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const Flow out = run_forward_blocks(blocks, batches[i], Flow(), recordings[i]);
    gradients[i].loss = at::full({}, 1.0 / 64, out.loss.options());
    if (!at_once) backward(i);
  }
  for (std::size_t i = 0; i < batches.size() && at_once; ++i) backward(i);
  blocks.store.finish_reduce();
}

void update(ParameterStore& store) {
  c10::NoGradGuard no_grad;
  for (FlatShard& shard : store.shards()) {
    if (shard.gradients.defined()) shard.values.sub_(shard.gradients * 0.5);
  }
  store.values_changed();
}

/// Micro-batches of a data rank; some have no rows in one stream or in both.
std::vector<Batch> batches_of(int rank) {
  const auto seed = static_cast<std::uint64_t>(rank + 1);
  std::vector<Batch> batches{toy::make_batch(seed, 5 + rank, rank == 1 ? 0 : 3),
                             toy::make_batch(seed + 10, rank == 0 ? 0 : 6, 0)};
  for (Batch& batch : batches) batch.pixels_ICYX = batch.pixels_ICYX.to(at::kDouble);
  return batches;
}

struct Case {
  std::string name;
  int num_shards = 2;
  StorePolicy policy = StorePolicy::kReshard;
  bool at_once = true;
  std::string frozen = "nothing";
  at::ScalarType master = at::kDouble, compute = at::kDouble;
  bool prefetch = true;

  double eps() const { return master == at::kDouble ? 0x1p-52 : 0x1p-23; }
  /// bfloat16 rounds values that differ in the last bit of float32 apart.
  int num_steps() const { return compute == at::kBFloat16 ? 1 : 2; }
};

Model make_frozen(const std::string& frozen) {
  Model model = toy::make_model();
  toy::freeze(model, frozen);
  return model;
}

/// Gradients and values after the steps, of one process that runs the batches of all ranks.
std::pair<toy::NamedTensors, toy::NamedTensors> run_alone(const Case& c, int num_ranks) {
  const Model model = make_frozen(c.frozen);
  const auto single = make_single_comm();
  const auto store = toy::make_store(model, *single, c.master, c.compute);
  std::vector<Batch> batches;
  for (int rank = 0; rank < num_ranks; ++rank) {
    for (Batch& batch : batches_of(rank)) batches.push_back(std::move(batch));
  }
  for (int step = 0; step < c.num_steps(); ++step) {
    run_step({model, *store}, batches, c.at_once);
    update(*store);
  }
  return {toy::gradients_of(*store), toy::values_of(*store)};
}

/// The groups of this rank: `num_shards` neighbours, and the ranks at the same place of others.
struct Groups {
  std::unique_ptr<Comm> shard, replicas;

  Groups(CommWorld& comm, int num_shards) {
    const int size = comm.world().size(), rank = comm.world().rank();
    std::vector<int> neighbours, others;
    for (int i = 0; i < num_shards; ++i) neighbours.push_back(rank / num_shards * num_shards + i);
    for (int i = rank % num_shards; i < size; i += num_shards) others.push_back(i);
    const std::string of = " of " + std::to_string(num_shards);
    shard = comm.make_group("shards" + of, neighbours);
    replicas = comm.make_group("replicas" + of, others);
  }
};

/// Each difference at most c * eps of the parameter's norm: sums of up to 8 micro-batches in
/// another order, over two steps of a model of six blocks.
void check_pieces(const Case& c, ParameterStore& store, const toy::NamedTensors& gradients,
                  const toy::NamedTensors& values) {
  const auto compare = [&](const FlatShard::Slice& slice, const at::Tensor& shard,
                           const toy::NamedTensors& expected, const std::string& what) {
    const at::Tensor whole = expected.at(slice.parameter->name).flatten();
    const at::Tensor difference =
        shard.narrow(0, slice.offset, slice.numel) - whole.narrow(0, slice.begin, slice.numel);
    const double error = difference.abs().max().item<double>();
    const double norm = at::linalg_vector_norm(whole).item<double>();
    GIMBAL_CHECK(error <= 64 * c.eps() * norm, "case ", c.name, ": ", what, " of ",
                 slice.parameter->name, " differ by ", error, ", norm ", norm);
  };
  for (const FlatShard& shard : store.shards()) {
    for (const auto& slice : shard.slices) {
      if (shard.gradients.defined()) compare(slice, shard.gradients, gradients, "gradients");
      compare(slice, shard.values, values, "values");
    }
  }
}

/// Values of replica 0 over all ranks: each counts once.
void check_coverage(const Case& c, Comm& world, ParameterStore& store) {
  at::Tensor numel = at::zeros({1}, at::kLong);
  for (const FlatShard& shard : store.shards()) {
    for (const auto& slice : shard.slices) numel += shard.replica == 0 ? slice.numel : 0;
  }
  world.all_reduce_sum(numel, "values")->wait();
  std::int64_t expected = 0;
  for (const auto& block : toy::make_model().blocks) {
    for (const ParameterPtr& parameter : block->parameters()) expected += parameter->numel();
  }
  GIMBAL_CHECK_EQ(numel.item<std::int64_t>(), expected, "case ", c.name);
}

/// Returns this rank's gradients and values.
std::vector<at::Tensor> run_case(const Case& c, Comm& world, const Groups& groups) {
  const Model model = make_frozen(c.frozen);
  StoreSetup setup;
  setup.shard = groups.shard.get();
  setup.replicas = setup.whole_replicas = groups.replicas.get();
  setup.policy = c.policy;
  setup.prefetch = c.prefetch;
  setup.master = c.master;
  setup.compute = c.compute;
  setup.group_of = toy::group_of;
  const auto store = make_sharded_store(model.blocks, setup);
  toy::fill_values(*store);
  for (int step = 0; step < c.num_steps(); ++step) {
    run_step({model, *store}, batches_of(world.rank()), c.at_once);
    update(*store);
  }
  const auto [gradients, values] = run_alone(c, world.size());
  check_pieces(c, *store, gradients, values);
  check_coverage(c, world, *store);
  std::vector<at::Tensor> result;
  for (const FlatShard& shard : store->shards()) {
    if (shard.gradients.defined()) result.push_back(shard.gradients.clone());
    result.push_back(shard.values.clone());
  }
  return result;
}

const Worker kStore("store", [] {
  at::set_num_threads(1);
  const auto comm = make_comm_world(read_launch_info(), at::kCPU, std::chrono::seconds(60));
  const int size = comm->world().size();
  constexpr auto kReshard = StorePolicy::kReshard, kKeep = StorePolicy::kKeepWeights;
  int num_cases = 0;
  for (int num_shards = 1; num_shards <= size; num_shards *= 2) {
    const Groups groups(*comm, num_shards);
    const std::vector<Case> cases{
        {"reshard", num_shards, kReshard},
        {"reshard, one after another", num_shards, kReshard, false},
        {"keep", num_shards, kKeep},
        {"frozen vision", num_shards, kReshard, true, "vision."},
        {"frozen weight beside a trained one", num_shards, kKeep, true, "vision.0.w"},
        {"frozen table", num_shards, kReshard, true, "text.embed"},
        {"bfloat16", num_shards, kReshard, true, "nothing", at::kFloat, at::kBFloat16},
        {"bfloat16, keep", num_shards, kKeep, true, "nothing", at::kFloat, at::kBFloat16},
        {"float32 under float64", num_shards, kReshard, true, "nothing", at::kFloat, at::kFloat}};
    for (Case c : cases) {
      c.name += " on " + std::to_string(num_shards) + " shards";
      const auto result = run_case(c, comm->world(), groups);
      c.prefetch = false;
      const auto without_prefetch = run_case(c, comm->world(), groups);
      GIMBAL_CHECK_EQ(result.size(), without_prefetch.size());
      for (std::size_t i = 0; i < result.size(); ++i) {
        GIMBAL_CHECK(at::equal(result[i], without_prefetch[i]), "case ", c.name,
                     ": prefetch changes bits");
      }
      ++num_cases;
    }
  }
  std::cout << num_cases;
});

TEST(DistStore, EqualsOneProcessOnTwo) {
  for (const WorkerResult& result : run_workers("store", 2)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, "18");
  }
}

TEST(DistStore, EqualsOneProcessOnFour) {
  for (const WorkerResult& result : run_workers("store", 4)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, "27");
  }
}

/// Ranks of the first stage, then of the second; `size / 2` shards.
const Worker kTiedStages("tied_stages", [] {
  at::set_num_threads(1);
  const auto comm = make_comm_world(read_launch_info(), at::kCPU, std::chrono::seconds(60));
  const int num_shards = comm->world().size() / 2, rank = comm->world().rank();
  const int stage = rank / num_shards, data_rank = rank % num_shards;
  const Groups groups(*comm, num_shards);
  const auto pair = comm->make_group("stages", {data_rank, data_rank + num_shards});
  Case c{"stages", num_shards};
  const Model model = toy::make_model();
  StoreSetup setup;
  setup.shard = groups.shard.get();
  setup.policy = c.policy;
  setup.master = c.master;
  setup.compute = c.compute;
  setup.group_of = toy::group_of;
  setup.own_blocks.assign(6, false);
  for (std::size_t i = 0; i < 3; ++i)
    setup.own_blocks[static_cast<std::size_t>(3 * stage) + i] = true;
  setup.tied = {pair.get(), 1 - stage};
  const auto store = make_sharded_store(model.blocks, setup);
  toy::fill_values(*store);
  const std::size_t begin = stage == 0 ? 0 : 3;
  const Blocks blocks{model, *store, begin, begin + 3};

  const auto exchange = [&](Flow& flow, bool receives) {
    for (at::Tensor* tensor : {&flow.text, &flow.vision}) {
      if (tensor->numel() == 0) continue;
      const auto work = receives ? pair->receive(*tensor, 1 - stage, "flow")
                                 : pair->send(tensor->detach().contiguous(), 1 - stage, "flow");
      work->wait();
    }
  };
  const auto empty_flow = [](const Batch& batch) {
    Flow flow;
    flow.text = at::zeros({batch.token_ids_T.size(0), toy::kWidth}, at::kDouble);
    flow.vision = at::zeros({batch.num_tiles, toy::kWidth}, at::kDouble);
    return flow;
  };
  for (int step = 0; step < c.num_steps(); ++step) {
    store->begin_step();
    const std::vector<Batch> batches = batches_of(data_rank);
    for (std::size_t i = 0; i < batches.size(); ++i) {
      Recording recording;
      Flow in = stage == 0 ? Flow() : empty_flow(batches[i]);
      if (stage == 1) exchange(in, true);
      Flow out = run_forward_blocks(blocks, batches[i], in, recording);
      if (stage == 0) exchange(out, false);
      Flow gradients = stage == 0 ? empty_flow(batches[i]) : Flow();
      if (stage == 0) exchange(gradients, true);
      if (stage == 1) gradients.loss = at::full({}, 1.0 / 64, at::kDouble);
      gradients = run_backward_blocks(blocks, recording, gradients, i + 1 == batches.size());
      if (stage == 1) exchange(gradients, false);
    }
    store->finish_reduce();
    update(*store);
  }
  const auto [gradients, values] = run_alone(c, num_shards);
  check_pieces(c, *store, gradients, values);
  check_coverage(c, comm->world(), *store);
  // Both copies have the same bits.
  for (const FlatShard& shard : store->shards()) {
    if (shard.block != "text.embed") continue;
    GIMBAL_CHECK_EQ(shard.num_replicas, 2);
    for (const at::Tensor& tensor : {shard.values, shard.gradients}) {
      if (tensor.numel() == 0) continue;
      const at::Tensor both = pair->all_gather(tensor, "copies");
      GIMBAL_CHECK(at::equal(both[0], both[1]), "the stages' copies differ");
    }
    std::cout << "tied ";
  }
  std::cout << "done";
});

TEST(DistStore, TiedParametersOfTwoStagesStayEqual) {
  for (const int size : {2, 4}) {
    for (const WorkerResult& result : run_workers("tied_stages", size)) {
      EXPECT_EQ(result.exit_code, 0) << result.output;
      EXPECT_EQ(result.output, "tied done");
    }
  }
}

}  // namespace
}  // namespace gimbal
