#include "gimbal/parallel/comm/call_counters.h"

namespace gimbal {
namespace {

constexpr std::array<const char*, kNumCallKinds> kCallKindNames = {
    "all-reduce", "broadcast", "all-gather", "reduce-scatter",
    "all-to-all", "send",      "receive",    "barrier"};

}  // namespace

void GroupCounters::add_totals(std::vector<CommTotal>& totals) const {
  for (std::size_t kind = 0; kind < kNumCallKinds; ++kind) {
    const CallCounter& counter = by_kind[kind];
    if (counter.calls == 0) continue;
    totals.push_back({group, kCallKindNames[kind], counter.calls, counter.bytes,
                      std::chrono::duration<double>(counter.waited).count()});
  }
}

}  // namespace gimbal
