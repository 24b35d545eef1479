#include "gimbal/parallel/shm/local_call.h"

#include <algorithm>
#include <stdexcept>

#include "gimbal/base/error.h"

namespace gimbal {

LocalCall::LocalCall(std::shared_ptr<LocalGroup> group, LocalLane lane,
                     const std::vector<LocalMessage>& sent,
                     const std::vector<LocalMessage>& received, Then then)
    : group_(std::move(group)),
      then_(std::move(then)),
      owes_second_phase_(then_ != nullptr),
      open_with_(static_cast<std::size_t>(group_->size())) {
  LocalHub& hub = *group_->hub_;
  const std::lock_guard lock(hub.mutex_);
  try {
    add(lane, sent, received);
    if (num_open_ == 0 && then_) hub.ready_.push_back(this);
    hub.advance(true);
    if (failure_) std::rethrow_exception(failure_);
  } catch (...) {
    drop();
    throw;
  }
  hub.push_in_background();
}

LocalCall::~LocalCall() {
  const std::lock_guard lock(group_->hub_->mutex_);
  if (!is_done()) drop();
}

void LocalCall::add(LocalLane lane, const std::vector<LocalMessage>& sent,
                    const std::vector<LocalMessage>& received) {
  for (const LocalMessage& message : sent) add(lane, message, false);
  for (const LocalMessage& message : received) add(lane, message, true);
}

void LocalCall::add(LocalLane lane, const LocalMessage& message, bool incoming) {
  GIMBAL_CHECK(message.peer >= 0 && message.peer < group_->size() && message.num_bytes > 0,
               "a message of ", message.num_bytes, " bytes with member ", message.peer);
  const auto peer = static_cast<std::size_t>(message.peer);
  LocalGroup::Peer& lanes = group_->peers_[peer];
  MessageLane& chosen = (incoming ? lanes.in : lanes.out)[static_cast<std::size_t>(lane)];
  if (chosen.is_broken()) throw std::runtime_error(group_->given_up_text(peer));
  chosen.add({this, message.data, message.num_bytes});
  ++lanes.num_waiting;
  ++num_open_;
  ++open_with_[peer];
  if (!incoming) ++group_->hub_->num_unsent_;
}

void LocalCall::fail(std::exception_ptr reason) {
  if (!failure_) failure_ = std::move(reason);
}

void LocalCall::drop() {
  LocalHub& hub = *group_->hub_;
  std::erase(hub.ready_, this);
  if (owes_second_phase_) group_->break_second_phases();
  for (std::size_t i = 0; i < group_->peers_.size(); ++i) {
    LocalGroup::Peer& peer = group_->peers_[i];
    const auto drop_from = [&](MessageLane& lane) {
      const std::size_t count = lane.drop(*this);
      if (count > 0) group_->break_lane(lane, group_->given_up_text(i));
      peer.num_waiting -= count;
      return count;
    };
    for (MessageLane& lane : peer.out) hub.num_unsent_ -= drop_from(lane);
    for (MessageLane& lane : peer.in) drop_from(lane);
  }
}

std::string LocalCall::describe_open() const {
  std::string text;
  for (std::size_t peer = 0; peer < open_with_.size(); ++peer) {
    if (open_with_[peer] > 0) text += concat(text.empty() ? "" : ", ", group_->names_[peer]);
  }
  return text;
}

std::string LocalCall::describe_ended() const {
  for (std::size_t peer = 0; peer < open_with_.size(); ++peer) {
    const ProcessWatch& watch = group_->hub_->watches_[group_->members_[peer]];
    if (open_with_[peer] > 0 && watch.has_ended())
      return concat(group_->names_[peer], " has ended (process ", watch.process(), ")");
  }
  return {};
}

}  // namespace gimbal
