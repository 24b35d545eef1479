#include "gimbal/parallel/comm_c10d.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"

namespace gimbal {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

/// Who communicates what: the subject of an error message.
struct CommCall {
  std::string collective;
  std::string name;
  int rank;
  int size;
  double timeout_s;
  Clock::time_point begin = Clock::now();

  [[noreturn]] void fail(const std::exception& reason) const {
    throw UserError(concat(collective, " of '", name, "' failed on rank ", rank, " of ", size,
                           " after ", seconds(Clock::now() - begin), " s (timeout ", timeout_s,
                           " s). Another process has most likely stopped or is stuck: look for "
                           "the first error of the other ranks. Reason: ",
                           reason_of(reason)));
  }
};

class C10dWork : public CommWork {
 public:
  C10dWork(CommCall call, c10::intrusive_ptr<c10d::Work> work)
      : call_(std::move(call)), work_(std::move(work)) {}
  void wait() override {
    try {
      work_->wait();
    } catch (const std::exception& e) {
      call_.fail(e);
    }
  }

 private:
  CommCall call_;
  c10::intrusive_ptr<c10d::Work> work_;
};

class C10dComm : public Comm {
 public:
  /// `store` is kept: on rank 0 it serves the others.
  C10dComm(c10::intrusive_ptr<c10d::Store> store, c10::intrusive_ptr<c10d::Backend> backend,
           const at::Device& device, std::chrono::milliseconds timeout)
      : store_(std::move(store)),
        backend_(std::move(backend)),
        device_(device),
        timeout_s_(seconds(timeout)) {}

  int rank() const override { return backend_->getRank(); }
  int size() const override { return backend_->getSize(); }
  at::Device device() const override { return device_; }

  std::unique_ptr<CommWork> all_reduce_sum(at::Tensor tensor, const std::string& name) override {
    check_tensor(tensor, name);
    return start("all_reduce_sum", name, [&] {
      std::vector<at::Tensor> tensors{tensor};
      return backend_->allreduce(tensors);
    });
  }

  std::unique_ptr<CommWork> broadcast(at::Tensor tensor, int root,
                                      const std::string& name) override {
    check_tensor(tensor, name);
    return start("broadcast", name, [&] {
      std::vector<at::Tensor> tensors{tensor};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return backend_->broadcast(tensors, options);
    });
  }

  at::Tensor all_gather(const at::Tensor& tensor, const std::string& name) override {
    check_tensor(tensor, name);
    std::vector<std::int64_t> shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size());
    at::Tensor output = at::empty(shape, tensor.options());
    at::Tensor input = tensor;
    // c10d wants the ranks side by side along an existing dim.
    at::Tensor flat_output = output.view({-1});
    at::Tensor flat_input = input.view({-1});
    start("all_gather", name, [&] {
      return backend_->_allgather_base(flat_output, flat_input);
    })->wait();
    return output;
  }

  void barrier(const std::string& name) override {
    at::Tensor one = at::ones({1}, at::TensorOptions().dtype(at::kFloat).device(device_));
    start("barrier", name, [&] {
      std::vector<at::Tensor> tensors{one};
      return backend_->allreduce(tensors);
    })->wait();
    // With NCCL wait() holds back the stream, not the host: reading the value does.
    GIMBAL_CHECK_EQ(one.item<float>(), static_cast<float>(size()));
  }

 private:
  void check_tensor(const at::Tensor& tensor, const std::string& name) const {
    GIMBAL_CHECK(tensor.is_contiguous(), "'", name, "'");
    GIMBAL_CHECK(tensor.device() == device_, "'", name, "' is on ", tensor.device().str(),
                 ", the group on ", device_.str());
    GIMBAL_CHECK(tensor.numel() > 0, "'", name, "' is empty");
  }

  template <typename Start>
  std::unique_ptr<CommWork> start(const std::string& collective, const std::string& name,
                                  const Start& launch_collective) {
    CommCall call{collective, name, rank(), size(), timeout_s_};
    try {
      auto work = launch_collective();
      return std::make_unique<C10dWork>(std::move(call), std::move(work));
    } catch (const std::exception& e) {
      call.fail(e);
    }
  }

  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  at::Device device_;
  double timeout_s_;
};

}  // namespace

std::unique_ptr<Comm> make_world_comm(const LaunchInfo& launch, const at::Device& device,
                                      std::chrono::milliseconds timeout) {
  if (launch.world_size == 1) return make_single_comm();
  if (device.is_cuda()) check_nccl(launch, device);
  const auto store = meet(launch, timeout);
  const CommSetup setup{launch, store, timeout};
  c10::intrusive_ptr<c10d::Backend> backend;
  try {
    backend = device.is_cuda() ? make_nccl_backend(setup, device) : make_gloo_backend(setup);
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& e) {
    throw UserError(concat("rank ", launch.rank, " of ", launch.world_size,
                           " cannot connect to the other processes within ", seconds(timeout),
                           " s. Several network interfaces? Set GLOO_SOCKET_IFNAME (or "
                           "NCCL_SOCKET_IFNAME). Reason: ",
                           reason_of(e)));
  }
  auto comm = std::make_unique<C10dComm>(store, backend, device, timeout);
  // Rank 0 serves the store: nobody goes on before all are connected.
  comm->barrier("start");
  return comm;
}

}  // namespace gimbal
