// Segments of a pack put into groups of similar length: what one batched attention call computes.
#pragma once

#include <cstdint>
#include <vector>

namespace gimbal {

struct SegmentGroup {
  struct Segment {
    std::int64_t begin;  // first row in the pack
    std::int64_t length;
  };
  std::vector<Segment> segments;
  std::int64_t length = 0;  // the longest

  /// True if the rows of the pack already are the group's [segments, length] batch.
  bool is_contiguous() const;
};

/// Sorts segments by length and batches neighbours as long as the padded area of the attention
/// matrices is at most a quarter of the group's. Long segments stay alone: they fill a call by
/// themselves. Empty segments are left out.
std::vector<SegmentGroup> group_segments(const std::vector<std::int64_t>& cu_seqlens);

}  // namespace gimbal
