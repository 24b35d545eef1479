#include "gimbal/parallel/ports/tensor_rows.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/sum_dtype.h"

namespace gimbal {
namespace {

at::Tensor empty_part_rows(const at::Tensor& like, std::int64_t rows) {
  std::vector<std::int64_t> shape = like.sizes().vec();
  shape[0] = rows;
  return at::empty(shape, like.options());
}

std::vector<std::int64_t> row_counts(const RowSplit& split) {
  std::vector<std::int64_t> sizes;
  for (int part = 0; part < split.parts(); ++part) sizes.push_back(split.size(part));
  return sizes;
}

void check_row_split(const Comm& ranks, const RowSplit& split, const std::string& name) {
  GIMBAL_CHECK_EQ(split.parts(), ranks.size(), "", name);
  GIMBAL_CHECK_EQ(split.own, ranks.rank(), "", name);
}

// How many rows the part `a` of one cut and the part `b` of the other have in common.
std::int64_t shared_rows(const RowSplit& from, int a, const RowSplit& to, int b) {
  const std::int64_t begin = std::max(from.begin(a), to.begin(b)),
                     end = std::min(from.begin(a + 1), to.begin(b + 1));
  return std::max<std::int64_t>(end - begin, 0);
}

}  // namespace

at::Tensor gather_part_rows(Comm& ranks, const at::Tensor& own, const RowSplit& split,
                            const std::string& name) {
  check_row_split(ranks, split, name);
  GIMBAL_CHECK_EQ(own.size(0), split.own_size(), "", name);
  at::Tensor all = empty_part_rows(own, split.total());
  if (all.numel() == 0) return all;
  ranks.all_gather_rows(all, own.contiguous(), row_counts(split), name)->wait();
  return all;
}

at::Tensor sum_part_rows(Comm& ranks, const at::Tensor& all, const RowSplit& split,
                         const std::string& name) {
  check_row_split(ranks, split, name);
  GIMBAL_CHECK_EQ(all.size(0), split.total(), "", name);
  const std::int64_t rows = split.own_size();
  if (all.numel() == 0) return empty_part_rows(all, rows);
  const at::Tensor parts = empty_part_rows(all, rows * ranks.size());
  const std::vector<std::int64_t> received(static_cast<std::size_t>(ranks.size()), rows);
  ranks.all_to_all(parts, all.contiguous(), received, row_counts(split), name)->wait();
  const at::ScalarType dtype = all.scalar_type();
  // A copy: a view would keep the other parts alive.
  at::Tensor sum = parts.narrow(0, 0, rows)
                       .to(sum_dtype(dtype), /*non_blocking=*/false,
                           /*copy=*/true);
  for (int rank = 1; rank < ranks.size(); ++rank) sum.add_(parts.narrow(0, rank * rows, rows));
  return sum.to(dtype);
}

at::Tensor move_part_rows(Comm& ranks, const at::Tensor& own, const RowSplit& from,
                          const RowSplit& to, const std::string& name) {
  check_row_split(ranks, from, name);
  check_row_split(ranks, to, name);
  GIMBAL_CHECK_EQ(from.total(), to.total(), "", name);
  GIMBAL_CHECK_EQ(own.size(0), from.own_size(), "", name);
  at::Tensor moved = empty_part_rows(own, to.own_size());
  if (from.total() == 0) return moved;
  std::vector<std::int64_t> sent, received;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    sent.push_back(shared_rows(from, from.own, to, rank));
    received.push_back(shared_rows(from, rank, to, to.own));
  }
  // Parts lie in the order of the ranks under both cuts: nothing has to be packed.
  ranks.all_to_all(moved, own.contiguous(), received, sent, name)->wait();
  return moved;
}

}  // namespace gimbal
