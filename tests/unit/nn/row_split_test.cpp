#include "gimbal/nn/row_split.h"

#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

using testing::between;
using testing::check_cases;

TEST(RowSplit, IsTheEvenCutInWholeUnits) {
  check_cases(300, [] {
    const auto units = *between<std::int64_t>(0, 200), unit = *between<std::int64_t>(1, 9);
    const int parts = *between(1, 17), own = *between(0, parts);
    const RowSplit split = split_rows(units * unit, parts, own, unit);
    RC_ASSERT(split.parts() == parts);
    RC_ASSERT(split.begin(0) == 0);
    RC_ASSERT(split.total() == units * unit);
    for (int part = 0; part < parts; ++part) {
      RC_ASSERT(split.begin(part) == part * units / parts * unit);
      RC_ASSERT(split.size(part) == units / parts * unit ||
                split.size(part) == (units / parts + 1) * unit);
    }
    RC_ASSERT(split.own_begin() == split.begin(own));
    RC_ASSERT(split.own_size() == split.size(own));
  });
}

TEST(RowSplit, JoinedPartsAreTheCutOverFewer) {
  check_cases(300, [] {
    const auto units = *between<std::int64_t>(0, 100), unit = *between<std::int64_t>(1, 5);
    const int groups = *between(1, 6), factor = *between(1, 6);
    const int own = *between(0, groups * factor);
    const RowSplit split = split_rows(units * unit, groups * factor, own, unit);
    RC_ASSERT(join_parts(split, factor) == split_rows(units * unit, groups, own / factor, unit));
  });
}

TEST(RowSplit, PartsWithinOwnMakeUpTheJoinedPart) {
  check_cases(300, [] {
    const auto total = *between<std::int64_t>(0, 100);
    const int groups = *between(1, 6), factor = *between(1, 6);
    const int own = *between(0, groups * factor);
    const RowSplit split = split_rows(total, groups * factor, own);
    const RowSplit joined = join_parts(split, factor), within = parts_within_own(split, factor);
    RC_ASSERT(within.parts() == factor);
    RC_ASSERT(within.total() == joined.own_size());
    for (int part = 0; part < factor; ++part)
      RC_ASSERT(joined.own_begin() + within.begin(part) == split.begin(joined.own * factor + part));
    RC_ASSERT(joined.own_begin() + within.own_begin() == split.own_begin());
    RC_ASSERT(within.own_size() == split.own_size());
  });
}

TEST(RowSplit, RefusesWhatCannotBeCut) {
  EXPECT_THROW(split_rows(7, 2, 0, 2), InternalError);
  EXPECT_THROW(split_rows(-1, 2, 0), InternalError);
  EXPECT_THROW(split_rows(8, 2, 2), InternalError);
  EXPECT_THROW(split_rows(8, 0, 0), InternalError);
  EXPECT_THROW(join_parts(split_rows(8, 3, 0), 2), InternalError);
  EXPECT_THROW(parts_within_own(split_rows(8, 3, 0), 2), InternalError);
}

}  // namespace
}  // namespace gimbal
