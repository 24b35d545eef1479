// A few parameters in flat shards, as a store holds them, for the tests of checkpoints.
#pragma once

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gimbal/checkpoint/run_checkpoint.h"

namespace gimbal::testing {

struct SmallRun {
  std::vector<FlatShard> shards;
  std::vector<OptimizerTensors> optimizer;
};

/// Parameters a [2, 3] and b [4] (padded apart) in one shard, c [5] frozen in another. Values count
/// up from `start`, or are 0 for a negative one.
inline SmallRun small_run(double start, at::ScalarType dtype = at::kFloat,
                          std::vector<std::int64_t> a_shape = {2, 3},
                          const std::string& b_name = "text.b") {
  const auto parameter = [](std::string name, std::vector<std::int64_t> shape, bool trainable) {
    auto made = std::make_shared<Parameter>();
    made->name = std::move(name);
    made->shape = std::move(shape);
    made->trainable = trainable;
    return made;
  };
  const auto values = [&](std::int64_t size, double offset) {
    return start < 0
               ? at::zeros({size}, dtype)
               : at::arange(start + offset, start + offset + static_cast<double>(size), dtype);
  };
  SmallRun run;
  FlatShard first;
  first.block = "text.0";
  first.values = values(12, 0);
  first.slices = {{parameter("text.a", a_shape, true), 0, 0, numel_of(a_shape)},
                  {parameter(b_name, {4}, true), 8, 0, 4}};
  FlatShard second;
  second.block = "vision.0";
  second.values = values(5, 100);
  second.slices = {{parameter("vision.c", {5}, false), 0, 0, 5}};
  run.optimizer = {{"first_moment", {values(12, 200), {}}},
                   {"second_moment", {values(12, 300), {}}}};
  run.shards = {std::move(first), std::move(second)};
  return run;
}

inline TrainingState state_at(std::uint64_t step) {
  TrainingState state;
  state.step = step;
  state.epoch = 1;
  state.step_in_epoch = 7;
  state.seed = ~std::uint64_t{0};
  state.optimizer_steps = static_cast<std::int64_t>(step) - 1;
  state.samples = 1234;
  state.tokens = 99999;
  state.loss_tokens = 5678;
  state.stage = "align";
  state.recipe_fingerprint = "abc";
  state.dataset_fingerprint = "def";
  return state;
}

}  // namespace gimbal::testing
