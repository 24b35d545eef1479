// A call of a group of processes of one machine.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/parallel/shm/local_group.h"

namespace gimbal {

/// One call under way. What its messages point to must stay alive and untouched until it is done.
class LocalCall {
 public:
  /// What follows once all messages of the first phase are through: may add() more, on
  /// kSecondPhase. Runs while the thread that starts calls starts one or waits.
  using Then = std::function<void(LocalCall&)>;

  /// Starts it. Throws std::runtime_error as LocalHub::wait does.
  LocalCall(std::shared_ptr<LocalGroup> group, LocalLane lane,
            const std::vector<LocalMessage>& sent, const std::vector<LocalMessage>& received,
            Then then = {});
  /// A call that is not done breaks its lanes: the group is of no use after that.
  ~LocalCall();
  LocalCall(const LocalCall&) = delete;
  LocalCall& operator=(const LocalCall&) = delete;

  /// From `then` only.
  void add(LocalLane lane, const std::vector<LocalMessage>& sent,
           const std::vector<LocalMessage>& received);
  LocalGroup& group() const { return *group_; }

 private:
  friend class LocalHub;
  friend class LocalGroup;

  // Locked by the caller.
  bool is_done() const { return num_open_ == 0 && !then_ && !failure_; }
  /// It will not be done; the first reason counts.
  void fail(std::exception_ptr reason);
  void add(LocalLane lane, const LocalMessage& message, bool incoming);
  void drop();
  /// The members that it waits for: "rank 1, rank 3".
  std::string describe_open() const;
  /// "rank 1 has ended (process 4711)" of the first of them whose process has; empty: none.
  std::string describe_ended() const;

  std::shared_ptr<LocalGroup> group_;
  Then then_;
  std::exception_ptr failure_;          // of this call: others go on
  bool owes_second_phase_;              // `then` has not run to its end
  std::size_t num_open_ = 0;            // messages that are not through
  std::vector<std::size_t> open_with_;  // the same by peer
};

}  // namespace gimbal
