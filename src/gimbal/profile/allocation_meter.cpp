#include "gimbal/profile/allocation_meter.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

std::atomic<std::int64_t> g_current_bytes{0};
std::atomic<std::int64_t> g_peak_bytes{0};
c10::DeleterFnPtr g_free_memory = nullptr;  // of the allocator behind ours

/// The size of an allocation is written before its data; as much room as keeps the data aligned.
constexpr std::size_t kHeaderBytes = c10::gAlignment;
static_assert(kHeaderBytes >= sizeof(std::int64_t));

void count_bytes(std::int64_t bytes) {
  const std::int64_t now = g_current_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  std::int64_t peak = g_peak_bytes.load(std::memory_order_relaxed);
  while (now > peak && !g_peak_bytes.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
}

void free_counted(void* data) {
  if (data == nullptr) return;
  char* const begin = static_cast<char*>(data) - kHeaderBytes;
  std::int64_t bytes = 0;
  std::memcpy(&bytes, begin, sizeof bytes);
  count_bytes(-bytes);
  g_free_memory(begin);
}

class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator& behind) : behind_(behind) {
    g_free_memory = behind.raw_deleter();
    GIMBAL_CHECK(g_free_memory != nullptr, "torch's CPU allocator has no raw deleter");
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &free_counted, c10::Device(c10::kCPU)};
    char* const begin = static_cast<char*>(behind_.raw_allocate(bytes + kHeaderBytes));
    const auto size = static_cast<std::int64_t>(bytes);
    std::memcpy(begin, &size, sizeof size);
    count_bytes(size);
    void* const data = begin + kHeaderBytes;
    return {data, data, &free_counted, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_counted; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  c10::Allocator& behind_;
};

void count_cpu_allocations() {
  // Tensors may live until the end of the process, and so must what frees them: never deleted.
  static CountingAllocator* const counting = [] {
    auto* const allocator = new CountingAllocator(*c10::GetCPUAllocator());
    c10::SetCPUAllocator(allocator, /*priority=*/255);
    return allocator;
  }();
  GIMBAL_CHECK(c10::GetCPUAllocator() == counting, "another CPU allocator has been set");
}

c10::CachingDeviceAllocator::DeviceStats device_statistics(const c10::Device& device) {
  return c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
}

constexpr auto kAllPools = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);

}  // namespace

AllocationMeter::AllocationMeter(const c10::Device& device) : device_(device) {
  if (device.is_cpu()) {
    count_cpu_allocations();
    return;
  }
  GIMBAL_USER_CHECK(
      dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type())) != nullptr,
      "this torch keeps no statistics of memory on ", device.str(), "; set train.device=cpu");
}

std::int64_t AllocationMeter::current_bytes() const {
  if (device_.is_cpu()) return g_current_bytes.load(std::memory_order_relaxed);
  return device_statistics(device_).allocated_bytes[kAllPools].current;
}

std::int64_t AllocationMeter::peak_bytes() const {
  if (device_.is_cpu()) return g_peak_bytes.load(std::memory_order_relaxed);
  return device_statistics(device_).allocated_bytes[kAllPools].peak;
}

void AllocationMeter::reset_peak() {
  if (device_.is_cpu()) {
    g_peak_bytes.store(g_current_bytes.load(std::memory_order_relaxed), std::memory_order_relaxed);
    return;
  }
  c10::getDeviceAllocator(device_.type())->resetPeakStats(device_.index());
}

}  // namespace gimbal
