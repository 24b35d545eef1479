// Training steps of the toy model with several processes against one.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <iomanip>
#include <iostream>
#include <sstream>

#include <ATen/ops/zeros.h>
#include "gimbal/optim/adamw.h"
#include "gimbal/optim/clip.h"
#include "gimbal/train/tape/tape.h"
#include "parallel/toy_model.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

constexpr int kNumPacks = 4;  // of a step, dealt to the ranks in turn

/// Images of pack i: every pack some, or every second pack none.
std::int64_t num_images(int pack, bool odd_packs_without) {
  return odd_packs_without && pack % 2 == 1 ? 0 : 1 + pack;
}

/// Prints the loss of each step, the last gradient norm, and all weights at the end.
void train(int num_steps, bool odd_packs_without_images) {
  const auto comm = make_world_comm(read_launch_info(), at::kCPU, std::chrono::milliseconds(60000));
  Model model = toy::make_model();
  toy::freeze(model, "text.0");
  const auto store = toy::make_store(model, *comm);
  Tape tape(model, *store, std::vector<Recompute>(model.blocks.size(), Recompute::kFull));
  AdamW adamw(store->shards(), {});
  std::cout << std::setprecision(17);
  at::Tensor norm;
  for (int step = 0; step < num_steps; ++step) {
    store->begin_step();
    at::Tensor loss = at::zeros({}, at::kFloat);
    for (int pack = comm->rank(); pack < kNumPacks; pack += comm->size()) {
      const auto seed = static_cast<std::uint64_t>(100 * step + pack);
      const Batch batch =
          toy::make_batch(seed, 4 + pack, num_images(pack, odd_packs_without_images));
      loss += tape.forward({batch});
      tape.backward(0.1, pack + comm->size() >= kNumPacks);
    }
    store->finish_reduce();
    norm = global_norm(store->shards());
    clip_gradients(store->shards(), norm, 1.0);
    adamw.step({{0.01, 0.1}, {0.01, 0.0}});
    store->values_changed();
    comm->all_reduce_sum(loss, "loss")->wait();
    std::cout << loss.item<float>() << " ";
  }
  std::cout << norm.item<double>();
  for (const auto& [name, values] : toy::values_of(*store)) {
    const at::Tensor flat = values.reshape({-1});
    for (std::int64_t i = 0; i < flat.numel(); ++i) std::cout << " " << flat[i].item<float>();
  }
}

const Worker kThreeSteps("three_steps", [] { train(3, false); });
const Worker kNoImages("fifty_steps_without_images", [] { train(50, true); });

std::vector<double> numbers(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<double>(in), std::istream_iterator<double>()};
}

/// All ranks of `size` processes print the same, and what one process prints up to `tolerance`.
void expect_as_one_process(const std::string& worker, int size, double tolerance) {
  const auto alone = run_workers(worker, 1);
  ASSERT_EQ(alone[0].exit_code, 0) << alone[0].output;
  const std::vector<double> expected = numbers(alone[0].output);
  ASSERT_GT(expected.size(), 200u);
  const auto results = run_workers(worker, size);
  for (const WorkerResult& result : results) {
    ASSERT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, results[0].output);
    const std::vector<double> got = numbers(result.output);
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i], tolerance * (1 + std::abs(expected[i]))) << i;
    }
  }
}

// Adding in another order changes a gradient by a few eps (1.2e-7); AdamW divides by its size,
// which enlarges this for small ones, and each step moves a weight by at most lr = 0.01.
TEST(DistTrain, TwoProcessesEqualOne) { expect_as_one_process("three_steps", 2, 2e-6); }
TEST(DistTrain, FourProcessesEqualOne) { expect_as_one_process("three_steps", 4, 2e-6); }

TEST(DistTrain, RankWithoutImagesNeitherHangsNorDiffers) {
  // Fifty steps of rounding differences.
  expect_as_one_process("fifty_steps_without_images", 2, 5e-5);
}

}  // namespace
}  // namespace gimbal
