#include "gimbal/nn/attention/segment_attention_cpu.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace gimbal {
namespace {

using Groups = std::vector<SegmentGroup>;

std::size_t row_bytes(const at::Tensor& rows) {
  return static_cast<std::size_t>(rows.size(1) * rows.size(2)) * rows.element_size();
}

// [G, length, heads, H] of the group's rows, zeros behind the ends; a view of the pack when its
// rows already lie so.
at::Tensor gather_group(const at::Tensor& rows, const SegmentGroup& group) {
  const auto num_segments = static_cast<std::int64_t>(group.segments.size());
  const std::vector<std::int64_t> shape{num_segments, group.length, rows.size(1), rows.size(2)};
  if (group.is_contiguous())
    return rows.narrow(0, group.segments.front().begin, num_segments * group.length).view(shape);
  at::Tensor batch = at::empty(shape, rows.options());
  const std::size_t row = row_bytes(rows);
  const auto* source = static_cast<const char*>(rows.data_ptr());
  auto* target = static_cast<char*>(batch.data_ptr());
  for (const auto& segment : group.segments) {
    const std::size_t used = static_cast<std::size_t>(segment.length) * row;
    const std::size_t whole = static_cast<std::size_t>(group.length) * row;
    std::memcpy(target, source + static_cast<std::size_t>(segment.begin) * row, used);
    std::memset(target + used, 0, whole - used);
    target += whole;
  }
  return batch;
}

// The inverse: rows of the batch back to their places in the pack; padding is dropped.
void scatter_group(const at::Tensor& batch_GLNH, const SegmentGroup& group,
                   const at::Tensor& rows) {
  const at::Tensor batch = batch_GLNH.contiguous();
  const std::size_t row = row_bytes(rows);
  const auto* source = static_cast<const char*>(batch.data_ptr());
  auto* target = static_cast<char*>(rows.data_ptr());
  for (const auto& segment : group.segments) {
    std::memcpy(target + static_cast<std::size_t>(segment.begin) * row, source,
                static_cast<std::size_t>(segment.length) * row);
    source += static_cast<std::size_t>(group.length) * row;
  }
}

at::Tensor heads_first(const at::Tensor& batch_GLNH) { return batch_GLNH.transpose(1, 2); }

class SegmentAttentionFunction : public torch::autograd::Function<SegmentAttentionFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q_in,
                            const at::Tensor& k_in, const at::Tensor& v_in,
                            const std::shared_ptr<const Groups>& groups) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor q = q_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
    at::Tensor out = at::empty_like(q);
    torch::autograd::variable_list saved{q, k, v, out};
    for (const SegmentGroup& group : *groups) {
      const auto [result, log_sum] = at::_scaled_dot_product_flash_attention_for_cpu(
          heads_first(gather_group(q, group)), heads_first(gather_group(k, group)),
          heads_first(gather_group(v, group)), 0.0, true);
      scatter_group(heads_first(result), group, out);
      saved.push_back(log_sum);
    }
    context->save_for_backward(saved);
    context->saved_data["groups"] = flatten(*groups);
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3];
    const at::Tensor g = grads[0].contiguous();
    at::Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
    const Groups groups = unflatten(context->saved_data["groups"].toIntVector());
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const SegmentGroup& group = groups[i];
      const auto [gq, gk, gv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          heads_first(gather_group(g, group)), heads_first(gather_group(q, group)),
          heads_first(gather_group(k, group)), heads_first(gather_group(v, group)),
          heads_first(gather_group(out, group)), saved[4 + i], 0.0, true);
      scatter_group(heads_first(gq), group, dq);
      scatter_group(heads_first(gk), group, dk);
      scatter_group(heads_first(gv), group, dv);
    }
    return {dq, dk, dv, at::Tensor()};
  }

 private:
  // Groups as integers, the form in which the context keeps them: per group its count, then begin
  // and length of each segment.
  static std::vector<std::int64_t> flatten(const Groups& groups) {
    std::vector<std::int64_t> numbers;
    for (const SegmentGroup& group : groups) {
      numbers.push_back(static_cast<std::int64_t>(group.segments.size()));
      for (const auto& segment : group.segments)
        numbers.insert(numbers.end(), {segment.begin, segment.length});
    }
    return numbers;
  }

  static Groups unflatten(const std::vector<std::int64_t>& numbers) {
    Groups groups;
    for (std::size_t at = 0; at < numbers.size();) {
      SegmentGroup& group = groups.emplace_back();
      for (std::int64_t left = numbers[at++]; left > 0; --left, at += 2) {
        group.segments.push_back({numbers[at], numbers[at + 1]});
        group.length = std::max(group.length, numbers[at + 1]);
      }
    }
    return groups;
  }
};

}  // namespace

at::Tensor segment_attention_cpu(const at::Tensor& q_TNH, const at::Tensor& k_TKH,
                                 const at::Tensor& v_TKH, const std::vector<SegmentGroup>& groups) {
  return SegmentAttentionFunction::apply(q_TNH, k_TKH, v_TKH,
                                         std::make_shared<const Groups>(groups));
}

}  // namespace gimbal
