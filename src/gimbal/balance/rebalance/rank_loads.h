// Items on ranks while a rebalance plan is searched: loads, and the moves and swaps that lower the
// highest one.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace gimbal {

/// A media item with its cost in whole steps.
struct LoadItem {
  std::uint64_t cost;
  std::uint64_t bytes;  // there and back, when it is not encoded by its owner
  std::uint32_t owner;
};

/// Refers to `items`, which must outlive it.
class RankLoads {
 public:
  /// Every item is on rank place[i].
  RankLoads(std::span<const LoadItem> items, std::uint32_t ranks, std::vector<std::uint32_t> place);

  std::uint64_t max_load() const { return by_load_.rbegin()->first; }
  const std::vector<std::uint32_t>& place() const { return place_; }
  std::uint64_t moved_bytes() const;

  /// Moves an item of the busiest rank to a less busy one, or swaps it for a cheaper one, again and
  /// again, until no rank is above `stop_at`, nothing helps, or `budget` pairs were looked at.
  /// Among what reaches `stop_at`, the fewest bytes decide.
  void lower_max(std::uint64_t stop_at, std::uint64_t budget);
  /// Brings items back to their owners, alone or in exchange for an item that is not at home there
  /// either, as long as no load exceeds `limit`.
  void return_home(std::uint64_t limit);

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  // Item `give` of the busiest rank to `rank`, for its item `take` or for nothing.
  struct Exchange {
    std::uint64_t peak = ~std::uint64_t{0};
    std::int64_t bytes = 0;
    std::uint32_t give = kNone, take = kNone, rank = 0;
  };
  void scan_pair(std::uint32_t busy, std::uint32_t other, std::uint64_t stop_at,
                 Exchange& best) const;
  // Bytes that are moved in addition when the item goes to `rank`.
  std::int64_t added_bytes(std::uint32_t item, std::uint32_t rank) const;
  void move(std::uint32_t item, std::uint32_t rank);
  void set_load(std::uint32_t rank, std::uint64_t load);

  std::span<const LoadItem> items_;
  std::vector<std::uint32_t> place_;
  std::vector<std::uint64_t> load_;
  std::set<std::pair<std::uint64_t, std::uint32_t>> by_load_;
  std::vector<std::vector<std::uint32_t>> held_;  // per rank, ascending by (cost, number)
};

}  // namespace gimbal
