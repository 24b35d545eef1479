// Finite differences in float64 for autograd operations.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <vector>

namespace gimbal::test {

using TensorFunction = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

/// Gradients of sum(f * fixed random weights) with respect to the inputs.
inline std::vector<at::Tensor> gradients(const TensorFunction& f, std::vector<at::Tensor> inputs,
                                         const at::Tensor& seed) {
  for (at::Tensor& input : inputs) input = input.detach().clone().requires_grad_(true);
  return torch::autograd::grad({f(inputs)}, inputs, {seed});
}

/// Compares autograd in float64 with central differences in some directions. Their error is about
/// step^2.
inline void expect_gradients(const TensorFunction& f, const std::vector<at::Tensor>& inputs) {
  const at::Tensor seed = at::randn(f(inputs).sizes(), at::kDouble);
  const auto analytic = gradients(f, inputs, seed);
  constexpr double kStep = 1e-5;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    for (int repeat = 0; repeat < 3; ++repeat) {
      const at::Tensor direction = at::randn(inputs[i].sizes(), at::kDouble);
      auto plus = inputs, minus = inputs;
      plus[i] = inputs[i] + direction * kStep;
      minus[i] = inputs[i] - direction * kStep;
      const double numeric = ((f(plus) - f(minus)) * seed).sum().item<double>() / (2 * kStep);
      const double expected = (analytic[i] * direction).sum().item<double>();
      EXPECT_NEAR(numeric, expected, 1e-6 * (1 + std::abs(expected))) << "input " << i;
    }
}

/// Norm of the difference relative to the norm of the reference.
inline double relative_error(const at::Tensor& ours, const at::Tensor& reference) {
  return ((ours.to(at::kDouble) - reference).norm() / reference.norm().clamp_min(1e-30))
      .item<double>();
}

/// Values and gradients of the fused loops in `dtype` against the portable float64 path.
inline void expect_same_as_float64(const TensorFunction& f, const std::vector<at::Tensor>& inputs,
                                   at::ScalarType dtype, double tolerance) {
  std::vector<at::Tensor> narrow, wide;
  for (const at::Tensor& input : inputs) {
    narrow.push_back(input.to(dtype));
    wide.push_back(narrow.back().to(at::kDouble));
  }
  const at::Tensor expected = f(wide);
  EXPECT_LE(relative_error(f(narrow), expected), tolerance);
  const at::Tensor seed = at::randn(expected.sizes(), at::kDouble).to(dtype);
  const auto ours = gradients(f, narrow, seed),
             reference = gradients(f, wide, seed.to(at::kDouble));
  for (std::size_t i = 0; i < ours.size(); ++i)
    EXPECT_LE(relative_error(ours[i], reference[i]), tolerance) << "input " << i;
}

}  // namespace gimbal::test
