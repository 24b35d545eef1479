// What the groups of one launch share. Included by comm_*.cpp only.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gimbal/parallel/comm/call_counters.h"
#include "gimbal/parallel/comm/comm_c10d.h"
#include "gimbal/parallel/comm/comm_health.h"
#include "gimbal/parallel/comm/comm_local.h"
#include "gimbal/parallel/comm/flight_record.h"
#include "gimbal/parallel/launch.h"

namespace gimbal {

/// The message that the process waits for, so that another thread can end the wait.
struct MessageWait {
  std::mutex mutex;
  c10::intrusive_ptr<c10d::Work> work;
  std::atomic<bool> interrupted = false;

  /// Waits here end, now and in future.
  void interrupt();
};

struct CommState {
  LaunchInfo launch;
  at::Device device{at::kCPU};
  std::chrono::milliseconds timeout{};
  std::string host;
  std::string coordinates;
  /// Where the processes meet: on rank 0 it serves the others.
  c10::intrusive_ptr<c10d::Store> store;
  GlooTransports transports;
  LocalMachine machine;
  std::shared_ptr<FlightRecord> record = std::make_shared<FlightRecord>();
  std::vector<std::shared_ptr<const GroupCounters>> counters;  // of all groups, also those gone
  std::shared_ptr<MessageWait> waiting = std::make_shared<MessageWait>();
  std::unique_ptr<Health> health;  // none for a single process
  /// A collective has failed: groups are not taken down in an orderly way any more.
  std::atomic<bool> failed = false;

  /// "rank 1 of 4 (pp 1; host node7)".
  std::string describe_rank() const;
};

/// One group, as its calls see it.
struct CommGroup {
  std::shared_ptr<CommState> state;
  std::string name;
  std::vector<int> ranks;  // of the launch
  int rank = 0;            // place in `ranks`
  std::shared_ptr<GroupCounters> counters;
  /// A call was dropped without wait(): the backend may still be busy with it.
  bool has_dropped_calls = false;

  int size() const { return static_cast<int>(ranks.size()); }
  /// Of what its ranks tell each other through the store; no other group has it.
  std::string store_prefix() const;
  /// "group tp of ranks 0, 1".
  std::string describe() const;
};

}  // namespace gimbal
