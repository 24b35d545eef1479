#include "gimbal/nn/attention/segment_groups.h"

#include <algorithm>

namespace gimbal {
namespace {

constexpr std::int64_t kAloneFrom = 1024;
constexpr double kLargestPaddedShare = 0.25;

double area(std::int64_t length) {
  return static_cast<double>(length) * static_cast<double>(length);
}

}  // namespace

bool SegmentGroup::is_contiguous() const {
  std::int64_t next = segments.empty() ? 0 : segments.front().begin;
  for (const Segment& segment : segments) {
    if (segment.begin != next || segment.length != length) return false;
    next += length;
  }
  return true;
}

std::vector<SegmentGroup> group_segments(const std::vector<std::int64_t>& cu_seqlens) {
  std::vector<SegmentGroup::Segment> sorted;
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i)
    if (cu_seqlens[i + 1] > cu_seqlens[i])
      sorted.push_back({cu_seqlens[i], cu_seqlens[i + 1] - cu_seqlens[i]});
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.length > b.length; });

  std::vector<SegmentGroup> groups;
  double used = 0;
  for (const SegmentGroup::Segment& segment : sorted) {
    bool joins = !groups.empty() && groups.back().length < kAloneFrom;
    if (joins) {
      const double whole =
          area(groups.back().length) * static_cast<double>(groups.back().segments.size() + 1);
      joins = whole - used - area(segment.length) <= kLargestPaddedShare * whole;
    }
    if (!joins) {
      groups.emplace_back().length = segment.length;
      used = 0;
    }
    groups.back().segments.push_back(segment);
    used += area(segment.length);
  }
  return groups;
}

}  // namespace gimbal
