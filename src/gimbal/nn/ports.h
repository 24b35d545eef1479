// What models ask of the ranks that share a pack: abstract, so that model code stays plain code for
// one device. The defaults are local: one rank holds all rows, all heads, all columns.
// Shapes: t rows of this rank, s rows of its sequence part, T rows of the pack, D width, N heads,
// n heads of this rank, H head width, Q loss rows, V vocabulary, v vocabulary rows of this rank.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "gimbal/nn/row_split.h"

namespace gimbal {

/// All calls of the ports are collective over the ranks that share a pack, in the order of the
/// model's code, and have gradients. Rows of a stream between layers are cut over sp x tp ranks:
/// sequence part s has tp neighbouring parts. `split` is that cut, of split().
class SequenceExchange {
 public:
  virtual ~SequenceExchange() = default;
  /// The cut of `total` rows, in whole units.
  virtual RowSplit split(std::int64_t total, std::int64_t unit = 1) const = 0;
  /// The cut over sequence parts alone: what gather_rows of LinearComm gives.
  virtual RowSplit sequence_split(std::int64_t total, std::int64_t unit = 1) const = 0;
  /// Ulysses (Jacobs et al. 2023): [s, N, H] of this sequence part -> [T, n, H], all rows of this
  /// rank's heads (even cut of the heads over the sequence parts; some may have none). Starts the
  /// exchange; finish() below waits, so that the next projection runs meanwhile.
  virtual at::Tensor start_to_heads(const at::Tensor& x_sNH,
                                    const RowSplit& sequence_split) const = 0;
  /// The same for the keys or values of `num_heads` query heads (a multiple of K): each kv head
  /// goes to all parts whose query heads use it. Heads that a part's query heads do not share
  /// evenly arrive more than once: query head i uses kv head i / (n / k) of what arrives, always.
  virtual at::Tensor start_kv_to_heads(const at::Tensor& x_sKH, const RowSplit& sequence_split,
                                       std::int64_t num_heads) const = 0;
  /// The result of what a start_.. has returned: that very tensor, once. It must not be read
  /// before.
  virtual at::Tensor finish(const at::Tensor& x) const = 0;
  /// [T, n, H] -> [s, num_heads, H].
  virtual at::Tensor to_rows(const at::Tensor& x_TnH, const RowSplit& sequence_split,
                             std::int64_t num_heads) const = 0;
  /// How many of `num_heads` query heads, or kv heads, this rank has in attention.
  virtual std::int64_t local_heads(std::int64_t num_heads) const = 0;
  virtual std::int64_t local_kv_heads(std::int64_t num_kv_heads, std::int64_t num_heads) const = 0;
  /// Rows of this rank under the cut `from` -> under the cut `to` (over all sp x tp parts).
  virtual at::Tensor move_rows(const at::Tensor& x_tD, const RowSplit& from,
                               const RowSplit& to) const = 0;
  /// All rows on all parts; the gradient is summed over the parts. For generation.
  virtual at::Tensor all_rows(const at::Tensor& x_tD, const RowSplit& split) const = 0;
};

/// Tensor parallel products with activations cut over rows between them (Korthikanti et al. 2022).
class LinearComm {
 public:
  virtual ~LinearComm() = default;
  /// Before a product with sharded columns: [t, D] -> [s, D]. Backward sums over the ranks and
  /// cuts.
  virtual at::Tensor gather_rows(const at::Tensor& x_tD, const RowSplit& split) const = 0;
  /// After a product with sharded rows: partial sums [s, D] -> [t, D]. Backward gathers.
  virtual at::Tensor scatter_sum_rows(const at::Tensor& y_sD, const RowSplit& split) const = 0;
  /// Sum of every rank's x; the gradient is summed, too. For norms over a sharded width.
  virtual at::Tensor sum(const at::Tensor& x) const = 0;
  /// [.., d] columns of every rank side by side: [.., D]; no gradient. For generation.
  virtual at::Tensor gather_columns(const at::Tensor& x, std::int64_t num_columns) const = 0;
  /// This rank's part of `num_units` heads or columns: begin and size of the even cut.
  virtual RowSplit units(std::int64_t num_units) const = 0;
};

/// Embedding and loss over a vocabulary that is cut over the tensor-parallel ranks.
class VocabReduce {
 public:
  virtual ~VocabReduce() = default;
  /// Rows `ids_s` of the whole table [V, D] of which this rank has rows w_vD: partial [s, D], to be
  /// summed over the ranks (scatter_sum_rows); zeros for the ids of others. padding_id: torch's
  /// padding_idx, -1 for none.
  virtual at::Tensor embed(const at::Tensor& w_vD, const at::Tensor& ids_s, std::int64_t vocab_size,
                           std::int64_t padding_id) const = 0;
  /// As linear_cross_entropy, over the whole vocabulary: the same value on all ranks. The gradient
  /// of x is this rank's part of a sum (gather_rows' backward adds them up).
  virtual at::Tensor linear_cross_entropy(const at::Tensor& x_QD, const at::Tensor& w_vD,
                                          const at::Tensor& targets_Q, const at::Tensor& weights_Q,
                                          std::int64_t vocab_size,
                                          std::int64_t chunk_rows) const = 0;
};

/// Handed to the models' constructors by the composition root.
struct Ports {
  std::shared_ptr<const SequenceExchange> sequence;
  std::shared_ptr<const LinearComm> linear;
  std::shared_ptr<const VocabReduce> vocab;
};

/// One rank has everything: every call returns its input, or the plain operation.
Ports local_ports();

}  // namespace gimbal
