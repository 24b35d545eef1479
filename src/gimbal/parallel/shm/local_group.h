// The messages of one group of processes of a machine.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/parallel/shm/local_hub.h"
#include "gimbal/parallel/shm/message_lane.h"

namespace gimbal {

/// Messages of the same kind arrive in the order in which they are sent, on each lane by itself.
enum class LocalLane {
  kMessages,     // between two members
  kCollectives,  // of all, in the order in which all start them
  kSecondPhase   // of collectives whose messages depend on those of the first
};
inline constexpr std::size_t kNumLocalLanes = 3;

struct LocalMessage {
  int peer = 0;  // of the group
  std::byte* data = nullptr;
  std::size_t num_bytes = 0;  // more than none
};

/// A group whose members are processes of one hub. One thread starts and waits for calls.
class LocalGroup {
 public:
  /// Of the shared memory of a group; zeros at first.
  static std::size_t num_bytes(std::size_t num_members);
  /// `members`: numbers in the hub, in the group's order; this process is number `own` of them.
  /// `names`: of the members in error messages.
  LocalGroup(std::shared_ptr<LocalHub> hub, SharedMemory memory, std::vector<std::size_t> members,
             int own, std::vector<std::string> names);
  ~LocalGroup();
  LocalGroup(const LocalGroup&) = delete;
  LocalGroup& operator=(const LocalGroup&) = delete;

  LocalHub& hub() const { return *hub_; }
  int own() const { return own_; }
  int size() const { return static_cast<int>(members_.size()); }

 private:
  friend class LocalHub;
  friend class LocalCall;

  struct Peer {
    std::vector<MessageLane> out, in;  // by LocalLane
    std::size_t num_waiting = 0;       // messages in these lanes
  };

  /// As of LocalHub. All are locked by the caller.
  void advance(bool incoming);
  void advance_peer(std::size_t peer, bool incoming);
  void advance_in(MessageLane& lane, std::size_t peer);
  /// The first message of the lane is through.
  void finish_front(MessageLane& lane, std::size_t peer);
  /// No message of the lane arrives any more: the calls that have one fail.
  void break_lane(MessageLane& lane, const std::string& reason);
  /// A call has no second phase after all: the next one's messages would be taken for its.
  void break_second_phases();
  Doorbell& bell(std::size_t peer) const;
  /// What calls say that come after one that was given up.
  std::string given_up_text(std::size_t peer) const;

  std::shared_ptr<LocalHub> hub_;
  SharedMemory memory_;
  std::vector<std::size_t> members_;
  int own_;
  std::vector<std::string> names_;
  std::vector<Peer> peers_;
};

}  // namespace gimbal
