#include "gimbal/balance/stream/window_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "gimbal/balance/arrange/arrange.h"
#include "gimbal/balance/stream/batch_packs.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

__extension__ using Wide = unsigned __int128;

// At most one pack in so many, but for what fills no slot, is packed again with later samples.
constexpr std::size_t kStayingShare = 16;
// Young samples that are looked at for an exchange.
constexpr std::size_t kMostTries = 512;
constexpr std::uint64_t kWholePack = std::uint64_t{1} << 20;

// The samples that are packed with others, in a random order.
std::vector<std::uint32_t> window_order(const StreamWindow& window, const CounterRng& rng) {
  std::vector<std::uint32_t> order;
  const auto size = static_cast<std::uint32_t>(window.alone.size());
  order.reserve(size);
  for (const std::uint32_t i : random_permutation(size, CounterRng(rng.bits(0)))) {
    if (window.alone[i] == 0) order.push_back(i);
  }
  return order;
}

class WindowPlanner {
 public:
  explicit WindowPlanner(const StreamWindow& window)
      : window_(window),
        limits_(window.limits),
        num_limits_(static_cast<std::size_t>(window.limits.count())),
        num_samples_(static_cast<std::uint32_t>(window.alone.size())) {}

  Packs run(const CounterRng& rng) {
    order_ = window_order(window_, rng);
    packs_ = pack_first(num_samples_);
    Packs leaving;
    if (window_.last) {
      leaving = std::move(packs_);
    } else if (packs_.size() < window_.packs_per_slot) {
      leaving = split_largest(std::move(packs_), window_.packs_per_slot);
    } else {
      leaving = without_staying();
      // Too few young samples for the packs that fill no slot.
      if (leaving.size() % window_.packs_per_slot != 0) leaving = oldest_slots();
    }
    arrange_packs(leaving, limits_, window_.costs, {}, window_.packs_per_slot,
                  CounterRng(rng.bits(1)));
    return leaving;
  }

 private:
  // Halves the packs of most samples until there are enough.
  Packs split_largest(Packs packs, std::uint64_t enough) const {
    std::vector<std::vector<std::uint32_t>> parts;
    for (std::size_t p = 0; p < packs.size(); ++p) {
      parts.emplace_back(packs[p].begin(), packs[p].end());
    }
    const auto fewer = [](const auto& x, const auto& y) { return x.size() < y.size(); };
    std::make_heap(parts.begin(), parts.end(), fewer);
    while (parts.size() < enough) {
      std::pop_heap(parts.begin(), parts.end(), fewer);
      auto& largest = parts.back();
      GIMBAL_CHECK(largest.size() > 1, "fewer samples than packs");
      const auto middle = largest.begin() + static_cast<std::ptrdiff_t>(largest.size() / 2);
      std::vector<std::uint32_t> half(middle, largest.end());
      largest.erase(middle, largest.end());
      std::push_heap(parts.begin(), parts.end(), fewer);
      parts.push_back(std::move(half));
      std::push_heap(parts.begin(), parts.end(), fewer);
    }
    packs = Packs{};
    for (const auto& part : parts) packs.add(part);
    return packs;
  }

  // The packs that leave: a multiple of packs_per_slot but where too few packs can stay.
  Packs without_staying() {
    const std::size_t per_slot = window_.packs_per_slot;
    const std::size_t rest = packs_.size() % per_slot;
    std::size_t wanted = rest;
    while (wanted + per_slot <= packs_.size() / kStayingShare) wanted += per_slot;
    find_young();
    std::vector<std::size_t> staying;
    for (const std::size_t p : thinnest_first()) {
      if (staying.size() == wanted) break;
      if (make_young(p)) staying.push_back(p);
    }
    while (staying.size() > rest && staying.size() % per_slot != rest) staying.pop_back();
    std::vector<std::uint8_t> stays(packs_.size(), 0);
    for (const std::size_t p : staying) stays[p] = 1;
    Packs leaving;
    for (std::size_t p = 0; p < packs_.size(); ++p) {
      if (stays[p] == 0) leaving.add(packs_[p]);
    }
    return leaving;
  }

  // Who may stay: at worst, all that came later leaves now.
  bool is_young(std::uint32_t sample) const {
    return window_.overtaken[sample] + (num_samples_ - 1 - sample) <= window_.patience;
  }

  void find_young() {
    place_.resize(num_samples_);
    pack_of_.resize(num_samples_);
    for (std::size_t p = 0; p < packs_.size(); ++p) {
      for (std::size_t at = packs_.offsets[p]; at < packs_.offsets[p + 1]; ++at) {
        place_[packs_.samples[at]] = at;
        pack_of_[packs_.samples[at]] = p;
      }
    }
    for (std::uint32_t i = 0; i < num_samples_; ++i) {
      if (is_young(i) && window_.alone[i] == 0) young_.push_back(i);
    }
    // The smallest first: an old sample leaves in the place of one that is hardly larger.
    std::sort(young_.begin(), young_.end(), [this](std::uint32_t x, std::uint32_t y) {
      for (int l = 0; l < limits_.count(); ++l) {
        const std::uint64_t of_x = limits_.demand(x, l), of_y = limits_.demand(y, l);
        if (of_x != of_y) return of_x < of_y;
      }
      return x < y;
    });
    fate_.assign(packs_.size(), Fate::kOpen);
  }

  // Exchanges the old samples of a pack for young ones of other packs that are as large or larger
  // in every limit, as far as there is room. False: some cannot be exchanged.
  bool make_young(std::size_t p) {
    if (fate_[p] != Fate::kOpen) return false;
    std::vector<std::uint64_t> sums(num_limits_, 0);
    for (const std::uint32_t sample : packs_[p]) {
      if (window_.alone[sample] != 0) return is_young(sample);
      for (std::size_t l = 0; l < num_limits_; ++l) sums[l] += demand(sample, l);
    }
    std::vector<std::pair<std::uint32_t, std::uint32_t>> exchanges;  // old, young
    for (const std::uint32_t old : packs_[p]) {
      if (is_young(old)) continue;
      const std::uint32_t young = find_exchange(p, old, sums, exchanges);
      if (young == kNone) return false;
      exchanges.emplace_back(old, young);
      for (std::size_t l = 0; l < num_limits_; ++l) sums[l] += demand(young, l) - demand(old, l);
    }
    for (const auto& [old, young] : exchanges) {
      fate_[pack_of_[young]] = Fate::kLeaves;
      std::swap(packs_.samples[place_[old]], packs_.samples[place_[young]]);
      std::swap(place_[old], place_[young]);
      std::swap(pack_of_[old], pack_of_[young]);
    }
    fate_[p] = Fate::kStays;
    return true;
  }

  std::uint32_t find_exchange(
      std::size_t p, std::uint32_t old, const std::vector<std::uint64_t>& sums,
      const std::vector<std::pair<std::uint32_t, std::uint32_t>>& taken) const {
    auto at = std::lower_bound(
        young_.begin(), young_.end(), old,
        [this](std::uint32_t x, std::uint32_t y) { return demand(x, 0) < demand(y, 0); });
    for (std::size_t tries = 0; at != young_.end() && tries < kMostTries; ++at, ++tries) {
      const std::size_t from = pack_of_[*at];
      if (from == p || fate_[from] == Fate::kStays) continue;
      bool fits = true;
      for (std::size_t l = 0; l < num_limits_ && fits; ++l) {
        const std::uint64_t out = demand(old, l), in = demand(*at, l);
        fits = in >= out && sums[l] - out + in <= limits_.cap(static_cast<int>(l));
      }
      const auto same = [at](const auto& pair) { return pair.second == *at; };
      if (fits && std::none_of(taken.begin(), taken.end(), same)) return *at;
    }
    return kNone;
  }

  // How full the packs are: their demands as shares of the caps, weighted by how scarce each limit
  // is.
  std::vector<std::size_t> thinnest_first() const {
    constexpr std::uint64_t kUnit = 1024;
    std::vector<std::uint64_t> fill(packs_.size(), 0);
    for (int l = 0; l < limits_.count(); ++l) {
      const std::uint64_t cap = limits_.cap(l);
      std::vector<std::uint64_t> sums(packs_.size(), 0);
      Wide total = 0;
      for (std::size_t p = 0; p < packs_.size(); ++p) {
        for (const std::uint32_t sample : packs_[p]) sums[p] += limits_.demand(sample, l);
        sums[p] = std::min(sums[p], cap);  // a sample alone may exceed it
        total += sums[p];
      }
      const auto scarcity = static_cast<std::uint64_t>(total * kUnit / cap);
      for (std::size_t p = 0; p < packs_.size(); ++p) {
        fill[p] += scarcity * static_cast<std::uint64_t>(Wide(sums[p]) * kWholePack / cap);
      }
    }
    std::vector<std::size_t> order(packs_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&fill](std::size_t x, std::size_t y) {
      return fill[x] != fill[y] ? fill[x] < fill[y] : x < y;
    });
    return order;
  }

  // The samples that came first, as many as fill the slots: nobody is overtaken by that.
  Packs oldest_slots() const {
    const std::uint64_t target = packs_.size() / window_.packs_per_slot * window_.packs_per_slot;
    // `few` samples fill at most the slots, `many` more than that.
    auto few = static_cast<std::uint32_t>(target);
    std::uint32_t many = num_samples_;
    Packs packs = pack_first(few);
    for (int round = 0; round < 12 && packs.size() < target && many - few > 1; ++round) {
      // By proportion, then by halves.
      const std::uint64_t guess = round < 6
                                      ? few + (target - packs.size()) * num_samples_ / packs_.size()
                                      : few + (many - few) / 2;
      const auto size = static_cast<std::uint32_t>(
          std::clamp<std::uint64_t>(guess, few + 1, std::uint64_t{many} - 1));
      Packs more = pack_first(size);
      if (more.size() > target) {
        many = size;
      } else {
        few = size;
        packs = std::move(more);
      }
    }
    return split_largest(std::move(packs), target);
  }

  Packs pack_first(std::uint32_t size) const {
    std::vector<std::uint32_t> order;
    for (const std::uint32_t i : order_) {
      if (i < size) order.push_back(i);
    }
    Packs packs = batch_packs(limits_, order, window_.way);
    for (std::uint32_t i = 0; i < size; ++i) {
      if (window_.alone[i] != 0) packs.add(std::span(&i, 1));
    }
    return packs;
  }

  std::uint64_t demand(std::uint32_t sample, std::size_t limit) const {
    return limits_.demand(sample, static_cast<int>(limit));
  }

  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  // kLeaves: it has given a young sample for an older one.
  enum class Fate : std::uint8_t { kOpen, kLeaves, kStays };

  const StreamWindow& window_;
  const PackLimits& limits_;
  std::size_t num_limits_;
  std::uint32_t num_samples_;
  std::vector<std::uint32_t> order_;  // random, without those that are packed alone
  Packs packs_;
  std::vector<std::uint32_t> young_;  // may stay, the smallest first
  std::vector<std::size_t> place_;    // per sample: in packs_.samples
  std::vector<std::size_t> pack_of_;  // per sample
  std::vector<Fate> fate_;            // per pack
};

}  // namespace

PackWay best_window_way(const StreamWindow& window, const CounterRng& rng) {
  return best_pack_way(window.limits, window_order(window, rng));
}

Packs plan_window(const StreamWindow& window, const CounterRng& rng) {
  GIMBAL_CHECK(!window.alone.empty(), "an empty window");
  GIMBAL_CHECK_LE(window.alone.size(), std::numeric_limits<std::uint32_t>::max(), "window");
  return WindowPlanner(window).run(rng);
}

}  // namespace gimbal
