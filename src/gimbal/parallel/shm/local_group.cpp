#include "gimbal/parallel/shm/local_group.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "gimbal/base/error.h"
#include "gimbal/parallel/shm/local_call.h"

namespace gimbal {
namespace {

constexpr std::size_t kLargestRing = std::size_t{2} << 20;
constexpr std::size_t kSmallestRing = std::size_t{4} << 10;
/// Of all rings of a group; those of more than 147 members have more, where all are used.
constexpr std::size_t kMostRingBytes = std::size_t{256} << 20;
constexpr std::size_t kPageBytes = 4096;

std::size_t num_rings(std::size_t num_members) {
  return num_members * num_members * kNumLocalLanes;
}

std::size_t ring_capacity(std::size_t num_members) {
  return std::clamp(std::bit_floor(kMostRingBytes / num_rings(num_members)), kSmallestRing,
                    kLargestRing);
}

/// The states of all rings lie before their bytes.
std::size_t ring_states_bytes(std::size_t num_members) {
  const std::size_t bytes = num_rings(num_members) * sizeof(ByteRingState);
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

}  // namespace

std::size_t LocalGroup::num_bytes(std::size_t num_members) {
  return ring_states_bytes(num_members) + num_rings(num_members) * ring_capacity(num_members);
}

LocalGroup::LocalGroup(std::shared_ptr<LocalHub> hub, SharedMemory memory,
                       std::vector<std::size_t> members, int own, std::vector<std::string> names)
    : hub_(std::move(hub)),
      memory_(std::move(memory)),
      members_(std::move(members)),
      own_(own),
      names_(std::move(names)),
      peers_(members_.size()) {
  GIMBAL_CHECK(memory_.size() >= num_bytes(members_.size()) && names_.size() == members_.size(),
               "a group of ", members_.size());
  const std::size_t capacity = ring_capacity(members_.size());
  const auto ring = [&](std::size_t from, std::size_t to, std::size_t lane) {
    const std::size_t number = (from * members_.size() + to) * kNumLocalLanes + lane;
    auto* const states = reinterpret_cast<ByteRingState*>(memory_.data());
    std::byte* const bytes = memory_.data() + ring_states_bytes(members_.size());
    return ByteRing(states[number], bytes + number * capacity, capacity);
  };
  const auto me = static_cast<std::size_t>(own_);
  for (std::size_t peer = 0; peer < peers_.size(); ++peer) {
    for (std::size_t lane = 0; lane < kNumLocalLanes; ++lane) {
      peers_[peer].out.emplace_back(ring(me, peer, lane), MessageLane::Direction::kOut);
      peers_[peer].in.emplace_back(ring(peer, me, lane), MessageLane::Direction::kIn);
    }
  }
  const std::lock_guard lock(hub_->mutex_);
  hub_->groups_.push_back(this);
}

LocalGroup::~LocalGroup() {
  const std::lock_guard lock(hub_->mutex_);
  std::erase(hub_->groups_, this);
}

void LocalGroup::advance(bool incoming) {
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    if (peers_[i].num_waiting > 0) advance_peer(i, incoming);
  }
}

void LocalGroup::advance_peer(std::size_t peer, bool incoming) {
  bool tells_other = false;
  for (MessageLane& lane : peers_[peer].out) {
    while (!lane.empty()) {
      const MessageLane::Progress progress = lane.advance();
      tells_other = tells_other || progress.has_moved;
      if (!progress.finished) break;
      --hub_->num_unsent_;
      finish_front(lane, peer);
    }
  }
  // Before what comes in is copied: the other side need not wait for that.
  if (tells_other) bell(peer).ring();
  for (std::size_t i = 0; incoming && i < kNumLocalLanes; ++i) advance_in(peers_[peer].in[i], peer);
}

void LocalGroup::advance_in(MessageLane& lane, std::size_t peer) {
  bool has_moved = false;
  try {
    while (!lane.empty()) {
      const MessageLane::Progress progress = lane.advance();
      has_moved = has_moved || progress.has_moved;
      if (!progress.finished) break;
      finish_front(lane, peer);
    }
  } catch (const std::runtime_error& e) {
    break_lane(lane, concat("what ", names_[peer], " sends is not what is expected: ", e.what()));
  }
  if (has_moved && lane.writer_waits()) bell(peer).ring();
}

void LocalGroup::finish_front(MessageLane& lane, std::size_t peer) {
  LocalCall& call = *lane.front().call;
  lane.pop();
  --peers_[peer].num_waiting;
  --call.open_with_[peer];
  if (--call.num_open_ == 0 && call.then_) hub_->ready_.push_back(&call);
}

void LocalGroup::break_lane(MessageLane& lane, const std::string& reason) {
  lane.break_off();
  for (const LocalTransfer& transfer : lane.transfers())
    transfer.call->fail(std::make_exception_ptr(std::runtime_error(reason)));
}

void LocalGroup::break_second_phases() {
  constexpr auto kLane = static_cast<std::size_t>(LocalLane::kSecondPhase);
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    break_lane(peers_[i].out[kLane], given_up_text(i));
    break_lane(peers_[i].in[kLane], given_up_text(i));
  }
}

Doorbell& LocalGroup::bell(std::size_t peer) const { return hub_->bell(members_[peer]); }

std::string LocalGroup::given_up_text(std::size_t peer) const {
  return "an earlier call with " + names_[peer] + " was given up";
}

}  // namespace gimbal
