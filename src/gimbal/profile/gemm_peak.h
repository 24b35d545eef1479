// This process' matrix product peak: what the achieved FLOP/s are compared with.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gimbal {

struct GemmPeak {
  double flops_per_second = 0;
  std::int64_t size = 0;  // of the square matrices
  int threads = 0;        // of this process (CPU)
};

/// The best rate of gemm_nt (the products that the layers use) among repeated square products of
/// growing size with the threads set by at::set_num_threads. Takes about `budget_seconds`, at least
/// one product of each size tried. Synchronises the device.
GemmPeak measure_gemm_peak(at::ScalarType dtype, const at::Device& device,
                           double budget_seconds = 0.1);

}  // namespace gimbal
