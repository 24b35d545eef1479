#include "gimbal/profile/allocation_meter.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <thread>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::int64_t kFloats = 1 << 16;
constexpr std::int64_t kFloatBytes = kFloats * 4;

TEST(AllocationMeter, CountsWhatTensorsHold) {
  AllocationMeter meter(at::kCPU);
  const std::int64_t before = meter.current_bytes();
  meter.reset_peak();
  EXPECT_EQ(meter.peak_bytes(), before);
  {
    const at::Tensor a = at::ones({kFloats});
    EXPECT_EQ(meter.current_bytes() - before, kFloatBytes);
    const at::Tensor view = a.view({2, -1});
    EXPECT_EQ(meter.current_bytes() - before, kFloatBytes) << "a view holds nothing";
    const at::Tensor b = a.clone();
    EXPECT_EQ(meter.current_bytes() - before, 2 * kFloatBytes);
    EXPECT_EQ(b[kFloats - 1].item<float>(), 1);
  }
  EXPECT_EQ(meter.current_bytes(), before);
  EXPECT_GE(meter.peak_bytes() - before, 2 * kFloatBytes);
  meter.reset_peak();
  EXPECT_EQ(meter.peak_bytes(), before);
}

TEST(AllocationMeter, CountsOtherThreadsAndForeignFrees) {
  AllocationMeter meter(at::kCPU);
  const std::int64_t before = meter.current_bytes();
  at::Tensor made;
  std::thread([&] { made = at::ones({kFloats}); }).join();
  EXPECT_EQ(meter.current_bytes() - before, kFloatBytes);
  std::thread([&] { made.reset(); }).join();
  EXPECT_EQ(meter.current_bytes(), before);
}

TEST(AllocationMeter, EmptyAndResizedTensorsAddUp) {
  AllocationMeter meter(at::kCPU);
  const std::int64_t before = meter.current_bytes();
  {
    at::Tensor tensor = at::empty({0});
    EXPECT_EQ(meter.current_bytes(), before);
    tensor.resize_({kFloats});
    EXPECT_EQ(meter.current_bytes() - before, kFloatBytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data_ptr()) % 64, 0U);
  }
  EXPECT_EQ(meter.current_bytes(), before);
}

TEST(AllocationMeter, DeviceWithoutStatisticsIsRefused) {
  EXPECT_THROW(AllocationMeter(c10::Device(at::kMeta)), UserError);
}

}  // namespace
}  // namespace gimbal
