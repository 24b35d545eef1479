#include "gimbal/balance/rebalance/rank_loads.h"

#include <algorithm>

namespace gimbal {
namespace {

// Partners of the busiest rank that are looked at: the least busy ones.
constexpr std::uint32_t kPartners = 32;

}  // namespace

RankLoads::RankLoads(std::span<const LoadItem> items, std::uint32_t ranks,
                     std::vector<std::uint32_t> place)
    : items_(items), place_(std::move(place)), load_(ranks, 0), held_(ranks) {
  for (std::uint32_t i = 0; i < items_.size(); ++i) {
    load_[place_[i]] += items_[i].cost;
    if (items_[i].cost > 0) held_[place_[i]].push_back(i);
  }
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    by_load_.emplace(load_[rank], rank);
    std::sort(held_[rank].begin(), held_[rank].end(), [this](std::uint32_t x, std::uint32_t y) {
      return std::pair(items_[x].cost, x) < std::pair(items_[y].cost, y);
    });
  }
}

std::uint64_t RankLoads::moved_bytes() const {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < items_.size(); ++i)
    if (place_[i] != items_[i].owner) bytes += items_[i].bytes;
  return bytes;
}

std::int64_t RankLoads::added_bytes(std::uint32_t item, std::uint32_t rank) const {
  const auto bytes = static_cast<std::int64_t>(items_[item].bytes);
  const std::uint32_t owner = items_[item].owner;
  return (rank != owner ? bytes : 0) - (place_[item] != owner ? bytes : 0);
}

void RankLoads::set_load(std::uint32_t rank, std::uint64_t load) {
  auto node = by_load_.extract({load_[rank], rank});
  node.value().first = load_[rank] = load;
  by_load_.insert(std::move(node));
}

void RankLoads::move(std::uint32_t item, std::uint32_t rank) {
  const auto before = [this](std::uint32_t x, std::uint32_t y) {
    return std::pair(items_[x].cost, x) < std::pair(items_[y].cost, y);
  };
  const std::uint64_t cost = items_[item].cost;
  const std::uint32_t from = place_[item];
  place_[item] = rank;
  if (cost == 0) return;
  auto& left = held_[from];
  left.erase(std::lower_bound(left.begin(), left.end(), item, before));
  auto& joined = held_[rank];
  joined.insert(std::lower_bound(joined.begin(), joined.end(), item, before), item);
  set_load(from, load_[from] - cost);
  set_load(rank, load_[rank] + cost);
}

void RankLoads::scan_pair(std::uint32_t busy, std::uint32_t other, std::uint64_t stop_at,
                          Exchange& best) const {
  const std::uint64_t gap = load_[busy] - load_[other];
  const auto consider = [&](std::uint32_t give, std::uint32_t take) {
    const std::uint64_t taken = take == kNone ? 0 : items_[take].cost;
    if (items_[give].cost <= taken || items_[give].cost - taken >= gap) return;
    const std::uint64_t shift = items_[give].cost - taken;
    const std::uint64_t peak = std::max({load_[busy] - shift, load_[other] + shift, stop_at});
    if (peak > best.peak) return;
    const std::int64_t bytes =
        added_bytes(give, other) + (take == kNone ? 0 : added_bytes(take, busy));
    if (peak < best.peak || bytes < best.bytes) best = {peak, bytes, give, take, other};
  };
  const auto& takes = held_[other];
  std::size_t t = 0;  // the first item to take that leaves at most half the gap
  for (const std::uint32_t give : held_[busy]) {
    consider(give, kNone);
    if (items_[give].cost <= gap / 2) continue;
    while (t < takes.size() && items_[takes[t]].cost < items_[give].cost - gap / 2) ++t;
    if (t < takes.size()) consider(give, takes[t]);
    if (t > 0) consider(give, takes[t - 1]);
  }
}

void RankLoads::lower_max(std::uint64_t stop_at, std::uint64_t budget) {
  while (budget > 0) {
    const auto [load, busy] = *by_load_.rbegin();
    if (load <= stop_at) return;
    // One exchange cannot do better than this.
    const std::uint64_t reachable = std::max(stop_at, load - items_[held_[busy].back()].cost);
    Exchange best;
    std::uint32_t partners = 0;
    for (const auto& [other_load, other] : by_load_) {
      if (other_load == load || partners++ == kPartners) break;
      scan_pair(busy, other, stop_at, best);
      const std::uint64_t pairs = held_[busy].size() + held_[other].size() + 1;
      budget -= std::min(budget, pairs);
      if (best.peak <= reachable) break;
    }
    // A peak below the load lowers the maximum or the number of ranks that have it: this ends.
    if (best.give == kNone) return;
    move(best.give, best.rank);
    if (best.take != kNone) move(best.take, busy);
  }
}

void RankLoads::return_home(std::uint64_t limit) {
  std::vector<std::uint32_t> away;
  for (std::uint32_t i = 0; i < items_.size(); ++i)
    if (place_[i] != items_[i].owner) away.push_back(i);
  std::stable_sort(away.begin(), away.end(), [this](std::uint32_t x, std::uint32_t y) {
    return items_[x].bytes > items_[y].bytes;
  });
  for (const std::uint32_t item : away) {
    const std::uint32_t from = place_[item], owner = items_[item].owner;
    const std::uint64_t cost = items_[item].cost;
    if (from == owner) continue;  // went home in exchange for another
    if (load_[owner] + cost <= limit) {
      move(item, owner);
      continue;
    }
    std::uint32_t best = kNone;
    for (const std::uint32_t other : held_[owner]) {
      const std::uint64_t back = items_[other].cost;
      if (items_[other].owner == owner || load_[owner] + cost - back > limit ||
          load_[from] - cost + back > limit)
        continue;
      if (best == kNone || added_bytes(other, from) < added_bytes(best, from)) best = other;
    }
    if (best == kNone) continue;
    move(item, owner);
    move(best, from);
  }
}

}  // namespace gimbal
