#include "gimbal/parallel/ports/sequence_exchange.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/sum_dtype.h"

namespace gimbal {

HeadExchange::HeadExchange(Comm& sp, RowSplit rows, std::vector<HeadList> heads,
                           std::int64_t num_heads, std::string name)
    : sp_(sp),
      rows_(std::move(rows)),
      heads_(std::move(heads)),
      head_begins_{0},
      num_heads_(num_heads),
      name_(std::move(name)) {
  GIMBAL_CHECK_EQ(rows_.parts(), sp_.size(), "", name_);
  GIMBAL_CHECK_EQ(rows_.own, sp_.rank(), "", name_);
  GIMBAL_CHECK_EQ(static_cast<int>(heads_.size()), sp_.size(), "", name_);
  std::vector<int> times(static_cast<std::size_t>(num_heads));
  for (const HeadList& list : heads_) {
    runs_.push_back(head_runs(list));
    head_begins_.push_back(head_begins_.back() + static_cast<std::int64_t>(list.size()));
    for (const std::int64_t head : list) ++times[static_cast<std::size_t>(head)];
  }
  each_head_once_ = std::ranges::all_of(times, [](int count) { return count == 1; });
}

HeadMessage HeadExchange::send_rows(const at::Tensor& x_sNH) const {
  GIMBAL_CHECK_EQ(x_sNH.dim(), 3, "", name_);
  GIMBAL_CHECK_EQ(x_sNH.size(0), rows_.own_size(), "", name_);
  GIMBAL_CHECK_EQ(x_sNH.size(1), num_heads_, "", name_);
  const std::int64_t head_dim = x_sNH.size(2);
  const at::Tensor sent =
      at::empty({rows_.own_size() * head_begins_.back() * head_dim}, x_sNH.options());
  for (int part = 0; part < sp_.size(); ++part) {
    const at::Tensor to = block(sent, part, head_dim);
    for (const HeadRun& run : runs_[static_cast<std::size_t>(part)])
      to.narrow(1, run.place, run.count).copy_(x_sNH.narrow(1, run.head, run.count));
  }
  return start(sent, head_dim, /*to_heads=*/true);
}

at::Tensor HeadExchange::arrived_heads(const HeadMessage& message) const {
  return message.received.view({rows_.total(), own_heads(), message.head_dim});
}

HeadMessage HeadExchange::send_heads(const at::Tensor& x_TnH) const {
  GIMBAL_CHECK_EQ(x_TnH.dim(), 3, "", name_);
  GIMBAL_CHECK_EQ(x_TnH.size(0), rows_.total(), "", name_);
  GIMBAL_CHECK_EQ(x_TnH.size(1), own_heads(), "", name_);
  return start(x_TnH.contiguous().view({x_TnH.numel()}), x_TnH.size(2), /*to_heads=*/false);
}

at::Tensor HeadExchange::arrived_rows(const HeadMessage& message) const {
  const std::vector<std::int64_t> shape{rows_.own_size(), num_heads_, message.head_dim};
  const at::TensorOptions options = message.received.options();
  const at::ScalarType dtype = message.received.scalar_type();
  at::Tensor x = each_head_once_ ? at::empty(shape, options)
                                 : at::zeros(shape, options.dtype(sum_dtype(dtype)));
  for (int part = 0; part < sp_.size(); ++part) {
    const at::Tensor from = block(message.received, part, message.head_dim);
    for (const HeadRun& run : runs_[static_cast<std::size_t>(part)]) {
      const at::Tensor values = from.narrow(1, run.place, run.count);
      at::Tensor place = x.narrow(1, run.head, run.count);
      if (each_head_once_)
        place.copy_(values);
      else
        place.add_(values);
    }
  }
  return x.to(dtype);
}

HeadMessage HeadExchange::start(at::Tensor sent, std::int64_t head_dim, bool to_heads) const {
  // Values per rank of [own rows, heads of the rank] and of [rows of the rank, own heads].
  std::vector<std::int64_t> of_rows, of_heads;
  std::int64_t received = 0;
  for (int part = 0; part < sp_.size(); ++part) {
    const auto at = static_cast<std::size_t>(part);
    of_rows.push_back(rows_.own_size() * (head_begins_[at + 1] - head_begins_[at]) * head_dim);
    of_heads.push_back(rows_.size(part) * own_heads() * head_dim);
    received += to_heads ? of_heads.back() : of_rows.back();
  }
  HeadMessage message{
      .work = nullptr, .sent = std::move(sent), .received = {}, .head_dim = head_dim};
  message.received = at::empty({received}, message.sent.options());
  message.work = sp_.all_to_all(message.received, message.sent, to_heads ? of_heads : of_rows,
                                to_heads ? of_rows : of_heads, name_);
  return message;
}

at::Tensor HeadExchange::block(const at::Tensor& message, int part, std::int64_t head_dim) const {
  const auto at = static_cast<std::size_t>(part);
  const std::int64_t heads = head_begins_[at + 1] - head_begins_[at],
                     width = rows_.own_size() * head_dim;
  return message.narrow(0, head_begins_[at] * width, heads * width)
      .view({rows_.own_size(), heads, head_dim});
}

}  // namespace gimbal
