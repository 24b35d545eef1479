#include "gimbal/parallel/comm/comm_message_mover.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>

#include "gimbal/parallel/comm/sum_dtype.h"

namespace gimbal {
namespace {

std::vector<at::Tensor> equal_parts(const at::Tensor& whole, int num_parts) {
  const std::int64_t numel = whole.numel() / num_parts;
  std::vector<at::Tensor> parts;
  for (int part = 0; part < num_parts; ++part)
    parts.push_back(whole.view({-1}).narrow(0, part * numel, numel));
  return parts;
}

}  // namespace

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

std::vector<at::Tensor> MessageMover::rows_of_others(const at::Tensor& room) const {
  std::vector<at::Tensor> rows;
  for (int from = 0; from < size_; ++from)
    rows.push_back(from == rank_ ? at::Tensor() : room[from < rank_ ? from : from - 1]);
  return rows;
}

StartedCall MessageMover::all_gather(const at::Tensor& out, const at::Tensor& in) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> parts = equal_parts(out, size_);
  const at::Tensor& own = parts[static_cast<std::size_t>(rank_)];
  if (own.const_data_ptr() != in.const_data_ptr()) own.copy_(in.view({-1}));
  return exchange(std::vector<at::Tensor>(parts.size(), in), parts);
}

StartedCall MessageMover::all_gather_rows(const at::Tensor& out, const at::Tensor& in,
                                          const std::vector<std::int64_t>& rows) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> parts = out.split_with_sizes(rows);
  const at::Tensor& own = parts[static_cast<std::size_t>(rank_)];
  if (own.const_data_ptr() != in.const_data_ptr()) own.copy_(in);
  return exchange(std::vector<at::Tensor>(parts.size(), in), parts);
}

StartedCall MessageMover::reduce_scatter(const at::Tensor& out, const at::Tensor& in) {
  const at::NoGradGuard no_grad;
  const at::Tensor received = at::empty({size_ - 1, out.numel()}, out.options());
  const std::vector<at::Tensor> parts = equal_parts(in, size_);
  StartedCall call = exchange(parts, rows_of_others(received));
  call.finish = [out, own = parts[static_cast<std::size_t>(rank_)], received, rank = rank_] {
    add_in_rank_order(out, own, received, rank);
  };
  return call;
}

StartedCall MessageMover::all_to_all(const at::Tensor& out, const at::Tensor& in,
                                     const std::vector<std::int64_t>& out_rows,
                                     const std::vector<std::int64_t>& in_rows) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> outs = out.split_with_sizes(out_rows);
  const std::vector<at::Tensor> ins = in.split_with_sizes(in_rows);
  const auto own = static_cast<std::size_t>(rank_);
  outs[own].copy_(ins[own]);
  return exchange(ins, outs);
}

}  // namespace gimbal
