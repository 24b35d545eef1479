// Pieces of a tensor that lie on several ranks or in several files, and where the values of one
// piece are among others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace gimbal {

/// The indices [begin, begin + size) of `dim` of a tensor; dim -1: the whole tensor, as one index.
struct TensorPart {
  int dim = -1;
  std::int64_t begin = 0;
  std::int64_t size = 1;
  bool operator==(const TensorPart&) const = default;
};

/// `numel` values from `begin` on of a part's values in row-major order.
struct TensorPiece {
  TensorPart part;
  std::int64_t begin = 0;
  std::int64_t numel = 0;
  bool operator==(const TensorPiece&) const = default;
};

/// Values that are neighbours in a wanted piece and in one that there is.
struct PieceCopy {
  std::size_t piece;  // that there is
  std::int64_t from;  // first value in it
  std::int64_t to;    // first value in the wanted piece
  std::int64_t numel;
};

/// The number of values of a tensor.
std::int64_t numel_of(const std::vector<std::int64_t>& shape);

/// The pieces that there are of one tensor. They are sorted by place: finding a value takes two
/// binary searches, and no list of runs is kept (a part along an inner dim has very many).
class PieceMap {
 public:
  /// Throws UserError that begins with `where` unless every value of a tensor of `shape` is in
  /// exactly one piece and all parts are along one dim.
  PieceMap(const std::vector<std::int64_t>& shape, const std::vector<TensorPiece>& pieces,
           const std::string& where);

  /// Calls `copy` for the runs of values that make up `wanted`, in order.
  void for_each_copy(const TensorPiece& wanted,
                     const std::function<void(const PieceCopy&)>& copy) const;

 private:
  /// A tensor seen from one dim: values are at (outer * length + index) * inner + rest.
  struct Extents {
    std::int64_t length = 1;
    std::int64_t inner = 1;
  };
  struct PartPieces {
    std::int64_t begin, size;         // indices of the dim
    std::size_t first_piece, pieces;  // in sorted_
  };
  struct SortedPiece {
    std::int64_t begin, numel;
    std::size_t number;
  };

  Extents extents_of(int dim) const;
  void check_pieces(const std::vector<TensorPiece>& pieces, const std::string& where) const;
  void sort_pieces(const std::vector<TensorPiece>& pieces);
  void check_cover(const std::string& where) const;
  void copy_run(std::int64_t global, std::int64_t numel, std::int64_t to,
                const std::function<void(const PieceCopy&)>& copy) const;

  std::vector<std::int64_t> shape_;
  std::int64_t numel_ = 0;
  int dim_ = -1;  // of all parts
  Extents extents_;
  std::vector<PartPieces> parts_;
  std::vector<SortedPiece> sorted_;
};

}  // namespace gimbal
