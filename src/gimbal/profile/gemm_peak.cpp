#include "gimbal/profile/gemm_peak.h"

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>

#include "gimbal/base/error.h"
#include "gimbal/nn/ops/gemm.h"

namespace gimbal {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void synchronize(const at::Device& device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

}  // namespace

GemmPeak measure_gemm_peak(at::ScalarType dtype, const at::Device& device, double budget_seconds) {
  constexpr std::int64_t kFirstSize = 256;
  constexpr std::int64_t kLastSize = 8192;
  GIMBAL_CHECK(budget_seconds > 0, "budget ", budget_seconds);
  c10::NoGradGuard no_grad;
  const auto options = at::TensorOptions().dtype(dtype).device(device);
  GemmPeak peak;
  peak.threads = at::get_num_threads();
  const auto begin = Clock::now();
  for (std::int64_t size = kFirstSize; size <= kLastSize; size *= 2) {
    const at::Tensor a = at::full({size, size}, 0.5, options);
    const at::Tensor b = at::full({size, size}, 0.25, options);
    const double flops =
        2.0 * static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size);
    double best_seconds = 0;
    // The first product of a size also chooses and compiles a kernel: the best of three counts.
    for (int i = 0; i < 3; ++i) {
      synchronize(device);
      const auto start = Clock::now();
      const at::Tensor product = gemm_nt(a, b);
      synchronize(device);
      const double seconds = seconds_since(start);
      best_seconds = i == 0 ? seconds : std::min(best_seconds, seconds);
      if (flops / best_seconds > peak.flops_per_second) {
        peak.flops_per_second = flops / best_seconds;
        peak.size = size;
      }
      if (seconds_since(begin) > budget_seconds) return peak;
    }
    // The next size takes eight times as long.
    if (seconds_since(begin) + 8 * best_seconds > budget_seconds) break;
  }
  return peak;
}

}  // namespace gimbal
