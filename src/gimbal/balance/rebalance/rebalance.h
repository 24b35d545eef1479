// Which rank encodes which media item: the plan of an exchange at run time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace gimbal {

struct MediaItem {
  std::uint32_t owner;      // the rank that holds the item and needs its result
  double cost;              // of encoding it
  std::uint64_t in_bytes;   // sent to the encoding rank
  std::uint64_t out_bytes;  // sent back
};

struct RebalanceOptions {
  /// The busiest rank may exceed the best found by this share when that saves traffic.
  double tolerance = 0.02;
};

struct RebalancePlan {
  std::vector<std::uint32_t> encoder;  // per item: the rank that encodes it
  /// All-to-all split sizes, [ranks * ranks]: items, and bytes there and back. Row = owner, column
  /// = encoder: rank r sends row r and receives column r on the way there; the way back is the
  /// transpose. Items that stay are on the diagonal.
  std::vector<std::uint64_t> split_items;
  std::vector<std::uint64_t> split_in_bytes;
  std::vector<std::uint64_t> split_out_bytes;
  std::vector<double> rank_cost;  // after the exchange
  double max_cost_before = 0;
  double max_cost = 0;
  /// No assignment has a lower maximum: the largest of the mean over ranks and, for k from 0 to 15,
  /// the k+1 smallest of the k * ranks + 1 largest items (k+1 of these share a rank).
  double max_cost_lower_bound = 0;
  std::uint64_t moved_bytes = 0;  // there and back, between different ranks
};

/// Equalises the ranks' cost with few bytes moved:
/// 1. Longest processing time first (Graham 1969) with ties to the owner, then moves and swaps
///    between the busiest and the least busy ranks: how low the maximum can be. Few items are tried
///    exhaustively.
/// 2. The same moves and swaps from where the items are, cheapest in bytes first, until no rank is
///    above that maximum and `tolerance`. Where this gets stuck, the assignment of 1, its groups
///    given to the ranks that own most of them.
/// 3. Items are returned to their owners as far as the tolerance allows.
/// A pure function of whole numbers (costs are rounded to about 2^-40 of the largest): every rank
/// computes the same plan. Never worse than leaving every item with its owner. Throws UserError for
/// no ranks or more than 16,384, an owner that is no rank, costs or a tolerance that are negative
/// or not finite, costs whose sum is not finite, and 2^63 bytes or more in all.
RebalancePlan plan_rebalance(std::span<const MediaItem> items, std::uint32_t ranks,
                             const RebalanceOptions& options = {});

}  // namespace gimbal
