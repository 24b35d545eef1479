#include "gimbal/parallel/comm/comm_message_mover.h"

namespace gimbal {
namespace {

class GlooMover : public MessageMover {
 public:
  explicit GlooMover(c10::intrusive_ptr<c10d::Backend> backend)
      : MessageMover(backend->getRank(), backend->getSize()),
        backend_(std::move(backend)),
        num_sent_(static_cast<std::size_t>(size())),
        num_received_(static_cast<std::size_t>(size())) {}

  std::string transport() const override { return "gloo"; }

  StartedCall all_reduce(const at::Tensor& tensor) override {
    return backend_all_reduce(*backend_, tensor);
  }

  StartedCall broadcast(const at::Tensor& tensor, int root) override {
    return backend_broadcast(*backend_, tensor, root);
  }

  StartedCall send(const at::Tensor& tensor, int to) override {
    const int tag = tag_of(num_sent_[static_cast<std::size_t>(to)]++, 0);
    return messages({start_send(tensor, to, tag)});
  }

  StartedCall receive(const at::Tensor& tensor, int from) override {
    const int tag = tag_of(num_received_[static_cast<std::size_t>(from)]++, 0);
    return messages({start_receive(tensor, from, tag)});
  }

 protected:
  StartedCall exchange(const std::vector<at::Tensor>& sent,
                       const std::vector<at::Tensor>& received) override {
    const int tag = tag_of(num_collectives_++, 1);
    std::vector<c10::intrusive_ptr<c10d::Work>> works;
    // Receives first: a message that nobody expects yet waits on its way.
    for (int i = 1; i < size(); ++i) {
      const int from = (rank() + size() - i) % size();
      const at::Tensor& tensor = received[static_cast<std::size_t>(from)];
      if (tensor.numel() > 0) works.push_back(start_receive(tensor, from, tag));
    }
    for (int i = 1; i < size(); ++i) {
      const int to = (rank() + i) % size();
      const at::Tensor& tensor = sent[static_cast<std::size_t>(to)];
      if (tensor.numel() > 0) works.push_back(start_send(tensor, to, tag));
    }
    return messages(std::move(works));
  }

 private:
  /// Messages find each other by tags: even ones count what send and receive move between two
  /// ranks, odd ones the collectives of the group.
  static int tag_of(std::uint32_t count, int odd) {
    return static_cast<int>(count & 0x3fffffff) * 2 + odd;
  }

  static StartedCall messages(std::vector<c10::intrusive_ptr<c10d::Work>> works) {
    StartedCall call;
    call.works = std::move(works);
    call.messages = true;
    return call;
  }

  c10::intrusive_ptr<c10d::Work> start_send(const at::Tensor& tensor, int to, int tag) {
    std::vector<at::Tensor> tensors{tensor};
    return backend_->send(tensors, to, tag);
  }

  c10::intrusive_ptr<c10d::Work> start_receive(const at::Tensor& tensor, int from, int tag) {
    std::vector<at::Tensor> tensors{tensor};
    return backend_->recv(tensors, from, tag);
  }

  c10::intrusive_ptr<c10d::Backend> backend_;
  std::uint32_t num_collectives_ = 0;
  std::vector<std::uint32_t> num_sent_, num_received_;  // by rank
};

}  // namespace

std::unique_ptr<CommMover> make_gloo_mover(c10::intrusive_ptr<c10d::Backend> backend) {
  return std::make_unique<GlooMover>(std::move(backend));
}

}  // namespace gimbal
