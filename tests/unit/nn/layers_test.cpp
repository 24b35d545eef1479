#include "gimbal/nn/layers.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <functional>

#include "gimbal/nn/ops/rms_norm.h"

namespace gimbal {
namespace {

at::Tensor draw(at::IntArrayRef shape, std::uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed),
                   at::TensorOptions(at::kDouble));
}

void bind_all(const ParameterList& list) {
  std::uint64_t seed = 1;
  for (const ParameterPtr& p : list.all()) p->value = draw(p->shape, seed++).requires_grad_(true);
}

TEST(Linear, OutputsOfHeadsAreTheirColumns) {
  ParameterList list;
  const Linear linear(list, "l", 5, 12, true, 1.0);
  bind_all(list);
  const at::Tensor x = draw({7, 5}, 9), whole = linear(x);
  const std::vector<std::int64_t> heads{2, 0, 2};
  std::vector<at::Tensor> columns;
  for (const std::int64_t head : heads) columns.push_back(whole.narrow(1, head * 3, 3));
  const at::Tensor expected = at::cat(columns, 1), y = linear.outputs_of_heads(x, heads, 3);
  // Sums of five products and a bias in two orders.
  EXPECT_TRUE(y.allclose(expected, 1e-14, 1e-14));
  EXPECT_TRUE(linear.outputs_of_heads(x, {1}, 3).allclose(whole.narrow(1, 3, 3), 1e-14, 1e-14));
  // A head that comes twice adds up both gradients; one that does not come has none.
  y.sum().backward();
  const at::Tensor gradient = list.all()[0]->value.grad(), column_sum = x.sum(0);
  EXPECT_TRUE(gradient[0].allclose(column_sum, 1e-14, 1e-14));
  EXPECT_TRUE(gradient[6].allclose(column_sum * 2, 1e-14, 1e-14));
  EXPECT_FALSE(gradient.narrow(0, 3, 3).any().item<bool>());
  EXPECT_EQ(list.all()[1]->value.grad()[7].item<double>(), 14);
}

// Two ranks of which only this one is asked: what it sums up comes from `other`.
struct PairOfRanks : LinearComm {
  std::function<at::Tensor(const at::Tensor&)> with_other;
  RowSplit units(std::int64_t num_units) const override { return split_rows(num_units, 2, 1); }
  at::Tensor gather_rows(const at::Tensor& x, const RowSplit&) const override { return x; }
  at::Tensor scatter_sum_rows(const at::Tensor& y, const RowSplit& split) const override {
    return with_other(y).narrow(0, split.own_begin(), split.own_size());
  }
  at::Tensor sum(const at::Tensor& x) const override { return with_other(x); }
  at::Tensor gather_columns(const at::Tensor& x, std::int64_t) const override { return x; }
};

TEST(RowLinear, AddsTheBiasOnceToOwnRows) {
  auto ranks = std::make_shared<PairOfRanks>();
  ParameterList list, whole_list;
  const RowLinear linear(list, "l", 6, 4, true, 1.0, ranks);
  const RowLinear whole(whole_list, "l", 6, 4, true, 1.0, local_ports().linear);
  bind_all(whole_list);
  const at::Tensor x = draw({5, 6}, 3), w = whole_list.all()[0]->value;
  list.all()[0]->value = w.narrow(1, 3, 3);
  list.all()[1]->value = whole_list.all()[1]->value;
  ranks->with_other = [&](const at::Tensor& y) {
    return y + at::matmul(x.narrow(1, 0, 3), w.narrow(1, 0, 3).t());
  };
  const RowSplit rows = split_rows(5, 2, 1);
  const at::Tensor expected = whole(x, split_rows(5, 1, 0)).narrow(0, 2, 3);
  EXPECT_TRUE(linear(x.narrow(1, 3, 3), rows).allclose(expected, 1e-14, 1e-14));
}

TEST(RowLinear, OfOneRankIsLinearBitForBit) {
  ParameterList list, row_list;
  const Linear linear(list, "l", 6, 4, true, 1.0);
  const RowLinear row(row_list, "l", 6, 4, true, 1.0, local_ports().linear);
  bind_all(list);
  bind_all(row_list);
  const at::Tensor x = draw({5, 6}, 3);
  EXPECT_TRUE(row(x, split_rows(5, 1, 0)).equal(linear(x)));
}

TEST(SplitRmsNorm, UsesTheMeanOfTheWholeWidth) {
  auto ranks = std::make_shared<PairOfRanks>();
  ParameterList list, whole_list;
  const SplitRmsNorm norm(list, "n", 10, 1e-6, ranks);
  const SplitRmsNorm whole(whole_list, "n", 10, 1e-6, local_ports().linear);
  bind_all(whole_list);
  const at::Tensor x = draw({3, 10}, 4), w = whole_list.all()[0]->value;
  EXPECT_TRUE(whole(x).equal(rms_norm(x, w, 1e-6)));
  list.all()[0]->value = w.narrow(0, 6, 4);
  const at::Tensor other = x.narrow(1, 0, 6);
  ranks->with_other = [&](const at::Tensor& s) { return s + (other * other).sum({-1}, true); };
  EXPECT_TRUE(norm(x.narrow(1, 6, 4)).allclose(whole(x).narrow(1, 6, 4), 1e-14, 1e-14));
}

}  // namespace
}  // namespace gimbal
