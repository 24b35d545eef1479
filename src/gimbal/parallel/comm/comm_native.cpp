#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "gimbal/parallel/comm/comm_mover.h"

namespace gimbal {
namespace {

class NativeMover : public CommMover {
 public:
  explicit NativeMover(c10::intrusive_ptr<c10d::Backend> backend) : backend_(std::move(backend)) {}

  std::string transport() const override { return "nccl"; }

  StartedCall all_reduce(const at::Tensor& tensor) override {
    return backend_all_reduce(*backend_, tensor);
  }

  StartedCall broadcast(const at::Tensor& tensor, int root) override {
    return backend_broadcast(*backend_, tensor, root);
  }

  StartedCall all_gather(const at::Tensor& out, const at::Tensor& in) override {
    const at::NoGradGuard no_grad;
    at::Tensor flat_out = out.view({-1});
    at::Tensor flat_in = in.view({-1});
    return backend_call(backend_->_allgather_base(flat_out, flat_in));
  }

  /// Uneven parts are padded to the largest on their way.
  StartedCall all_gather_rows(const at::Tensor& out, const at::Tensor& in,
                              const std::vector<std::int64_t>& rows) override {
    const at::NoGradGuard no_grad;
    const std::int64_t largest = *std::ranges::max_element(rows);
    const auto size = static_cast<std::int64_t>(rows.size());
    if (largest * size == out.size(0)) return all_gather(out, in);
    std::vector<std::int64_t> shape = out.sizes().vec();
    shape[0] = largest;
    const at::Tensor padded = at::zeros(shape, in.options());
    padded.narrow(0, 0, in.size(0)).copy_(in);
    shape[0] = largest * size;
    const at::Tensor gathered = at::empty(shape, out.options());
    StartedCall call = all_gather(gathered, padded);
    call.finish = [out, padded, gathered, rows, largest] {
      const at::NoGradGuard no_grad_here;
      const std::vector<at::Tensor> parts = out.split_with_sizes(rows);
      for (std::size_t rank = 0; rank < parts.size(); ++rank) {
        parts[rank].copy_(
            gathered.narrow(0, static_cast<std::int64_t>(rank) * largest, rows[rank]));
      }
    };
    return call;
  }

  StartedCall reduce_scatter(const at::Tensor& out, const at::Tensor& in) override {
    const at::NoGradGuard no_grad;
    at::Tensor flat_out = out.view({-1});
    at::Tensor flat_in = in.view({-1});
    return backend_call(backend_->_reduce_scatter_base(flat_out, flat_in));
  }

  StartedCall all_to_all(const at::Tensor& out, const at::Tensor& in,
                         const std::vector<std::int64_t>& out_rows,
                         const std::vector<std::int64_t>& in_rows) override {
    at::Tensor output = out;
    at::Tensor input = in;
    std::vector<std::int64_t> output_rows = out_rows;
    std::vector<std::int64_t> input_rows = in_rows;
    return backend_call(backend_->alltoall_base(output, input, output_rows, input_rows));
  }

  StartedCall send(const at::Tensor& tensor, int to) override {
    std::vector<at::Tensor> tensors{tensor};
    return backend_call(backend_->send(tensors, to, 0));
  }

  StartedCall receive(const at::Tensor& tensor, int from) override {
    std::vector<at::Tensor> tensors{tensor};
    return backend_call(backend_->recv(tensors, from, 0));
  }

 private:
  c10::intrusive_ptr<c10d::Backend> backend_;
};

}  // namespace

std::unique_ptr<CommMover> make_native_mover(c10::intrusive_ptr<c10d::Backend> backend) {
  return std::make_unique<NativeMover>(std::move(backend));
}

}  // namespace gimbal
