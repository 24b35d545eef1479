// How often a group was used, with how many bytes and for how long this rank waited for it, by kind
// of call. Included by comm_*.cpp only.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/parallel/comm.h"

namespace gimbal {

enum class CallKind {
  kAllReduce,
  kBroadcast,
  kAllGather,
  kReduceScatter,
  kAllToAll,
  kSend,
  kReceive,
  kBarrier
};
inline constexpr std::size_t kNumCallKinds = 8;

/// What a call adds to the counters: bytes that this rank receives, or sends with kSend.
struct CallTraffic {
  CallKind kind = CallKind::kBarrier;
  std::int64_t bytes = 0;
};

struct CallCounter {
  std::int64_t calls = 0;
  std::int64_t bytes = 0;
  std::chrono::steady_clock::duration waited{};
};

/// Of one group. Written by the thread that calls the group.
struct GroupCounters {
  std::string group;
  std::array<CallCounter, kNumCallKinds> by_kind;

  CallCounter& of(CallKind kind) { return by_kind[static_cast<std::size_t>(kind)]; }
  /// Adds an entry for each kind that was called.
  void add_totals(std::vector<CommTotal>& totals) const;
};

}  // namespace gimbal
