#include "gimbal/checkpoint/sharded/tensor_pieces.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "gimbal/base/error.h"

namespace gimbal {

std::int64_t numel_of(const std::vector<std::int64_t>& shape) {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

PieceMap::PieceMap(const std::vector<std::int64_t>& shape, const std::vector<TensorPiece>& pieces,
                   const std::string& where)
    : shape_(shape), numel_(numel_of(shape)) {
  check_pieces(pieces, where);
  if (!pieces.empty()) dim_ = pieces.front().part.dim;
  extents_ = extents_of(dim_);
  sort_pieces(pieces);
  check_cover(where);
}

PieceMap::Extents PieceMap::extents_of(int dim) const {
  if (dim < 0) return {1, numel_};
  const auto d = static_cast<std::size_t>(dim);
  Extents extents{shape_[d], 1};
  for (std::size_t i = d + 1; i < shape_.size(); ++i) extents.inner *= shape_[i];
  return extents;
}

// Each piece alone. Subtractions instead of sums: the numbers come from a file.
void PieceMap::check_pieces(const std::vector<TensorPiece>& pieces,
                            const std::string& where) const {
  for (const TensorPiece& piece : pieces) {
    const TensorPart& part = piece.part;
    const auto dims = static_cast<int>(shape_.size());
    GIMBAL_USER_CHECK(part.dim >= -1 && part.dim < dims, where, ": has a piece along dim ",
                      part.dim, " of ", dims);
    GIMBAL_USER_CHECK(part.dim == pieces.front().part.dim, where, ": has pieces along dim ",
                      part.dim, " and along dim ", pieces.front().part.dim);
    const Extents extents = extents_of(part.dim);
    GIMBAL_USER_CHECK(part.begin >= 0 && part.size > 0 && part.begin < extents.length &&
                          part.size <= extents.length - part.begin,
                      where, ": has a piece of the indices from ", part.begin, ", ", part.size,
                      " of them, of ", extents.length);
    const std::int64_t part_numel = numel_ / extents.length * part.size;
    GIMBAL_USER_CHECK(piece.begin >= 0 && piece.numel > 0 && piece.begin < part_numel &&
                          piece.numel <= part_numel - piece.begin,
                      where, ": has a piece of the values from ", piece.begin, ", ", piece.numel,
                      " of them, of ", part_numel);
  }
}

void PieceMap::sort_pieces(const std::vector<TensorPiece>& pieces) {
  std::vector<std::size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto place = [&](std::size_t i) {
    return std::tuple(pieces[i].part.begin, pieces[i].part.size, pieces[i].begin);
  };
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return place(a) < place(b); });
  for (const std::size_t i : order) {
    const TensorPart& part = pieces[i].part;
    if (parts_.empty() || parts_.back().begin != part.begin || parts_.back().size != part.size)
      parts_.push_back({part.begin, part.size, sorted_.size(), 0});
    ++parts_.back().pieces;
    sorted_.push_back({pieces[i].begin, pieces[i].numel, i});
  }
}

void PieceMap::check_cover(const std::string& where) const {
  constexpr char kTwice[] = " twice", kMissing[] = " not at all";
  GIMBAL_USER_CHECK(numel_ == 0 || !parts_.empty(), where, ": is in no file");
  std::int64_t index = 0;
  for (const PartPieces& part : parts_) {
    GIMBAL_USER_CHECK(part.begin == index, where, ": has index ", std::min(part.begin, index),
                      " of dim ", dim_, part.begin < index ? kTwice : kMissing);
    index += part.size;
    std::int64_t value = 0;
    for (std::size_t i = part.first_piece; i < part.first_piece + part.pieces; ++i) {
      GIMBAL_USER_CHECK(sorted_[i].begin == value, where, ": has value ",
                        std::min(sorted_[i].begin, value), " of its part from index ", part.begin,
                        sorted_[i].begin < value ? kTwice : kMissing);
      value += sorted_[i].numel;
    }
    GIMBAL_USER_CHECK(value == numel_ / extents_.length * part.size, where, ": has value ", value,
                      " of its part from index ", part.begin, kMissing);
  }
  GIMBAL_USER_CHECK(numel_ == 0 || index == extents_.length, where, ": has index ", index,
                    " of dim ", dim_, kMissing);
}

void PieceMap::for_each_copy(const TensorPiece& wanted,
                             const std::function<void(const PieceCopy&)>& copy) const {
  if (wanted.numel == 0) return;
  const Extents extents = extents_of(wanted.part.dim);
  const std::int64_t width = wanted.part.size * extents.inner;
  const std::int64_t end = wanted.begin + wanted.numel;
  GIMBAL_CHECK(
      wanted.begin >= 0 && width > 0 && end <= numel_ / (extents.length * extents.inner) * width,
      "a piece of ", wanted.numel, " values outside of its part");
  for (std::int64_t at = wanted.begin; at < end;) {
    const std::int64_t outer = at / width, rest = at % width;
    const std::int64_t run = std::min(width - rest, end - at);
    const std::int64_t global = (outer * extents.length + wanted.part.begin) * extents.inner + rest;
    copy_run(global, run, at - wanted.begin, copy);
    at += run;
  }
}

void PieceMap::copy_run(std::int64_t global, std::int64_t numel, std::int64_t to,
                        const std::function<void(const PieceCopy&)>& copy) const {
  const std::int64_t stride = extents_.length * extents_.inner;
  while (numel > 0) {
    const std::int64_t outer = global / stride, rest = global % stride;
    const PartPieces& part = *std::prev(std::upper_bound(
        parts_.begin(), parts_.end(), rest / extents_.inner,
        [](std::int64_t index, const PartPieces& other) { return index < other.begin; }));
    const std::int64_t in_row = rest - part.begin * extents_.inner;
    const std::int64_t local = outer * part.size * extents_.inner + in_row;
    const auto first = sorted_.begin() + static_cast<std::ptrdiff_t>(part.first_piece);
    const SortedPiece& piece = *std::prev(std::upper_bound(
        first, first + static_cast<std::ptrdiff_t>(part.pieces), local,
        [](std::int64_t value, const SortedPiece& other) { return value < other.begin; }));
    const std::int64_t run =
        std::min({numel, part.size * extents_.inner - in_row, piece.begin + piece.numel - local});
    copy({piece.number, local - piece.begin, to, run});
    global += run;
    to += run;
    numel -= run;
  }
}

}  // namespace gimbal
