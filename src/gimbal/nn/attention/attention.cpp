#include "gimbal/nn/attention/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/nn/attention/segment_attention_cpu.h"
#include "gimbal/nn/attention/segment_groups.h"

namespace gimbal {
namespace {

// The CPU's flash kernel runs several times faster in float32 than in bfloat16, whose many small
// products each set up a oneDNN kernel.
bool is_slow_attention_dtype(const at::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kBFloat16;
}

// [G, length, heads, H] of the rows of the segments, zeros behind their ends.
at::Tensor pad_segments(const at::Tensor& x, const SegmentGroup& group) {
  std::vector<at::Tensor> parts;
  for (const auto& segment : group.segments)
    parts.push_back(at::constant_pad_nd(x.narrow(0, segment.begin, segment.length),
                                        {0, 0, 0, 0, 0, group.length - segment.length}));
  return at::stack(parts);
}

// Any device and dtype, by ATen operators with their own gradients.
at::Tensor causal_attention_portable(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const std::vector<SegmentGroup>& groups) {
  std::vector<std::pair<std::int64_t, at::Tensor>> parts;  // first row, result
  for (const SegmentGroup& group : groups) {
    const at::Tensor out = at::scaled_dot_product_attention(pad_segments(q, group).transpose(1, 2),
                                                            pad_segments(k, group).transpose(1, 2),
                                                            pad_segments(v, group).transpose(1, 2),
                                                            {}, 0.0, true, std::nullopt, true)
                               .transpose(1, 2);
    for (std::size_t i = 0; i < group.segments.size(); ++i)
      parts.emplace_back(
          group.segments[i].begin,
          out.select(0, static_cast<std::int64_t>(i)).narrow(0, 0, group.segments[i].length));
  }
  std::sort(parts.begin(), parts.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<at::Tensor> rows;
  for (auto& part : parts) rows.push_back(std::move(part.second));
  return at::cat(rows);
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& q_TNH, const at::Tensor& k_TKH,
                            const at::Tensor& v_TKH, const std::vector<std::int64_t>& cu_seqlens) {
  GIMBAL_CHECK_EQ(cu_seqlens.empty() ? 0 : cu_seqlens.back(), q_TNH.size(0),
                  "segments must cover all rows");
  // Zero rows: a product that keeps all three inputs in the graph.
  if (q_TNH.size(0) == 0) return q_TNH + (k_TKH.sum() + v_TKH.sum()) * 0;
  const std::vector<SegmentGroup> groups = group_segments(cu_seqlens);
  if (is_slow_attention_dtype(q_TNH))
    return segment_attention_cpu(q_TNH.to(at::kFloat), k_TKH.to(at::kFloat), v_TKH.to(at::kFloat),
                                 groups)
        .to(q_TNH.scalar_type());
  if (q_TNH.device().is_cpu()) return segment_attention_cpu(q_TNH, k_TKH, v_TKH, groups);
  return causal_attention_portable(q_TNH, k_TKH, v_TKH, groups);
}

at::Tensor tile_attention(const at::Tensor& q_ISNH, const at::Tensor& k_ISNH,
                          const at::Tensor& v_ISNH) {
  // No tiles, or no heads on this rank: a sum that keeps all three inputs in the graph.
  if (q_ISNH.size(0) == 0 || q_ISNH.size(2) == 0) return q_ISNH + k_ISNH + v_ISNH;
  if (is_slow_attention_dtype(q_ISNH))
    return tile_attention(q_ISNH.to(at::kFloat), k_ISNH.to(at::kFloat), v_ISNH.to(at::kFloat))
        .to(q_ISNH.scalar_type());
  return at::scaled_dot_product_attention(q_ISNH.transpose(1, 2), k_ISNH.transpose(1, 2),
                                          v_ISNH.transpose(1, 2))
      .transpose(1, 2);
}

at::Tensor decode_attention(const at::Tensor& q_BNH, const at::Tensor& keys_BLKH,
                            const at::Tensor& values_BLKH,
                            const std::vector<std::int64_t>& lengths) {
  const std::int64_t longest =
      lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  if (q_BNH.size(0) == 0) return q_BNH;
  const at::Device device = q_BNH.device();
  const at::Tensor places = at::arange(longest, at::TensorOptions(at::kLong).device(device));
  const at::Tensor visible =
      places.unsqueeze(0) < at::tensor(lengths, at::kLong).to(device).unsqueeze(1);
  return at::scaled_dot_product_attention(
             q_BNH.unsqueeze(2), keys_BLKH.narrow(1, 0, longest).transpose(1, 2),
             values_BLKH.narrow(1, 0, longest).transpose(1, 2), visible.unsqueeze(1).unsqueeze(1),
             0.0, false, std::nullopt, true)
      .squeeze(2);
}

}  // namespace gimbal
