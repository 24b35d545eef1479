// The all-to-all of Ulysses in both directions, asynchronous; no gradients. Shapes: s rows of this
// sequence part, T rows of all, N heads, n heads of this part, H head width.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/nn/row_split.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/ports/sequence_heads.h"

namespace gimbal {

/// An exchange under way. Holds both messages alive.
struct HeadMessage {
  std::unique_ptr<CommWork> work;
  at::Tensor sent, received;  // flat
  std::int64_t head_dim = 0;
};

/// Part p of `rows` and the heads heads[p] are rank p's.
class HeadExchange {
 public:
  HeadExchange(Comm& sp, RowSplit rows, std::vector<HeadList> heads, std::int64_t num_heads,
               std::string name);

  /// Sends [s, N, H]; what arrives is [T, n, H] as it lies.
  HeadMessage send_rows(const at::Tensor& x_sNH) const;
  at::Tensor arrived_heads(const HeadMessage& message) const;
  /// The other way and its adjoint: sends [T, n, H]; what arrives gives [s, N, H], with several
  /// copies of a head added up in the order of the ranks, in float32 at least.
  HeadMessage send_heads(const at::Tensor& x_TnH) const;
  at::Tensor arrived_rows(const HeadMessage& message) const;

  std::int64_t own_heads() const { return static_cast<std::int64_t>(own_list().size()); }

 private:
  const HeadList& own_list() const { return heads_[static_cast<std::size_t>(rows_.own)]; }
  HeadMessage start(at::Tensor sent, std::int64_t head_dim, bool to_heads) const;
  // The block of a flat message of own rows that goes to, or comes from, a part: [s, its heads, H].
  at::Tensor block(const at::Tensor& message, int part, std::int64_t head_dim) const;

  Comm& sp_;
  RowSplit rows_;
  std::vector<HeadList> heads_;
  std::vector<std::vector<HeadRun>> runs_;  // of each part's list
  std::vector<std::int64_t> head_begins_;   // of each part in the list of all parts' heads
  std::int64_t num_heads_;
  bool each_head_once_;
  std::string name_;
};

}  // namespace gimbal
