// Runs of the tape on the toy model, and a store that writes down what it is asked.
#pragma once

#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/train/tape/tape.h"
#include "parallel/toy_model.h"

namespace gimbal::toy {

struct TapeRun {
  double loss_sum = 0;
  NamedTensors gradients;
};

inline TapeRun run_tape(const Model& model, const std::vector<Batch>& batches, double seed,
                        const std::vector<Recompute>& levels, at::ScalarType compute = at::kFloat) {
  const auto comm = make_single_comm();
  const auto store = make_store(model, *comm, at::kFloat, compute);
  Tape tape(model, *store, levels);
  TapeRun run;
  store->begin_step();
  for (std::size_t i = 0; i < batches.size(); ++i) {
    run.loss_sum += tape.forward({batches[i]}).item<double>();
    tape.backward(seed, i + 1 == batches.size());
  }
  store->finish_reduce();
  run.gradients = gradients_of(*store);
  return run;
}

inline void expect_bit_equal(const NamedTensors& a, const NamedTensors& b,
                             const std::string& what = "") {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << what << " " << name;
    EXPECT_TRUE(at::equal(tensor, b.at(name))) << what << " " << name;
  }
}

inline double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

inline std::vector<Recompute> keep(const Model& model) {
  return std::vector<Recompute>(model.blocks.size(), Recompute::kKeep);
}
inline std::vector<Recompute> full(const Model& model) {
  return std::vector<Recompute>(model.blocks.size(), Recompute::kFull);
}

/// The gradient of the last stage's outputs.
inline Flow loss_gradient(const at::Tensor& loss, double seed) {
  Flow gradients;
  gradients.loss = at::full_like(loss, seed);
  return gradients;
}

/// Writes down the calls.
class LoggingStore : public ParameterStore {
 public:
  LoggingStore(std::unique_ptr<ParameterStore> store) : store_(std::move(store)) {}
  void begin_step() override { store_->begin_step(); }
  void open(std::size_t block, bool backward) override {
    log.push_back(concat("open ", block, backward ? " backward" : ""));
    store_->open(block, backward);
  }
  void close(std::size_t block) override {
    log.push_back(concat("close ", block));
    store_->close(block);
  }
  void open_gradients(std::size_t block) override {
    log.push_back(concat("gradients ", block));
    store_->open_gradients(block);
  }
  void prefetch(std::size_t block) override {
    log.push_back(concat("prefetch ", block));
    store_->prefetch(block);
  }
  void finish_micro_batch(std::size_t block, bool last) override {
    log.push_back(concat("finish ", block, last ? " last" : ""));
    store_->finish_micro_batch(block, last);
  }
  void finish_reduce() override { store_->finish_reduce(); }
  std::vector<FlatShard>& shards() override { return store_->shards(); }
  void values_changed() override { store_->values_changed(); }

  std::vector<std::string> log;

 private:
  std::unique_ptr<ParameterStore> store_;
};

}  // namespace gimbal::toy
