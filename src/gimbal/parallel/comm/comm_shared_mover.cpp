#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "gimbal/parallel/comm/comm_message_mover.h"
#include "gimbal/parallel/shm/local_call.h"

namespace gimbal {
namespace {

/// Sums of so few bytes are not cut into parts: every rank gets the values of all.
constexpr std::size_t kSmallSumBytes = 8192;

LocalMessage message_of(const at::Tensor& tensor, int peer) {
  return {peer, static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

class SharedMover : public MessageMover {
 public:
  explicit SharedMover(std::shared_ptr<LocalGroup> group)
      : MessageMover(group->own(), group->size()), group_(std::move(group)) {}

  std::string transport() const override { return "shared memory"; }

  StartedCall all_reduce(const at::Tensor& tensor) override {
    const at::NoGradGuard no_grad;
    const at::Tensor flat = tensor.view({-1});
    if (tensor.nbytes() > kSmallSumBytes && flat.numel() >= size()) return sum_in_parts(flat);
    const at::Tensor received = at::empty({size() - 1, flat.numel()}, flat.options());
    StartedCall call = exchange(std::vector<at::Tensor>(static_cast<std::size_t>(size()), flat),
                                rows_of_others(received));
    call.finish = [flat, received, own = rank()] { add_in_rank_order(flat, flat, received, own); };
    return call;
  }

  StartedCall broadcast(const at::Tensor& tensor, int root) override {
    std::vector<at::Tensor> none(static_cast<std::size_t>(size()),
                                 tensor.view({-1}).narrow(0, 0, 0));
    std::vector<at::Tensor> sent = none, received = none;
    if (rank() == root) {
      sent.assign(sent.size(), tensor);
    } else {
      received[static_cast<std::size_t>(root)] = tensor;
    }
    return exchange(sent, received);
  }

  StartedCall send(const at::Tensor& tensor, int to) override {
    return start(LocalLane::kMessages, {message_of(tensor, to)}, {}, {tensor});
  }

  StartedCall receive(const at::Tensor& tensor, int from) override {
    return start(LocalLane::kMessages, {}, {message_of(tensor, from)}, {tensor});
  }

 protected:
  StartedCall exchange(const std::vector<at::Tensor>& sent,
                       const std::vector<at::Tensor>& received) override {
    std::vector<at::Tensor> alive = sent;
    alive.insert(alive.end(), received.begin(), received.end());
    return start(LocalLane::kCollectives, messages_of(sent), messages_of(received),
                 std::move(alive));
  }

 private:
  std::vector<LocalMessage> messages_of(const std::vector<at::Tensor>& tensors) const {
    std::vector<LocalMessage> messages;
    for (int i = 1; i < size(); ++i) {
      const int peer = (rank() + i) % size();
      const at::Tensor& tensor = tensors[static_cast<std::size_t>(peer)];
      if (tensor.numel() > 0) messages.push_back(message_of(tensor, peer));
    }
    return messages;
  }

  StartedCall start(LocalLane lane, const std::vector<LocalMessage>& sent,
                    const std::vector<LocalMessage>& received, std::vector<at::Tensor> alive,
                    LocalCall::Then then = {}) {
    StartedCall call;
    call.alive = std::move(alive);
    call.local = std::make_shared<LocalCall>(group_, lane, sent, received, std::move(then));
    return call;
  }

  /// Each rank sums its part of the values, then all get all parts.
  StartedCall sum_in_parts(const at::Tensor& flat) {
    const std::vector<at::Tensor> parts = flat.tensor_split(size());
    const at::Tensor own = parts[static_cast<std::size_t>(rank())];
    const at::Tensor received = at::empty({size() - 1, own.numel()}, flat.options());
    const std::vector<LocalMessage> sums_to(
        messages_of(std::vector<at::Tensor>(static_cast<std::size_t>(size()), own)));
    auto then = [own, received, sums_to, sums_from = messages_of(parts),
                 rank = rank()](LocalCall& call) {
      add_in_rank_order(own, own, received, rank);
      call.add(LocalLane::kSecondPhase, sums_to, sums_from);
    };
    return start(LocalLane::kCollectives, messages_of(parts), messages_of(rows_of_others(received)),
                 {flat}, std::move(then));
  }

  std::shared_ptr<LocalGroup> group_;
};

}  // namespace

std::unique_ptr<CommMover> make_shared_mover(std::shared_ptr<LocalGroup> group) {
  return std::make_unique<SharedMover>(std::move(group));
}

}  // namespace gimbal
