// What the processes of one machine share: a doorbell for each, and who waits for whom.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "gimbal/parallel/shm/doorbell.h"
#include "gimbal/parallel/shm/process_watch.h"
#include "gimbal/parallel/shm/shared_memory.h"

namespace gimbal {

class LocalCall;
class LocalGroup;

/// One of a process: whoever waits for a call of one group moves the messages of all groups, so
/// that no process waits for one that waits for it. Messages move while their process starts a call
/// or waits for one. What does not fit into its ring when a call is started is moved by a thread of
/// the hub while the process computes; what comes in then stays in the rings.
class LocalHub {
 public:
  /// In the shared memory of the hub; zeros at first.
  static std::size_t num_bytes(std::size_t num_processes) {
    return num_processes * sizeof(Doorbell);
  }
  /// `processes`: of this machine, in the same order everywhere; this one is number `own`.
  LocalHub(SharedMemory bells, const std::vector<pid_t>& processes, std::size_t own);
  ~LocalHub();
  LocalHub(const LocalHub&) = delete;
  LocalHub& operator=(const LocalHub&) = delete;

  /// Returns when all messages of the call are through. Throws std::runtime_error when `timeout`
  /// has passed, a process that it waits for has ended, the messages do not fit each other, and
  /// soon after `interrupted` has become true.
  void wait(LocalCall& call, std::chrono::milliseconds timeout,
            const std::atomic<bool>& interrupted);

  /// While it lives, the thread that starts and waits for calls does neither, but waits for
  /// something that other processes do: the hub's thread does all that wait() would do.
  class Away {
   public:
    explicit Away(LocalHub& hub);
    ~Away();
    Away(const Away&) = delete;
    Away& operator=(const Away&) = delete;

   private:
    LocalHub& hub_;
  };

 private:
  friend class LocalGroup;
  friend class LocalCall;

  Doorbell& bell(std::size_t process) const {
    return reinterpret_cast<Doorbell*>(bells_.data())[process];
  }
  /// Moves what can be moved, of all groups. Locked by the caller, as below.
  void advance(bool incoming);
  /// Leaves what does not fit into the rings yet to the thread.
  void push_in_background();
  void run_pusher();

  SharedMemory bells_;
  std::vector<ProcessWatch> watches_;
  std::size_t own_;
  bool may_spin_;

  std::mutex mutex_;
  std::vector<LocalGroup*> groups_;
  std::deque<LocalCall*> ready_;  // whose second phase begins
  std::size_t num_unsent_ = 0;    // messages that are not in their rings
  bool is_waiting_ = false;       // wait() moves messages
  bool is_away_ = false;          // the thread moves all messages
  bool ends_ = false;
  std::condition_variable changed_;
  std::thread pusher_;  // last: it uses the others
};

}  // namespace gimbal
