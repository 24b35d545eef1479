#include "gimbal/balance/rebalance/rebalance.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>
#include <utility>

#include "gimbal/balance/rebalance/rank_loads.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::uint32_t kMaxRanks = 16'384;  // the split sizes are ranks^2 numbers
// Items of a rank up to which the crowded-rank bound goes; of more, the mean says as much.
constexpr std::size_t kMaxCrowd = 16;
// Pairs of items that a search looks at: some milliseconds.
constexpr std::uint64_t kExchangeBudget = std::uint64_t{1} << 21;
// Up to so many items all assignments are tried, as far as the steps go (under a millisecond).
constexpr std::size_t kFewItems = 24;
constexpr std::uint64_t kExhaustiveBudget = 20'000;

void check_items(std::span<const MediaItem> items, std::uint32_t ranks,
                 const RebalanceOptions& options) {
  GIMBAL_USER_CHECK(ranks >= 1 && ranks <= kMaxRanks, "rebalance: ", ranks,
                    " ranks; the number must be from 1 to ", kMaxRanks);
  GIMBAL_USER_CHECK(std::isfinite(options.tolerance) && options.tolerance >= 0,
                    "rebalance: the tolerance is ", options.tolerance,
                    "; it must be a number of at least 0");
  GIMBAL_USER_CHECK(items.size() < ~std::uint32_t{0}, "rebalance: ", items.size(),
                    " items; plan fewer than 2^32 - 1 at a time");
  constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 63;
  std::uint64_t bytes = 0;
  double cost = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const MediaItem& item = items[i];
    GIMBAL_USER_CHECK(item.owner < ranks, "rebalance: item ", i, " is owned by rank ", item.owner,
                      ", but there are ", ranks, " ranks");
    GIMBAL_USER_CHECK(std::isfinite(item.cost) && item.cost >= 0, "rebalance: item ", i,
                      " has a cost of ", item.cost, "; it must be a number of at least 0");
    const bool fits =
        item.in_bytes < kMaxBytes - bytes && item.out_bytes < kMaxBytes - bytes - item.in_bytes;
    GIMBAL_USER_CHECK(fits, "rebalance: the items up to item ", i,
                      " have 2^63 bytes or more; give the bytes of one slot");
    bytes += item.in_bytes + item.out_bytes;
    cost += item.cost;
  }
  GIMBAL_USER_CHECK(std::isfinite(cost),
                    "rebalance: the sum of the costs is not finite; give them in a larger unit");
}

// Costs as whole steps, a power of two, so that their sum stays below 2^62 and the order of
// additions does not matter.
std::vector<LoadItem> whole_costs(std::span<const MediaItem> items) {
  double largest = 0;
  for (const MediaItem& item : items) largest = std::max(largest, item.cost);
  int exponent = 0;
  std::frexp(largest, &exponent);
  const int shift = 62 - exponent - static_cast<int>(std::bit_width(items.size()));
  std::vector<LoadItem> whole;
  whole.reserve(items.size());
  for (const MediaItem& item : items) {
    whole.push_back({static_cast<std::uint64_t>(std::llround(std::ldexp(item.cost, shift))),
                     item.in_bytes + item.out_bytes, item.owner});
  }
  return whole;
}

std::vector<std::uint32_t> largest_first(std::span<const LoadItem> items) {
  std::vector<std::uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t x, std::uint32_t y) { return items[x].cost > items[y].cost; });
  return order;
}

// Among the k * ranks + 1 largest items, k + 1 share a rank. `cost(i)` is that of the i-th largest.
template <typename Number, typename CostOf>
Number crowded_rank_bound(std::size_t count, std::size_t ranks, CostOf cost) {
  Number bound = 0;
  for (std::size_t k = 0; k < kMaxCrowd && k * ranks < count; ++k) {
    Number sum = 0;
    for (std::size_t i = k * ranks - k; i <= k * ranks; ++i) sum += cost(i);
    bound = std::max(bound, sum);
  }
  return bound;
}

std::vector<std::uint32_t> longest_first_places(std::span<const LoadItem> items,
                                                std::span<const std::uint32_t> order,
                                                std::uint32_t ranks) {
  std::vector<std::uint64_t> load(ranks, 0);
  std::set<std::pair<std::uint64_t, std::uint32_t>> by_load;
  for (std::uint32_t rank = 0; rank < ranks; ++rank) by_load.emplace(0, rank);
  std::vector<std::uint32_t> place(items.size());
  for (const std::uint32_t item : order) {
    const std::uint32_t owner = items[item].owner;
    const bool tie = items[item].cost == 0 || load[owner] == by_load.begin()->first;
    const std::uint32_t rank = tie ? owner : by_load.begin()->second;
    auto node = by_load.extract({load[rank], rank});
    node.value().first = load[rank] += items[item].cost;
    by_load.insert(std::move(node));
    place[item] = rank;
  }
  return place;
}

// All assignments of the costly items, the largest first, as far as `budget` steps go. Better ones
// than `best` are kept in `place`.
class ExhaustiveSearch {
 public:
  ExhaustiveSearch(std::span<const LoadItem> items, std::span<const std::uint32_t> order,
                   std::uint32_t ranks, std::uint64_t bound, std::uint64_t best)
      : items_(items), order_(order), bound_(bound), best_(best), load_(ranks, 0) {}

  void run(std::vector<std::uint32_t>& place) {
    trial_ = place;
    descend(0, 0, place);
  }

 private:
  void descend(std::size_t depth, std::uint64_t peak, std::vector<std::uint32_t>& place) {
    if (depth == order_.size() || items_[order_[depth]].cost == 0) {
      best_ = peak;
      place = trial_;
      return;
    }
    const std::uint64_t cost = items_[order_[depth]].cost;
    for (std::uint32_t rank = 0; rank < load_.size(); ++rank) {
      const std::uint64_t load = load_[rank];
      // Ranks of equal load are alike.
      const bool seen =
          std::find(load_.begin(), load_.begin() + rank, load) != load_.begin() + rank;
      if (seen || std::max(peak, load + cost) >= best_) continue;
      if (best_ <= bound_ || budget_ == 0) return;
      --budget_;
      load_[rank] += cost;
      trial_[order_[depth]] = rank;
      descend(depth + 1, std::max(peak, load_[rank]), place);
      load_[rank] = load;
    }
  }

  std::span<const LoadItem> items_;
  std::span<const std::uint32_t> order_;
  std::uint64_t bound_, best_;
  std::uint64_t budget_ = kExhaustiveBudget;
  std::vector<std::uint64_t> load_;
  std::vector<std::uint32_t> trial_;
};

// Which rank computes which group is free: the one that owns most of its bytes, greedily.
std::vector<std::uint32_t> match_groups(std::span<const LoadItem> items, std::uint32_t ranks,
                                        const std::vector<std::uint32_t>& group) {
  struct Share {
    std::uint32_t group, owner;
    std::uint64_t bytes;
  };
  std::vector<Share> shares;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (items[i].cost > 0) shares.push_back({group[i], items[i].owner, items[i].bytes});
  std::sort(shares.begin(), shares.end(), [](const Share& x, const Share& y) {
    return std::pair(x.group, x.owner) < std::pair(y.group, y.owner);
  });
  std::size_t last = 0;
  for (std::size_t i = 1; i < shares.size(); ++i) {
    if (shares[i].group == shares[last].group && shares[i].owner == shares[last].owner)
      shares[last].bytes += shares[i].bytes;
    else
      shares[++last] = shares[i];
  }
  if (!shares.empty()) shares.resize(last + 1);
  std::stable_sort(shares.begin(), shares.end(),
                   [](const Share& x, const Share& y) { return x.bytes > y.bytes; });

  const std::uint32_t none = ranks;
  std::vector<std::uint32_t> rank_of(ranks, none);
  std::vector<bool> taken(ranks, false);
  for (const Share& share : shares) {
    if (rank_of[share.group] != none || taken[share.owner]) continue;
    rank_of[share.group] = share.owner;
    taken[share.owner] = true;
  }
  std::uint32_t next = 0;
  for (std::uint32_t& rank : rank_of) {
    if (rank != none) continue;
    while (taken[next]) ++next;
    rank = next++;
  }
  std::vector<std::uint32_t> place(items.size());
  for (std::size_t i = 0; i < items.size(); ++i)
    place[i] = items[i].cost > 0 ? rank_of[group[i]] : items[i].owner;
  return place;
}

std::vector<std::uint32_t> search_places(std::span<const LoadItem> items, std::uint32_t ranks,
                                         double tolerance) {
  std::vector<std::uint32_t> home(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) home[i] = items[i].owner;
  RankLoads near(items, ranks, home);
  const std::uint64_t before = near.max_load();

  const std::vector<std::uint32_t> order = largest_first(items);
  std::uint64_t total = 0;
  for (const LoadItem& item : items) total += item.cost;
  const std::uint64_t bound =
      std::max((total + ranks - 1) / ranks,
               crowded_rank_bound<std::uint64_t>(
                   items.size(), ranks, [&](std::size_t i) { return items[order[i]].cost; }));
  RankLoads level(items, ranks, longest_first_places(items, order, ranks));
  level.lower_max(bound, kExchangeBudget);
  std::vector<std::uint32_t> group = level.place();
  if (items.size() <= kFewItems)
    ExhaustiveSearch(items, order, ranks, bound, level.max_load()).run(group);
  RankLoads far(items, ranks, match_groups(items, ranks, group));
  const std::uint64_t best = std::min(far.max_load(), before);

  const double slack = static_cast<double>(best) * tolerance;
  const std::uint64_t limit = slack >= static_cast<double>(before - best)
                                  ? before
                                  : best + static_cast<std::uint64_t>(slack);
  near.lower_max(limit, kExchangeBudget);
  near.return_home(limit);
  if (near.max_load() <= limit && near.moved_bytes() == 0) return near.place();
  if (far.max_load() > limit) return near.place();
  far.return_home(limit);
  const bool keep_near = near.max_load() <= limit && near.moved_bytes() <= far.moved_bytes();
  return keep_near ? near.place() : far.place();
}

void fill_splits(std::span<const MediaItem> items, std::uint32_t ranks, RebalancePlan& plan) {
  const std::size_t cells = std::size_t{ranks} * ranks;
  plan.split_items.assign(cells, 0);
  plan.split_in_bytes.assign(cells, 0);
  plan.split_out_bytes.assign(cells, 0);
  for (std::size_t i = 0; i < items.size(); ++i) {
    const MediaItem& item = items[i];
    const std::size_t cell = std::size_t{item.owner} * ranks + plan.encoder[i];
    ++plan.split_items[cell];
    plan.split_in_bytes[cell] += item.in_bytes;
    plan.split_out_bytes[cell] += item.out_bytes;
    if (item.owner != plan.encoder[i]) plan.moved_bytes += item.in_bytes + item.out_bytes;
  }
}

}  // namespace

RebalancePlan plan_rebalance(std::span<const MediaItem> items, std::uint32_t ranks,
                             const RebalanceOptions& options) {
  check_items(items, ranks, options);
  RebalancePlan plan;
  std::vector<double> cost_before(ranks, 0), descending;
  for (const MediaItem& item : items) {
    cost_before[item.owner] += item.cost;
    descending.push_back(item.cost);
  }
  std::sort(descending.begin(), descending.end(), std::greater<>());
  plan.max_cost_before = *std::max_element(cost_before.begin(), cost_before.end());

  plan.encoder = search_places(whole_costs(items), ranks, options.tolerance);
  plan.rank_cost.assign(ranks, 0);
  for (std::size_t i = 0; i < items.size(); ++i) plan.rank_cost[plan.encoder[i]] += items[i].cost;
  plan.max_cost = *std::max_element(plan.rank_cost.begin(), plan.rank_cost.end());
  // What whole steps see as a gain may be a loss by rounding.
  if (plan.max_cost > plan.max_cost_before) {
    for (std::size_t i = 0; i < items.size(); ++i) plan.encoder[i] = items[i].owner;
    plan.rank_cost = cost_before;
    plan.max_cost = plan.max_cost_before;
  }
  fill_splits(items, ranks, plan);

  const double mean = std::accumulate(descending.begin(), descending.end(), 0.0) / ranks;
  const double crowded = crowded_rank_bound<double>(descending.size(), ranks,
                                                    [&](std::size_t i) { return descending[i]; });
  // Rounding of the sums must not show a bound above what was reached.
  plan.max_cost_lower_bound = std::min(std::max(mean, crowded), plan.max_cost);
  return plan;
}

}  // namespace gimbal
