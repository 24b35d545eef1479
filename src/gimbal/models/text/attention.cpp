#include "gimbal/models/text/attention.h"

#include "gimbal/models/mesh_fit.h"
#include "gimbal/nn/attention/attention.h"

namespace gimbal {
namespace {

std::int64_t query_heads_of_rank(const TextConfig& c, const Ports& ports) {
  return ports.linear->units(c.num_heads).own_size();
}

// With key and value heads that do not go evenly onto the tensor-parallel ranks, the heads that the
// query heads of this one use: one, or one for each sequence part's share of them.
std::vector<std::int64_t> kv_heads_in_use(const TextConfig& c, const Ports& ports) {
  const int tp = tensor_parts(ports);
  if (c.num_kv_heads % tp == 0) return {};
  const std::int64_t num_shares = tp % c.num_kv_heads == 0 ? 1 : sequence_parts(ports);
  const RowSplit query_heads = ports.linear->units(c.num_heads);
  std::vector<std::int64_t> heads;
  for (std::int64_t share = 0; share < num_shares; ++share) {
    const std::int64_t query_head =
        query_heads.own_begin() + share * query_heads.own_size() / num_shares;
    heads.push_back(query_head / (c.num_heads / c.num_kv_heads));
  }
  return heads;
}

std::int64_t kv_heads_of_rank(const TextConfig& c, const Ports& ports) {
  const auto some_heads = kv_heads_in_use(c, ports);
  return some_heads.empty() ? c.num_kv_heads / tensor_parts(ports)
                            : static_cast<std::int64_t>(some_heads.size());
}

}  // namespace

std::vector<std::int64_t> sequence_lengths(const PassContext& context) {
  const auto& cu = context.batch.text_cu_seqlens;
  std::vector<std::int64_t> lengths(cu.empty() ? 0 : cu.size() - 1);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = cu[i + 1] - cu[i];
    if (context.cache != nullptr) lengths[i] += context.cache->lengths()[i];
  }
  return lengths;
}

std::int64_t attended_kv_heads(const TextConfig& config, const Ports& ports) {
  return ports.sequence->local_kv_heads(kv_heads_of_rank(config, ports),
                                        query_heads_of_rank(config, ports));
}

TextAttention::TextAttention(ParameterList& list, const std::string& name, const TextConfig& c,
                             std::int64_t layer, std::shared_ptr<const RotaryTable> rotary,
                             const Ports& ports)
    : ports_(ports),
      layer_(layer),
      head_dim_(c.head_dim),
      num_heads_(query_heads_of_rank(c, ports)),
      some_heads_(kv_heads_in_use(c, ports)),
      q_proj_(list, name + ".q_proj", c.width, c.num_heads * c.head_dim, c.qkv_bias,
              c.initializer_range),
      k_proj_(list, name + ".k_proj", c.width, c.num_kv_heads * c.head_dim, c.qkv_bias,
              c.initializer_range),
      v_proj_(list, name + ".v_proj", c.width, c.num_kv_heads * c.head_dim, c.qkv_bias,
              c.initializer_range),
      o_proj_(list, name + ".o_proj", c.num_heads * c.head_dim, c.width, c.output_bias,
              c.initializer_range, ports.linear),
      rotary_(std::move(rotary)) {
  if (!c.qk_norm) return;
  q_norm_.emplace(list, name + ".q_norm", c.head_dim, c.norm_eps);
  k_norm_.emplace(list, name + ".k_norm", c.head_dim, c.norm_eps);
}

at::Tensor TextAttention::operator()(const at::Tensor& x_tD, const PassContext& context) const {
  const SequenceExchange& sequence = *ports_.sequence;
  const Batch& batch = context.batch;
  const RowSplit rows = sequence.split(batch.num_tokens()),
                 part = sequence.sequence_split(batch.num_tokens());
  RotaryAngles angles = rotary_->angles(batch.positions_T, batch.text_cu_seqlens,
                                        sequence_lengths(context), x_tD.scalar_type());
  angles.rows_T = angles.rows_T.narrow(0, part.own_begin(), part.own_size());
  const auto heads = [&](const at::Tensor& x) {
    return x.view({part.own_size(), x.size(1) / head_dim_, head_dim_});
  };
  // Each exchange runs beside the next projection.
  const at::Tensor x_sD = ports_.linear->gather_rows(x_tD, rows);
  at::Tensor q = heads(q_proj_(x_sD));
  if (q_norm_) q = (*q_norm_)(q);
  q = sequence.start_to_heads(rotate(q, angles), part);
  at::Tensor k = heads(project_kv(k_proj_, x_sD));
  if (k_norm_) k = (*k_norm_)(k);
  k = sequence.start_kv_to_heads(rotate(k, angles), part, num_heads_);
  at::Tensor v = heads(project_kv(v_proj_, x_sD));
  v = sequence.start_kv_to_heads(v, part, num_heads_);
  q = sequence.finish(q);
  k = sequence.finish(k);
  v = sequence.finish(v);
  const at::Tensor out_sNH = sequence.to_rows(attend(q, k, v, context), part, num_heads_);
  return o_proj_(out_sNH.reshape({part.own_size(), num_heads_ * head_dim_}), rows);
}

at::Tensor TextAttention::project_kv(const Linear& projection, const at::Tensor& x_sD) const {
  return some_heads_.empty() ? projection(x_sD)
                             : projection.outputs_of_heads(x_sD, some_heads_, head_dim_);
}

at::Tensor TextAttention::attend(const at::Tensor& q_TnH, const at::Tensor& k_TkH,
                                 const at::Tensor& v_TkH, const PassContext& context) const {
  KvCache* cache = context.cache;
  if (cache == nullptr || cache->empty()) {
    if (cache != nullptr) cache->store_prompt(layer_, k_TkH, v_TkH, context.batch.text_cu_seqlens);
    return causal_attention(q_TnH, k_TkH, v_TkH, context.batch.text_cu_seqlens);
  }
  cache->store_next(layer_, k_TkH, v_TkH);
  return decode_attention(q_TnH, cache->keys(layer_), cache->values(layer_),
                          sequence_lengths(context));
}

}  // namespace gimbal
