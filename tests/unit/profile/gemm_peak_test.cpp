#include "gimbal/profile/gemm_peak.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

TEST(GemmPeak, MeasuresThisProcess) {
  at::set_num_threads(1);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const GemmPeak peak = measure_gemm_peak(dtype, at::kCPU, 0.05);
    EXPECT_EQ(peak.threads, 1);
    EXPECT_GE(peak.size, 256);
    // Between a slow core without vector units and a whole server.
    EXPECT_GT(peak.flops_per_second, 1e7);
    EXPECT_LT(peak.flops_per_second, 1e14);
  }
  EXPECT_THROW(measure_gemm_peak(at::kFloat, at::kCPU, 0), InternalError);
}

}  // namespace
}  // namespace gimbal
