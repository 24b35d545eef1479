#include "gimbal/checkpoint/sharded/tensor_pieces.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "unit/balance/check_cases.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;
using testing::message_of;

using Values = std::vector<std::int64_t>;

// The global numbers of a part's values in row-major order, by counting through all of them.
Values part_numbers(const Values& shape, const TensorPart& part) {
  Values numbers;
  for (std::int64_t i = 0; i < numel_of(shape); ++i) {
    std::int64_t inner = 1;
    for (std::size_t d = shape.size(); d-- > static_cast<std::size_t>(part.dim + 1);)
      inner *= shape[d];
    const std::int64_t index =
        part.dim < 0 ? 0 : i / inner % shape[static_cast<std::size_t>(part.dim)];
    if (index >= part.begin && index < part.begin + part.size) numbers.push_back(i);
  }
  return numbers;
}

Values piece_numbers(const Values& shape, const TensorPiece& piece) {
  const Values all = part_numbers(shape, piece.part);
  return {all.begin() + piece.begin, all.begin() + piece.begin + piece.numel};
}

// 0 .. total, cut at random places.
Values random_cuts(std::int64_t total) {
  std::set<std::int64_t> cuts{0, total};
  const int count = *between(0, 5);
  for (int i = 0; i < count; ++i) cuts.insert(*between<std::int64_t>(0, total + 1));
  return {cuts.begin(), cuts.end()};
}

// All pieces of a tensor that is cut along one dim, each part then cut in its flat values.
std::vector<TensorPiece> random_pieces(const Values& shape) {
  std::vector<TensorPiece> pieces;
  const int dim = *between(-1, static_cast<int>(shape.size()));
  const std::int64_t length = dim < 0 ? 1 : shape[static_cast<std::size_t>(dim)];
  const Values parts = random_cuts(length);
  for (std::size_t p = 0; p + 1 < parts.size(); ++p) {
    const TensorPart part{dim, parts[p], parts[p + 1] - parts[p]};
    const Values cuts = random_cuts(numel_of(shape) / length * part.size);
    for (std::size_t c = 0; c + 1 < cuts.size(); ++c)
      pieces.push_back({part, cuts[c], cuts[c + 1] - cuts[c]});
  }
  return pieces;
}

TEST(TensorPieces, PropertyAnyCutIsPutTogetherFromAnyOther) {
  check_cases(400, [] {
    Values shape(static_cast<std::size_t>(*between(0, 4)));
    for (std::int64_t& size : shape) size = *between<std::int64_t>(1, 7);
    std::vector<TensorPiece> saved = random_pieces(shape);
    const auto last = static_cast<std::size_t>(saved.size());
    for (std::size_t i = 0; i < last; ++i)
      std::swap(saved[i], saved[*between<std::size_t>(i, last)]);
    const PieceMap map(shape, saved, "t");
    for (const TensorPiece& wanted : random_pieces(shape)) {
      Values found(static_cast<std::size_t>(wanted.numel), -1);
      std::int64_t next = 0;
      map.for_each_copy(wanted, [&](const PieceCopy& run) {
        RC_ASSERT(run.to == next && run.numel > 0);  // in order, no gap
        next = run.to + run.numel;
        const Values from = piece_numbers(shape, saved[run.piece]);
        for (std::int64_t i = 0; i < run.numel; ++i)
          found.at(static_cast<std::size_t>(run.to + i)) =
              from.at(static_cast<std::size_t>(run.from + i));
      });
      RC_ASSERT(next == wanted.numel);
      RC_ASSERT(found == piece_numbers(shape, wanted));
    }
  });
}

TEST(TensorPieces, PropertyALostOrDoubledPieceIsFound) {
  check_cases(200, [] {
    Values shape(static_cast<std::size_t>(*between(0, 4)));
    for (std::int64_t& size : shape) size = *between<std::int64_t>(1, 7);
    std::vector<TensorPiece> pieces = random_pieces(shape);
    const auto victim = static_cast<std::ptrdiff_t>(*between<std::size_t>(0, pieces.size()));
    if (*between(0, 2) == 0) {
      pieces.erase(pieces.begin() + victim);
    } else {
      pieces.push_back(pieces[static_cast<std::size_t>(victim)]);
    }
    RC_ASSERT_THROWS_AS(PieceMap(shape, pieces, "t"), UserError);
  });
}

TEST(TensorPieces, ARowPartIsOneRunAndAColumnPartOneRunPerRow) {
  const PieceMap whole({4, 6}, {{{}, 0, 24}}, "t");
  const auto runs = [&](const TensorPiece& wanted) {
    std::size_t count = 0;
    whole.for_each_copy(wanted, [&](const PieceCopy&) { ++count; });
    return count;
  };
  EXPECT_EQ(runs({{0, 1, 2}, 0, 12}), 1U);
  EXPECT_EQ(runs({{1, 2, 3}, 0, 12}), 4U);
  EXPECT_EQ(runs({{1, 2, 3}, 4, 0}), 0U);
}

TEST(TensorPieces, ATensorWithoutValuesNeedsNoPieces) {
  const PieceMap map({0, 4}, {}, "t");
  map.for_each_copy({{}, 0, 0}, [](const PieceCopy&) { FAIL(); });
}

TEST(TensorPieces, WhatIsWrongIsNamed) {
  const auto error = [](const std::vector<TensorPiece>& pieces) {
    return message_of<UserError>([&] { PieceMap({4, 6}, pieces, "F: 'w'"); });
  };
  EXPECT_EQ(error({}), "F: 'w': is in no file");
  EXPECT_EQ(error({{{2, 0, 1}, 0, 1}}), "F: 'w': has a piece along dim 2 of 2");
  EXPECT_EQ(error({{{0, 0, 4}, 0, 24}, {{1, 0, 6}, 0, 24}}),
            "F: 'w': has pieces along dim 1 and along dim 0");
  EXPECT_EQ(error({{{0, 3, 2}, 0, 12}}),
            "F: 'w': has a piece of the indices from 3, 2 of them, of 4");
  EXPECT_EQ(error({{{}, 20, 5}}), "F: 'w': has a piece of the values from 20, 5 of them, of 24");
  EXPECT_EQ(error({{{0, 0, 2}, 0, 12}, {{0, 3, 1}, 0, 6}}),
            "F: 'w': has index 2 of dim 0 not at all");
  EXPECT_EQ(error({{{0, 0, 2}, 0, 12}, {{0, 1, 3}, 0, 18}}), "F: 'w': has index 1 of dim 0 twice");
  EXPECT_EQ(error({{{0, 0, 2}, 0, 12}}), "F: 'w': has index 2 of dim 0 not at all");
  EXPECT_EQ(error({{{}, 0, 10}, {{}, 11, 13}}),
            "F: 'w': has value 10 of its part from index 0 not at all");
  EXPECT_EQ(error({{{}, 0, 10}, {{}, 9, 15}}),
            "F: 'w': has value 9 of its part from index 0 twice");
  EXPECT_EQ(error({{{}, 0, 10}}), "F: 'w': has value 10 of its part from index 0 not at all");
}

}  // namespace
}  // namespace gimbal
