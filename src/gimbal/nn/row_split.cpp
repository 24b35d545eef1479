#include "gimbal/nn/row_split.h"

#include "gimbal/base/error.h"

namespace gimbal {

RowSplit split_rows(std::int64_t total, int parts, int own, std::int64_t unit) {
  GIMBAL_CHECK(parts >= 1 && own >= 0 && own < parts, "part ", own, " of ", parts);
  GIMBAL_CHECK(unit >= 1 && total >= 0 && total % unit == 0, "", total, " rows in units of ", unit);
  RowSplit split;
  split.own = own;
  const std::int64_t units = total / unit;
  for (int part = 0; part <= parts; ++part) split.begins.push_back(part * units / parts * unit);
  return split;
}

RowSplit join_parts(const RowSplit& split, int factor) {
  GIMBAL_CHECK(factor >= 1 && split.parts() % factor == 0, "", split.parts(), " parts joined by ",
               factor);
  RowSplit joined;
  joined.own = split.own / factor;
  for (int part = 0; part <= split.parts(); part += factor)
    joined.begins.push_back(split.begin(part));
  return joined;
}

RowSplit parts_within_own(const RowSplit& split, int factor) {
  GIMBAL_CHECK(factor >= 1 && split.parts() % factor == 0, "", split.parts(),
               " parts in groups of ", factor);
  RowSplit within;
  within.own = split.own % factor;
  const int first = split.own - within.own;
  for (int part = first; part <= first + factor; ++part)
    within.begins.push_back(split.begin(part) - split.begin(first));
  return within;
}

}  // namespace gimbal
