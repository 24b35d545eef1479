#include "gimbal/nn/ports.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "gimbal/nn/loss/linear_cross_entropy.h"

namespace gimbal {
namespace {

TEST(LocalPorts, ExchangesReturnTheirInput) {
  const Ports ports = local_ports();
  const at::Tensor x = at::randn({6, 4, 2});
  const SequenceExchange& sequence = *ports.sequence;
  const RowSplit split = sequence.split(6, 3);
  EXPECT_EQ(split, split_rows(6, 1, 0, 3));
  EXPECT_EQ(sequence.sequence_split(6, 3), split);
  for (const at::Tensor& y :
       {sequence.start_to_heads(x, split), sequence.start_kv_to_heads(x, split, 8),
        sequence.finish(x), sequence.to_rows(x, split, 4), sequence.move_rows(x, split, split),
        sequence.all_rows(x, split), ports.linear->gather_rows(x, split),
        ports.linear->scatter_sum_rows(x, split), ports.linear->sum(x),
        ports.linear->gather_columns(x, 2)})
    EXPECT_TRUE(y.is_same(x));
  EXPECT_EQ(sequence.local_heads(7), 7);
  EXPECT_EQ(sequence.local_kv_heads(3, 6), 3);
  EXPECT_EQ(ports.linear->units(9), split_rows(9, 1, 0));
}

struct ValueAndGradients {
  at::Tensor value;
  std::vector<at::Tensor> gradients;
};

template <typename Function>
ValueAndGradients run(const Function& f, std::vector<at::Tensor> inputs, const at::Tensor& seed) {
  for (at::Tensor& input : inputs) input = input.detach().clone().requires_grad_(true);
  const at::Tensor value = f(inputs);
  return {value, torch::autograd::grad({value}, inputs, {seed})};
}

void expect_same_bits(const ValueAndGradients& a, const ValueAndGradients& b) {
  EXPECT_TRUE(a.value.equal(b.value));
  ASSERT_EQ(a.gradients.size(), b.gradients.size());
  for (std::size_t i = 0; i < a.gradients.size(); ++i)
    EXPECT_TRUE(a.gradients[i].equal(b.gradients[i])) << i;
}

TEST(LocalPorts, EmbedIsTheTablesRowsWithoutGradientOfThePadding) {
  const Ports ports = local_ports();
  const at::Tensor table = at::randn({11, 3}), ids = at::randint(11, {40}, at::kLong);
  const at::Tensor seed = at::randn({40, 3});
  for (const std::int64_t padding : {-1, 4}) {
    const auto ours = run(
        [&](const auto& in) { return ports.vocab->embed(in[0], ids, 11, padding); }, {table}, seed);
    expect_same_bits(ours, run([&](const auto& in) { return at::embedding(in[0], ids, padding); },
                               {table}, seed));
    EXPECT_EQ(ours.gradients[0][4].abs().sum().item<float>() == 0, padding == 4);
  }
}

TEST(LocalPorts, CrossEntropyIsThePlainOperation) {
  const Ports ports = local_ports();
  const at::Tensor x = at::randn({9, 5}), w = at::randn({13, 5}), weights = at::rand({9});
  const at::Tensor targets = at::randint(13, {9}, at::kLong), seed = at::randn({});
  expect_same_bits(
      run(
          [&](const auto& in) {
            return ports.vocab->linear_cross_entropy(in[0], in[1], targets, weights, 13, 4);
          },
          {x, w}, seed),
      run([&](const auto& in) { return linear_cross_entropy(in[0], in[1], targets, weights, 4); },
          {x, w}, seed));
}

}  // namespace
}  // namespace gimbal
