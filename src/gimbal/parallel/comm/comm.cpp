#include "gimbal/parallel/comm.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/comm_checks.h"

namespace gimbal {
namespace {

class DoneWork : public CommWork {
 public:
  void wait() override {}
};

/// Keeps what a call sends alive until it is done.
class WorkWithCopies : public CommWork {
 public:
  WorkWithCopies(at::Tensor copies, std::unique_ptr<CommWork> work)
      : copies_(std::move(copies)), work_(std::move(work)) {}
  void wait() override { work_->wait(); }

 private:
  at::Tensor copies_;
  std::unique_ptr<CommWork> work_;
};

class SingleComm : public Comm {
 public:
  explicit SingleComm(const at::Device& device) : device_(device) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  at::Device device() const override { return device_; }
  std::string transport() const override { return "none"; }
  std::unique_ptr<CommWork> all_reduce_sum(at::Tensor, const std::string&) override {
    return std::make_unique<DoneWork>();
  }
  std::unique_ptr<CommWork> broadcast(at::Tensor, int root, const std::string& name) override {
    GIMBAL_CHECK(root == 0, "broadcast '", name, "' in a group of one");
    return std::make_unique<DoneWork>();
  }
  at::Tensor all_gather(const at::Tensor& tensor, const std::string&) override {
    return tensor.unsqueeze(0);
  }
  std::unique_ptr<CommWork> all_gather_into(at::Tensor out, at::Tensor in,
                                            const std::string& name) override {
    return copy_part(out, in, out, in, name);
  }
  std::unique_ptr<CommWork> all_gather_rows(at::Tensor out, at::Tensor in,
                                            const std::vector<std::int64_t>& rows_of_ranks,
                                            const std::string& name) override {
    check_all_gather_rows(out, in, rows_of_ranks, 0, 1, name);
    return copy_part(out, in, out, in, name);
  }
  std::unique_ptr<CommWork> reduce_scatter_sum(at::Tensor out, at::Tensor in,
                                               const std::string& name) override {
    return copy_part(in, out, out, in, name);
  }
  std::unique_ptr<CommWork> all_to_all(at::Tensor out, at::Tensor in,
                                       const std::vector<std::int64_t>& out_rows,
                                       const std::vector<std::int64_t>& in_rows,
                                       const std::string& name) override {
    check_all_to_all(out, in, out_rows, in_rows, 0, 1, name);
    const at::NoGradGuard no_grad;
    out.copy_(in);
    return std::make_unique<DoneWork>();
  }
  std::unique_ptr<CommWork> send(at::Tensor, int to, const std::string& name) override {
    GIMBAL_CHECK(false, "send of '", name, "' to rank ", to, " in a group of one");
  }
  std::unique_ptr<CommWork> receive(at::Tensor, int from, const std::string& name) override {
    GIMBAL_CHECK(false, "receive of '", name, "' from rank ", from, " in a group of one");
  }
  void barrier(const std::string&) override {}

 private:
  static std::unique_ptr<CommWork> copy_part(const at::Tensor& whole, const at::Tensor& part,
                                             const at::Tensor& out, const at::Tensor& in,
                                             const std::string& name) {
    check_parts(whole, part, 0, 1, name);
    const at::NoGradGuard no_grad;
    if (out.const_data_ptr() != in.const_data_ptr()) out.view({-1}).copy_(in.view({-1}));
    return std::make_unique<DoneWork>();
  }

  at::Device device_;
};

}  // namespace

std::unique_ptr<CommWork> Comm::all_gather_rows(at::Tensor out, at::Tensor in,
                                                const std::vector<std::int64_t>& rows_of_ranks,
                                                const std::string& name) {
  check_all_gather_rows(out, in, rows_of_ranks, rank(), size(), name);
  const at::NoGradGuard no_grad;
  std::vector<std::int64_t> shape = in.sizes().vec();
  shape.insert(shape.begin(), size());
  at::Tensor copies = in.unsqueeze(0).expand(shape).contiguous().flatten(0, 1);
  const std::vector<std::int64_t> sent(rows_of_ranks.size(), in.size(0));
  auto work = all_to_all(std::move(out), copies, rows_of_ranks, sent, name);
  return std::make_unique<WorkWithCopies>(std::move(copies), std::move(work));
}

std::unique_ptr<Comm> make_single_comm(const at::Device& device) {
  return std::make_unique<SingleComm>(device);
}

std::vector<std::string> all_gather_bytes(Comm& comm, const std::string& bytes,
                                          const std::string& name) {
  if (comm.size() == 1) return {bytes};
  const at::Tensor length =
      at::full({1}, static_cast<std::int64_t>(bytes.size()), at::kLong).to(comm.device());
  const at::Tensor lengths = comm.all_gather(length, name + " (lengths)").to(at::kCPU);
  const std::int64_t* num_bytes = lengths.const_data_ptr<std::int64_t>();
  const std::int64_t longest = *std::max_element(num_bytes, num_bytes + comm.size());
  std::vector<std::string> result(static_cast<std::size_t>(comm.size()));
  if (longest == 0) return result;

  at::Tensor padded = at::zeros({longest}, at::kByte);
  std::memcpy(padded.mutable_data_ptr<std::uint8_t>(), bytes.data(), bytes.size());
  const at::Tensor gathered = comm.all_gather(padded.to(comm.device()), name).to(at::kCPU);
  const auto* data = reinterpret_cast<const char*>(gathered.const_data_ptr<std::uint8_t>());
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i].assign(data + static_cast<std::int64_t>(i) * longest,
                     static_cast<std::size_t>(num_bytes[i]));
  }
  return result;
}

}  // namespace gimbal
