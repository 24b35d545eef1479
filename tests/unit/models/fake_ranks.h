// Ports that know how things are cut but exchange nothing: for tests of shapes.
#pragma once

#include "gimbal/base/error.h"
#include "gimbal/nn/ports.h"

namespace gimbal::tiny_models {

[[noreturn]] inline void no_exchange() { throw InternalError("these ports exchange nothing"); }

struct CutLinear : LinearComm {
  CutLinear(int num_ranks, int own_rank) : ranks(num_ranks), own(own_rank) {}
  RowSplit units(std::int64_t num_units) const override {
    return split_rows(num_units, ranks, own);
  }
  at::Tensor gather_rows(const at::Tensor&, const RowSplit&) const override { no_exchange(); }
  at::Tensor scatter_sum_rows(const at::Tensor&, const RowSplit&) const override { no_exchange(); }
  at::Tensor sum(const at::Tensor&) const override { no_exchange(); }
  at::Tensor gather_columns(const at::Tensor&, std::int64_t) const override { no_exchange(); }
  int ranks, own;
};

struct CutSequence : SequenceExchange {
  CutSequence(int sequence_ranks, int own_sequence, int tensor_ranks, int own_tensor)
      : sp(sequence_ranks), q(own_sequence), tp(tensor_ranks), t(own_tensor) {}
  RowSplit split(std::int64_t total, std::int64_t unit) const override {
    return split_rows(total, sp * tp, q * tp + t, unit);
  }
  RowSplit sequence_split(std::int64_t total, std::int64_t unit) const override {
    return join_parts(split(total, unit), tp);
  }
  at::Tensor start_to_heads(const at::Tensor&, const RowSplit&) const override { no_exchange(); }
  at::Tensor start_kv_to_heads(const at::Tensor&, const RowSplit&, std::int64_t) const override {
    no_exchange();
  }
  at::Tensor finish(const at::Tensor&) const override { no_exchange(); }
  at::Tensor to_rows(const at::Tensor&, const RowSplit&, std::int64_t) const override {
    no_exchange();
  }
  std::int64_t local_heads(std::int64_t num_heads) const override {
    return split_rows(num_heads, sp, q).own_size();
  }
  std::int64_t local_kv_heads(std::int64_t num_kv_heads, std::int64_t) const override {
    return num_kv_heads % sp == 0 ? num_kv_heads / sp : 1;
  }
  at::Tensor move_rows(const at::Tensor&, const RowSplit&, const RowSplit&) const override {
    no_exchange();
  }
  at::Tensor all_rows(const at::Tensor&, const RowSplit&) const override { no_exchange(); }
  int sp, q, tp, t;
};

/// Rank (q, t) of sp x tp.
inline Ports cut_ports(int sp, int q, int tp, int t) {
  Ports ports = local_ports();
  ports.sequence = std::make_shared<CutSequence>(sp, q, tp, t);
  ports.linear = std::make_shared<CutLinear>(tp, t);
  return ports;
}

}  // namespace gimbal::tiny_models
