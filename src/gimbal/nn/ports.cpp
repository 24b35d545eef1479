#include "gimbal/nn/ports.h"

#include <ATen/ops/embedding.h>

#include "gimbal/nn/loss/linear_cross_entropy.h"

namespace gimbal {
namespace {

class LocalSequence : public SequenceExchange {
 public:
  RowSplit split(std::int64_t total, std::int64_t unit) const override {
    return split_rows(total, 1, 0, unit);
  }
  RowSplit sequence_split(std::int64_t total, std::int64_t unit) const override {
    return split_rows(total, 1, 0, unit);
  }
  at::Tensor start_to_heads(const at::Tensor& x_sNH, const RowSplit&) const override {
    return x_sNH;
  }
  at::Tensor start_kv_to_heads(const at::Tensor& x_sKH, const RowSplit&,
                               std::int64_t) const override {
    return x_sKH;
  }
  at::Tensor finish(const at::Tensor& x) const override { return x; }
  at::Tensor to_rows(const at::Tensor& x_TnH, const RowSplit&, std::int64_t) const override {
    return x_TnH;
  }
  std::int64_t local_heads(std::int64_t num_heads) const override { return num_heads; }
  std::int64_t local_kv_heads(std::int64_t num_kv_heads, std::int64_t) const override {
    return num_kv_heads;
  }
  at::Tensor move_rows(const at::Tensor& x_tD, const RowSplit&, const RowSplit&) const override {
    return x_tD;
  }
  at::Tensor all_rows(const at::Tensor& x_tD, const RowSplit&) const override { return x_tD; }
};

class LocalLinear : public LinearComm {
 public:
  at::Tensor gather_rows(const at::Tensor& x_tD, const RowSplit&) const override { return x_tD; }
  at::Tensor scatter_sum_rows(const at::Tensor& y_sD, const RowSplit&) const override {
    return y_sD;
  }
  at::Tensor sum(const at::Tensor& x) const override { return x; }
  at::Tensor gather_columns(const at::Tensor& x, std::int64_t) const override { return x; }
  RowSplit units(std::int64_t num_units) const override { return split_rows(num_units, 1, 0); }
};

class LocalVocab : public VocabReduce {
 public:
  at::Tensor embed(const at::Tensor& w_VD, const at::Tensor& ids_T, std::int64_t,
                   std::int64_t padding_id) const override {
    return at::embedding(w_VD, ids_T, padding_id);
  }
  at::Tensor linear_cross_entropy(const at::Tensor& x_QD, const at::Tensor& w_VD,
                                  const at::Tensor& targets_Q, const at::Tensor& weights_Q,
                                  std::int64_t, std::int64_t chunk_rows) const override {
    return gimbal::linear_cross_entropy(x_QD, w_VD, targets_Q, weights_Q, chunk_rows);
  }
};

}  // namespace

Ports local_ports() {
  return {std::make_shared<LocalSequence>(), std::make_shared<LocalLinear>(),
          std::make_shared<LocalVocab>()};
}

}  // namespace gimbal
