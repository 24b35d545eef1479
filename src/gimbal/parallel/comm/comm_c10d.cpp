#include "gimbal/parallel/comm/comm_c10d.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <exception>
#include <thread>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/comm/comm_checks.h"
#include "gimbal/parallel/comm/comm_mover.h"
#include "gimbal/parallel/comm/comm_work.h"

namespace gimbal {
namespace {

class C10dComm : public Comm {
 public:
  C10dComm(std::shared_ptr<CommGroup> group, c10::intrusive_ptr<c10d::Backend> backend,
           std::unique_ptr<CommMover> mover)
      : group_(std::move(group)),
        backend_(std::move(backend)),
        device_(group_->state->device),
        mover_(std::move(mover)) {}

  ~C10dComm() override {
    CommState& state = *group_->state;
    if (std::uncaught_exceptions() > 0 && !state.failed.exchange(true) && state.health) {
      // Before the others see that the connections are gone.
      state.health->report_unwinding();
    }
    if (!state.failed && !group_->has_dropped_calls) return;
    // A backend waits for its calls when it is destroyed, up to the timeout, and the error that
    // ends this process would wait with it. It is left to the end of the process.
    backend_->abort();
    mover_.release();
    backend_.release();
  }

  int rank() const override { return group_->rank; }
  int size() const override { return group_->size(); }
  at::Device device() const override { return device_; }
  std::string transport() const override { return mover_->transport(); }

  std::unique_ptr<CommWork> all_reduce_sum(at::Tensor tensor, const std::string& name) override {
    check_comm_tensor(tensor, device_, name);
    check_summable(tensor, name);
    // Each rank sums its part of the values, then all get all parts.
    const CallTraffic traffic{CallKind::kAllReduce, 2 * bytes_of(tensor) * (size() - 1) / size()};
    return start("all_reduce_sum", traffic, name, tensor,
                 [&] { return mover_->all_reduce(tensor); });
  }

  std::unique_ptr<CommWork> broadcast(at::Tensor tensor, int root,
                                      const std::string& name) override {
    check_comm_tensor(tensor, device_, name);
    GIMBAL_CHECK(root >= 0 && root < size(), "root ", root, " of '", name, "'");
    const CallTraffic traffic{CallKind::kBroadcast, rank() == root ? 0 : bytes_of(tensor)};
    return start("broadcast", traffic, name, tensor, [&] {
      // Bytes: Gloo does not know all dtypes.
      const at::NoGradGuard no_grad;
      return mover_->broadcast(tensor.view({-1}).view(at::kByte), root);
    });
  }

  at::Tensor all_gather(const at::Tensor& tensor, const std::string& name) override {
    check_comm_tensor(tensor, device_, name);
    std::vector<std::int64_t> shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size());
    at::Tensor output = at::empty(shape, tensor.options());
    start("all_gather", {CallKind::kAllGather, from_each_other(tensor)}, name, tensor, [&] {
      return mover_->all_gather(output, tensor);
    })->wait();
    return output;
  }

  std::unique_ptr<CommWork> all_gather_into(at::Tensor out, at::Tensor in,
                                            const std::string& name) override {
    check_comm_tensor(out, device_, name);
    check_comm_tensor(in, device_, name);
    check_parts(out, in, rank(), size(), name);
    return start("all_gather_into", {CallKind::kAllGather, from_each_other(in)}, name, in,
                 [&] { return mover_->all_gather(out, in); });
  }

  std::unique_ptr<CommWork> all_gather_rows(at::Tensor out, at::Tensor in,
                                            const std::vector<std::int64_t>& rows_of_ranks,
                                            const std::string& name) override {
    check_comm_tensor(out, device_, name);
    check_comm_tensor(in, device_, name);
    check_all_gather_rows(out, in, rows_of_ranks, rank(), size(), name);
    // Where this rank has no rows others have some.
    const CallTraffic traffic{CallKind::kAllGather, bytes_of(out) - bytes_of(in)};
    return start_always("all_gather_rows", traffic, name, in, [&] {
      return out.numel() > 0 ? mover_->all_gather_rows(out, in, rows_of_ranks) : StartedCall{};
    });
  }

  std::unique_ptr<CommWork> reduce_scatter_sum(at::Tensor out, at::Tensor in,
                                               const std::string& name) override {
    check_comm_tensor(out, device_, name);
    check_comm_tensor(in, device_, name);
    check_summable(in, name);
    check_parts(in, out, rank(), size(), name);
    return start("reduce_scatter_sum", {CallKind::kReduceScatter, from_each_other(out)}, name, in,
                 [&] { return mover_->reduce_scatter(out, in); });
  }

  std::unique_ptr<CommWork> all_to_all(at::Tensor out, at::Tensor in,
                                       const std::vector<std::int64_t>& out_rows,
                                       const std::vector<std::int64_t>& in_rows,
                                       const std::string& name) override {
    check_comm_tensor(out, device_, name);
    check_comm_tensor(in, device_, name);
    check_all_to_all(out, in, out_rows, in_rows, rank(), size(), name);
    // Where this rank has no rows others may have some: there is always a call.
    const std::int64_t rows = out.size(0);
    const std::int64_t others = rows - out_rows[static_cast<std::size_t>(rank())];
    const CallTraffic traffic{CallKind::kAllToAll, rows > 0 ? bytes_of(out) / rows * others : 0};
    return start_always("all_to_all", traffic, name, in,
                        [&] { return mover_->all_to_all(out, in, out_rows, in_rows); });
  }

  std::unique_ptr<CommWork> send(at::Tensor tensor, int to, const std::string& name) override {
    check_comm_tensor(tensor, device_, name);
    check_partner(to, name);
    return start(concat("send to rank ", group_->ranks[static_cast<std::size_t>(to)]),
                 {CallKind::kSend, bytes_of(tensor)}, name, tensor,
                 [&] { return mover_->send(tensor, to); });
  }

  std::unique_ptr<CommWork> receive(at::Tensor tensor, int from, const std::string& name) override {
    check_comm_tensor(tensor, device_, name);
    check_partner(from, name);
    return start(concat("receive from rank ", group_->ranks[static_cast<std::size_t>(from)]),
                 {CallKind::kReceive, bytes_of(tensor)}, name, tensor,
                 [&] { return mover_->receive(tensor, from); });
  }

  void barrier(const std::string& name) override {
    at::Tensor one = at::ones({1}, at::TensorOptions().dtype(at::kFloat).device(device_));
    start("barrier", {CallKind::kBarrier, 0}, name, one, [&] {
      return mover_->all_reduce(one);
    })->wait();
    // With NCCL wait() holds back the stream, not the host: reading the value does.
    GIMBAL_CHECK_EQ(one.item<float>(), static_cast<float>(size()));
  }

 private:
  static std::int64_t bytes_of(const at::Tensor& tensor) {
    return static_cast<std::int64_t>(tensor.nbytes());
  }

  /// Bytes that come in when every other rank sends one `part`.
  std::int64_t from_each_other(const at::Tensor& part) const {
    return bytes_of(part) * (size() - 1);
  }

  void check_partner(int partner, const std::string& name) const {
    GIMBAL_CHECK(partner >= 0 && partner < size() && partner != rank(), "'", name,
                 "' between rank ", rank(), " and ", partner, " of ", size());
  }

  /// Nothing is started for a tensor without values: it has none on the other ranks either.
  std::unique_ptr<CommWork> start(const std::string& collective, CallTraffic traffic,
                                  const std::string& name, const at::Tensor& tensor,
                                  const StartCall& start_call) {
    if (tensor.numel() > 0) return start_always(collective, traffic, name, tensor, start_call);
    return start_always(collective, traffic, name, tensor, [] { return StartedCall{}; });
  }

  std::unique_ptr<CommWork> start_always(const std::string& collective, CallTraffic traffic,
                                         const std::string& name, const at::Tensor& tensor,
                                         const StartCall& start_call) {
    check_thread(name);
    return std::make_unique<C10dWork>(
        group_, FlightCall{collective, name, group_->name, bytes_of(tensor)}, traffic, start_call);
  }

  /// Two threads would start calls in an order of their own on each rank. (On a GPU the threads of
  /// autograd call while their caller waits.)
  void check_thread(const std::string& name) {
    if (thread_ == std::thread::id()) thread_ = std::this_thread::get_id();
    GIMBAL_CHECK(device_.is_cuda() || thread_ == std::this_thread::get_id(), "'", name, "' in ",
                 group_->describe(), " is called by a second thread");
  }

  std::shared_ptr<CommGroup> group_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  at::Device device_;
  std::unique_ptr<CommMover> mover_;
  std::thread::id thread_;
};

}  // namespace

std::unique_ptr<Comm> make_c10d_comm(std::shared_ptr<CommGroup> group,
                                     c10::intrusive_ptr<c10d::Backend> backend,
                                     std::shared_ptr<LocalGroup> local) {
  std::unique_ptr<CommMover> mover = local != nullptr ? make_shared_mover(std::move(local))
                                     : group->state->device.is_cuda() ? make_native_mover(backend)
                                                                      : make_gloo_mover(backend);
  return std::make_unique<C10dComm>(std::move(group), std::move(backend), std::move(mover));
}

}  // namespace gimbal
