// What the tests on a GPU share: they are skipped where torch has none.
#pragma once

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <string>

namespace gimbal::gpu_tests {

const inline at::Device kCuda{at::kCUDA, 0};

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::globalContext().hasCUDA()) GTEST_SKIP() << "torch has no CUDA device";
  }
};

inline double eps_of(at::ScalarType dtype) {
  if (dtype == at::kDouble) return 0x1p-52;
  return dtype == at::kFloat ? 0x1p-23 : 0x1p-8;
}

/// |ours - expected| <= c * eps * (1 + |expected|), by norms.
inline void expect_near(const at::Tensor& ours, const at::Tensor& expected, double c, double eps,
                        const std::string& what) {
  ASSERT_TRUE(ours.defined() && expected.defined()) << what;
  ASSERT_EQ(ours.sizes(), expected.sizes()) << what;
  const at::Tensor wide = expected.cpu().to(at::kDouble);
  const double norm = wide.norm().item<double>();
  EXPECT_LE((ours.cpu().to(at::kDouble) - wide).norm().item<double>(), c * eps * (1 + norm))
      << what << ", norm " << norm;
}

/// The same numbers as a leaf on `device` that wants a gradient.
inline at::Tensor leaf_on(const at::Tensor& x, const at::Device& device) {
  return x.detach()
      .to(device, x.scalar_type(), /*non_blocking=*/false, /*copy=*/true)
      .requires_grad_(true);
}

}  // namespace gimbal::gpu_tests
