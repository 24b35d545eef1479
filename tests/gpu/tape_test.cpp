// Whole models through the tape on CUDA against the CPU, with recomputation and split backward.
#include <ATen/Parallel.h>

#include "gimbal/train/tape/tape.h"
#include "gpu/cuda_device.h"
#include "unit/parallel/toy_model.h"
#include "unit/train/small_models.h"

#include <ATen/ops/full_like.h>

namespace gimbal {
namespace {

using namespace gpu_tests;  // NOLINT: a test's own helpers
using toy::NamedTensors;

using GpuTape = Gpu;

constexpr double kTapeSeed = 0.25;
// A dozen layers with sums of up to a few hundred products each, in another order.
constexpr double kTapeC = 64;

struct GpuTapeRun {
  at::Tensor loss;
  NamedTensors gradients;
};

GpuTapeRun run_on(const at::Device& device, const Model& model, const Batch& host_batch,
                  at::ScalarType dtype, Recompute level, bool split) {
  const auto comm = make_single_comm(device);
  const auto store = make_replicated_store(model.blocks, *comm, dtype, dtype, device,
                                           [](const Parameter&) { return 0; });
  for (FlatShard& shard : store->shards()) {
    for (const auto& slice : shard.slices) {
      shard.values.narrow(0, slice.offset, slice.numel)
          .copy_(
              initial_values(*slice.parameter, 7).view({-1}).narrow(0, slice.begin, slice.numel));
    }
  }
  store->values_changed();
  const Batch batch = to_device(host_batch, device);
  Tape tape(model, *store, std::vector<Recompute>(model.blocks.size(), level),
            {0, model.blocks.size()}, split);
  store->begin_step();
  GpuTapeRun run;
  run.loss = tape.forward(0, {batch}, Flow()).loss;
  Flow seed;
  seed.loss = at::full_like(run.loss, kTapeSeed);
  if (split) {
    tape.backward_input(0, seed);
    tape.backward_weight(0, /*last=*/true);
  } else {
    tape.backward(0, seed, /*last=*/true);
  }
  store->finish_reduce();
  run.gradients = toy::gradients_of(*store);
  return run;
}

TEST_F(GpuTape, GradientsAreThoseOfTheCpu) {
  at::set_num_threads(1);
  for (const auto& [config, tiles] : {std::pair{small_models::text_config("qwen3", true), 0},
                                      std::pair{small_models::internvl_config("qwen2", true), 2}}) {
    const Model model = make_model(config, "gpu");
    const Batch batch = small_models::make_batch(1, {9, 5, 13}, tiles);
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const GpuTapeRun expected =
          run_on(at::kCPU, model, batch, dtype, Recompute::kKeep, /*split=*/false);
      for (const Recompute level :
           {Recompute::kKeep, Recompute::kAttention, Recompute::kMlp, Recompute::kFull}) {
        for (const bool split : {false, true}) {
          const GpuTapeRun run = run_on(kCuda, model, batch, dtype, level, split);
          expect_near(run.loss, expected.loss, kTapeC, eps_of(dtype), "loss");
          ASSERT_EQ(run.gradients.size(), expected.gradients.size());
          for (const auto& [name, gradient] : expected.gradients) {
            ASSERT_TRUE(run.gradients.contains(name)) << name;
            expect_near(run.gradients.at(name), gradient, kTapeC, eps_of(dtype), name);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace gimbal
