#include <ATen/ops/cat.h>
#include <c10/util/accumulate.h>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/sum_dtype.h"
#include "gimbal/parallel/ports.h"
#include "gimbal/parallel/ports/ports_gradient.h"
#include "gimbal/parallel/ports/tensor_rows.h"

namespace gimbal {
namespace {

// Each exchange of rows is the other's gradient.
class TensorLinear : public LinearComm {
 public:
  explicit TensorLinear(Comm& tp) : tp_(tp) {}

  at::Tensor gather_rows(const at::Tensor& x_tD, const RowSplit& split) const override {
    const RowSplit parts = parts_within_own(split, tp_.size());
    return with_gradient(x_tD, gather(parts, "rows for tp"),
                         scatter_sum(parts, "gradients of rows for tp"));
  }

  at::Tensor scatter_sum_rows(const at::Tensor& y_sD, const RowSplit& split) const override {
    const RowSplit parts = parts_within_own(split, tp_.size());
    return with_gradient(y_sD, scatter_sum(parts, "sums of rows for tp"),
                         gather(parts, "gradients of sums of rows for tp"));
  }

  at::Tensor sum(const at::Tensor& x) const override {
    return with_gradient(x, sum_map("sums for tp"), sum_map("gradients of sums for tp"));
  }

  at::Tensor gather_columns(const at::Tensor& x, std::int64_t num_columns) const override {
    RowSplit flat = units(num_columns);
    GIMBAL_CHECK_EQ(x.size(-1), flat.own_size());
    GIMBAL_CHECK(!x.requires_grad(), "columns are gathered without gradient");
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.pop_back();
    const std::int64_t rows = c10::multiply_integers(shape);
    // Each rank's block of columns is contiguous in its message.
    for (std::int64_t& begin : flat.begins) begin *= rows;
    const at::Tensor blocks = gather_part_rows(tp_, x.reshape({-1}), flat, "columns for tp");
    std::vector<at::Tensor> parts;
    for (int part = 0; part < flat.parts(); ++part) {
      shape.push_back(split_rows(num_columns, flat.parts(), part).own_size());
      parts.push_back(blocks.narrow(0, flat.begin(part), flat.size(part)).view(shape));
      shape.pop_back();
    }
    return at::cat(parts, -1);
  }

  RowSplit units(std::int64_t num_units) const override {
    return split_rows(num_units, tp_.size(), tp_.rank());
  }

 private:
  TensorMap gather(const RowSplit& parts, const char* name) const {
    return
        [this, parts, name](const at::Tensor& x) { return gather_part_rows(tp_, x, parts, name); };
  }
  TensorMap scatter_sum(const RowSplit& parts, const char* name) const {
    return [this, parts, name](const at::Tensor& y) { return sum_part_rows(tp_, y, parts, name); };
  }
  TensorMap sum_map(const char* name) const {
    return [this, name](const at::Tensor& x) {
      const at::ScalarType dtype = x.scalar_type();
      at::Tensor sum = x.contiguous().to(sum_dtype(dtype), /*non_blocking=*/false, /*copy=*/true);
      if (sum.numel() > 0) tp_.all_reduce_sum(sum, name)->wait();
      return sum.to(dtype);
    };
  }

  Comm& tp_;
};

}  // namespace

std::shared_ptr<const LinearComm> make_tensor_linear(Comm& tp) {
  return std::make_shared<TensorLinear>(tp);
}

}  // namespace gimbal
