// Forward and backward of residual layers, block by block, with parameters of the store of one
// process and with plain tensors that stay bound. Prints JSON. Usage: overhead WIDTH ROWS BLOCKS
// ROUNDS.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>

#include "gimbal/parallel/store.h"

namespace {

using gimbal::Flow;

class Layer : public gimbal::Block {
 public:
  Layer(const std::string& name, std::int64_t width) : Block(name) {
    list_.add(name + ".up", {width, 4 * width}, {});
    list_.add(name + ".down", {4 * width, width}, {});
    list_.add(name + ".bias", {width}, {});
  }
  Flow forward(const gimbal::PassContext&, const Flow& in) const override {
    const auto value = [this](std::size_t i) { return parameters()[i]->value; };
    Flow out;
    out.text = in.text + at::mm(at::relu(at::mm(in.text, value(0))), value(1)) + value(2);
    return out;
  }
  gimbal::FlowShape output_shape(const gimbal::Batch&, const gimbal::FlowShape& in) const override {
    return in;
  }
};

using Blocks = std::vector<std::unique_ptr<gimbal::Block>>;

Blocks make_blocks(std::int64_t width, int count) {
  Blocks blocks;
  for (int i = 0; i < count; ++i) {
    blocks.push_back(std::make_unique<Layer>("text." + std::to_string(i), width));
  }
  return blocks;
}

/// `open` and `close` take (block, backward?); `finish` takes the block.
template <typename Open, typename Close, typename Finish>
void run_step(const Blocks& blocks, const at::Tensor& x, Open open, Close close, Finish finish) {
  const gimbal::Batch batch;
  const gimbal::PassContext context{batch};
  std::vector<Flow> inputs(blocks.size()), outputs(blocks.size());
  Flow flow;
  flow.text = x;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    inputs[i].text = flow.text.detach().requires_grad_(true);
    open(i, false);
    outputs[i] = flow = blocks[i]->forward(context, inputs[i]);
    close(i);
  }
  at::Tensor gradient = at::full({}, 1e-3).expand_as(x);
  for (std::size_t i = blocks.size(); i-- > 0;) {
    open(i, true);
    torch::autograd::backward({outputs[i].text}, {gradient});
    close(i);
    finish(i);
    gradient = inputs[i].text.grad();
  }
}

template <typename Run>
double seconds_of(Run run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "overhead WIDTH ROWS BLOCKS ROUNDS\n";
    return 1;
  }
  at::set_num_threads(1);
  const std::int64_t width = std::atoi(argv[1]), rows = std::atoi(argv[2]);
  const int num_blocks = std::atoi(argv[3]), rounds = std::atoi(argv[4]);

  const Blocks plain_blocks = make_blocks(width, num_blocks);
  std::vector<at::Tensor> leaves;
  for (const auto& block : plain_blocks) {
    for (const auto& parameter : block->parameters()) {
      leaves.push_back(at::full(parameter->shape, 1e-2).requires_grad_(true));
      leaves.back().mutable_grad() = at::zeros_like(leaves.back());
      parameter->value = leaves.back();
    }
  }

  const Blocks stored_blocks = make_blocks(width, num_blocks);
  gimbal::StoreSetup setup;
  setup.group_of = [](const gimbal::Parameter&) { return 0; };
  const auto store = gimbal::make_sharded_store(stored_blocks, setup);
  for (auto& shard : store->shards()) shard.values.fill_(1e-2);
  store->values_changed();

  const at::Tensor x = at::full({rows, width}, 1e-1);
  const auto run_plain = [&] {
    const auto nothing = [](auto...) {};
    for (at::Tensor& leaf : leaves) leaf.mutable_grad().zero_();
    run_step(plain_blocks, x, nothing, nothing, nothing);
  };
  const auto run_stored = [&] {
    const std::size_t last = stored_blocks.size() - 1;
    store->begin_step();
    run_step(
        stored_blocks, x,
        [&](std::size_t i, bool backward) {
          if (backward ? i > 0 : i < last) store->prefetch(backward ? i - 1 : i + 1);
          store->open(i, backward);
        },
        [&](std::size_t i) { store->close(i); },
        [&](std::size_t i) { store->finish_micro_batch(i, true); });
    store->finish_reduce();
    store->values_changed();
  };
  std::vector<double> plain, stored, ratios;
  for (int i = -3; i < rounds; ++i) {
    const bool plain_first = i % 2 == 0;
    double seconds[2] = {};
    for (const bool is_plain : {plain_first, !plain_first}) {
      seconds[is_plain ? 0 : 1] = is_plain ? seconds_of(run_plain) : seconds_of(run_stored);
    }
    if (i < 0) continue;
    plain.push_back(seconds[0]);
    stored.push_back(seconds[1]);
    ratios.push_back(seconds[1] / seconds[0]);
  }
  std::cout << "{\"width\": " << width << ", \"rows\": " << rows << ", \"blocks\": " << num_blocks
            << ", \"rounds\": " << rounds << ", \"plain_seconds\": " << median(plain)
            << ", \"store_seconds\": " << median(stored) << ", \"ratio\": " << median(ratios)
            << "}\n";
  return 0;
}
