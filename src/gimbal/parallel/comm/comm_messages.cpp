#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>

#include "gimbal/parallel/comm/comm_mover.h"
#include "gimbal/parallel/comm/sum_dtype.h"

namespace gimbal {
namespace {

at::Tensor part_of(const at::Tensor& whole, int part, int num_parts) {
  const std::int64_t numel = whole.numel() / num_parts;
  return whole.view({-1}).narrow(0, part * numel, numel);
}

/// Adds up the parts in the order of the ranks, so that the result does not depend on which rank
/// adds; in float32 where the dtype is shorter. `received`: of the other ranks, in their order.
void add_in_rank_order(const at::Tensor& out, const at::Tensor& own, const at::Tensor& received,
                       int rank) {
  const at::NoGradGuard no_grad;
  const std::int64_t size = received.size(0) + 1;
  const auto part = [&](std::int64_t i) {
    return i == rank ? own : received[i < rank ? i : i - 1];
  };
  at::Tensor sum = part(0).to(sum_dtype(out.scalar_type()));  // the part itself where it may be
  for (std::int64_t i = 1; i + 1 < size; ++i) sum.add_(part(i));
  at::Tensor result = out.view({-1});
  at::add_out(result, sum, part(size - 1));
}

class MessageMover : public CommMover {
 public:
  explicit MessageMover(c10::intrusive_ptr<c10d::Backend> backend)
      : backend_(std::move(backend)),
        rank_(backend_->getRank()),
        size_(backend_->getSize()),
        num_sent_(static_cast<std::size_t>(size_)),
        num_received_(static_cast<std::size_t>(size_)) {}

  StartedCall all_gather(const at::Tensor& out, const at::Tensor& in) override {
    const at::NoGradGuard no_grad;
    const at::Tensor own = part_of(out, rank_, size_);
    if (own.const_data_ptr() != in.const_data_ptr()) own.copy_(in.view({-1}));
    return exchange([&](int) { return in; }, [&](int from) { return part_of(out, from, size_); });
  }

  StartedCall all_gather_rows(const at::Tensor& out, const at::Tensor& in,
                              const std::vector<std::int64_t>& rows) override {
    const at::NoGradGuard no_grad;
    const std::vector<at::Tensor> parts = out.split_with_sizes(rows);
    const auto part = [&](int of) { return parts[static_cast<std::size_t>(of)]; };
    if (part(rank_).const_data_ptr() != in.const_data_ptr()) part(rank_).copy_(in);
    return exchange([&](int) { return in; }, part);
  }

  StartedCall reduce_scatter(const at::Tensor& out, const at::Tensor& in) override {
    const at::NoGradGuard no_grad;
    const at::Tensor received = at::empty({size_ - 1, out.numel()}, out.options());
    StartedCall call = exchange([&](int to) { return part_of(in, to, size_); },
                                [&](int from) { return received[from < rank_ ? from : from - 1]; });
    call.finish = [out, own = part_of(in, rank_, size_), received, rank = rank_] {
      add_in_rank_order(out, own, received, rank);
    };
    return call;
  }

  StartedCall all_to_all(const at::Tensor& out, const at::Tensor& in,
                         const std::vector<std::int64_t>& out_rows,
                         const std::vector<std::int64_t>& in_rows) override {
    const at::NoGradGuard no_grad;
    const std::vector<at::Tensor> outs = out.split_with_sizes(out_rows);
    const std::vector<at::Tensor> ins = in.split_with_sizes(in_rows);
    const auto own = static_cast<std::size_t>(rank_);
    outs[own].copy_(ins[own]);
    return exchange([&](int to) { return ins[static_cast<std::size_t>(to)]; },
                    [&](int from) { return outs[static_cast<std::size_t>(from)]; });
  }

  StartedCall send(const at::Tensor& tensor, int to) override {
    std::vector<at::Tensor> tensors{tensor};
    const int tag = tag_of(num_sent_[static_cast<std::size_t>(to)]++, 0);
    return {{backend_->send(tensors, to, tag)}, true, {}};
  }

  StartedCall receive(const at::Tensor& tensor, int from) override {
    std::vector<at::Tensor> tensors{tensor};
    const int tag = tag_of(num_received_[static_cast<std::size_t>(from)]++, 0);
    return {{backend_->recv(tensors, from, tag)}, true, {}};
  }

 private:
  /// Messages find each other by tags: even ones count what send and receive move between two
  /// ranks, odd ones the collectives of the group.
  static int tag_of(std::uint32_t count, int odd) {
    return static_cast<int>(count & 0x3fffffff) * 2 + odd;
  }

  /// One message to and from every other rank. Both sides know which have no values.
  template <typename Sent, typename Received>
  StartedCall exchange(const Sent& sent, const Received& received) {
    const int tag = tag_of(num_collectives_++, 1);
    StartedCall call;
    call.messages = true;
    // Receives first: a message that nobody expects yet waits on its way.
    for (int i = 1; i < size_; ++i) {
      const int from = (rank_ + size_ - i) % size_;
      std::vector<at::Tensor> tensors{received(from)};
      if (tensors[0].numel() > 0) call.works.push_back(backend_->recv(tensors, from, tag));
    }
    for (int i = 1; i < size_; ++i) {
      const int to = (rank_ + i) % size_;
      std::vector<at::Tensor> tensors{sent(to)};
      if (tensors[0].numel() > 0) call.works.push_back(backend_->send(tensors, to, tag));
    }
    return call;
  }

  c10::intrusive_ptr<c10d::Backend> backend_;
  int rank_;
  int size_;
  std::uint32_t num_collectives_ = 0;
  std::vector<std::uint32_t> num_sent_, num_received_;  // by rank
};

}  // namespace

std::unique_ptr<CommMover> make_message_mover(c10::intrusive_ptr<c10d::Backend> backend) {
  return std::make_unique<MessageMover>(std::move(backend));
}

}  // namespace gimbal
