#include "gimbal/parallel/ports/vocab_softmax.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;

struct LossAndGradient {
  at::Tensor loss, gradient;
};

LossAndGradient reference(const at::Tensor& logits, const at::Tensor& targets,
                          const at::Tensor& weights) {
  const at::Tensor log_p = at::log_softmax(logits.to(at::kDouble), -1);
  const at::Tensor one_hot = at::zeros_like(log_p).scatter_(1, targets.unsqueeze(1), 1.0);
  const at::Tensor w = weights.to(at::kDouble);
  return {(log_p * one_hot).sum(1).neg().dot(w), (log_p.exp() - one_hot) * w.unsqueeze(1)};
}

// What the ranks compute, one after another; `cuts` are the borders of their vocabularies.
LossAndGradient over_parts(const at::Tensor& logits, const std::vector<std::int64_t>& cuts,
                           const at::Tensor& targets, const at::Tensor& weights) {
  std::vector<at::Tensor> parts, statistics;
  for (std::size_t p = 0; p + 1 < cuts.size(); ++p) {
    parts.push_back(logits.narrow(1, cuts[p], cuts[p + 1] - cuts[p]).clone());
    statistics.push_back(start_softmax(parts[p], targets - cuts[p]));
  }
  const at::Tensor all = at::stack(statistics);
  for (std::size_t p = 0; p < parts.size(); ++p)
    softmax_gradient(parts[p], statistics[p], all, targets - cuts[p], weights);
  return {softmax_loss(all, weights), at::cat(parts, 1)};
}

class VocabSoftmax : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_F(VocabSoftmax, PartsGiveTheLossOfTheWhole) {
  check_cases(200, [] {
    const auto rows = *between<std::int64_t>(1, 6), vocab = *between<std::int64_t>(1, 80);
    std::vector<std::int64_t> cuts{0, vocab};
    const int ranks = *between(1, 5);
    for (int i = 1; i < ranks; ++i) cuts.push_back(*between<std::int64_t>(0, vocab + 1));
    std::ranges::sort(cuts);
    const double scale = *between(1, 30);
    const at::Tensor logits = at::randn({rows, vocab}, at::kDouble) * scale;
    const at::Tensor targets = at::randint(vocab, {rows}, at::kLong), weights = at::rand({rows});
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const at::Tensor x = logits.to(dtype);
      const auto ours = over_parts(x, cuts, targets, weights);
      const auto expected = reference(x, targets, weights);
      // Roundings of the exponentials and of their sums: tens of terms. Losses add the rounding of
      // logits of the given scale.
      const double eps = dtype == at::kFloat ? 1.2e-7 : 2.3e-16;
      RC_ASSERT((ours.gradient - expected.gradient).abs().max().item<double>() < 40 * eps);
      RC_ASSERT(std::abs((ours.loss - expected.loss).item<double>()) <
                40 * eps * static_cast<double>(rows) * (1 + scale));
    }
  });
}

TEST_F(VocabSoftmax, LargeLogitsDoNotOverflow) {
  const at::Tensor logits = at::randn({4, 32}) * 1e4;
  const at::Tensor targets = at::randint(32, {4}, at::kLong), weights = at::rand({4});
  const auto ours = over_parts(logits, {0, 5, 5, 32}, targets, weights);
  const auto expected = reference(logits, targets, weights);
  // 30 roundings of float32 for sums of some 1e4.
  EXPECT_LE((ours.loss - expected.loss).abs().item<double>(),
            30 * 1.2e-7 * expected.loss.abs().item<double>());
  EXPECT_LE((ours.gradient - expected.gradient).abs().max().item<double>(), 30 * 1.2e-7);
}

}  // namespace
}  // namespace gimbal
