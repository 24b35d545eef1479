// The classical heuristic over all samples at once, with an index that keeps the search for the
// fullest pack near logarithmic.
#include <algorithm>
#include <bit>
#include <limits>
#include <utility>
#include <vector>

#include "gimbal/balance/pack/methods.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

__extension__ using WideProduct = unsigned __int128;

// demand / cap is counted in units of 2^-40, and a pack's slack summed over the limits.
constexpr int kShareBits = 40;
constexpr int kMinBucketBits = 6;
constexpr int kMaxBucketBits = 16;
// Packs of one bucket that are compared exactly.
constexpr int kCompared = 64;
constexpr std::uint32_t kNoPack = std::numeric_limits<std::uint32_t>::max();

std::uint64_t share_of(std::uint64_t demand, std::uint64_t cap) {
  return static_cast<std::uint64_t>((WideProduct{demand} << kShareBits) / cap);
}

// Open packs in buckets by slack. A tree over the buckets holds the number of packs and the most
// room per limit below each node, so that a search passes over what has no room. One more column
// holds the smallest share over the limits: with packs that have room in one limit or the other,
// but not in both, the limits one by one would exclude little.
class SlackIndex {
 public:
  SlackIndex(const PackLimits& limits, std::size_t num_entries)
      : num_limits_(static_cast<std::size_t>(limits.count())),
        columns_(num_limits_ + 1),
        wanted_(columns_) {
    const int bits =
        std::clamp(static_cast<int>(std::bit_width(num_entries)), kMinBucketBits, kMaxBucketBits);
    shift_ = kShareBits - bits;
    leaves_ = std::size_t{1} << bits;
    most_.assign(2 * leaves_ * columns_, 0);
    used_.assign(2 * leaves_, 0);
    buckets_.resize(leaves_);
    for (std::size_t l = 0; l < num_limits_; ++l) caps_.push_back(limits.cap(static_cast<int>(l)));
  }

  // Into the fullest pack that has room, or a new one; returns it.
  std::uint32_t place(const std::uint64_t* demands) {
    std::copy(demands, demands + num_limits_, wanted_.begin());
    const std::uint64_t share = set_shares(wanted_.data());
    std::uint32_t pack = find(1, 0, leaves_, bucket_of(share));
    if (pack == kNoPack) {
      pack = static_cast<std::uint32_t>(slack_.size());
      slack_.push_back(0);
      position_.push_back(0);
      room_.insert(room_.end(), caps_.begin(), caps_.end());
      room_.push_back(0);
    } else {
      remove(pack);
    }
    std::uint64_t* room = room_.data() + pack * columns_;
    for (std::size_t l = 0; l < num_limits_; ++l) room[l] -= demands[l];
    slack_[pack] = set_shares(room);
    insert(pack);
    return pack;
  }

  std::size_t num_packs() const { return slack_.size(); }

 private:
  std::size_t bucket_of(std::uint64_t slack) const {
    return std::min(static_cast<std::size_t>((slack / num_limits_) >> shift_), leaves_ - 1);
  }

  // Sets the last column; returns the sum of the shares.
  std::uint64_t set_shares(std::uint64_t* row) const {
    std::uint64_t sum = 0;
    std::uint64_t smallest = ~std::uint64_t{0};
    for (std::size_t l = 0; l < num_limits_; ++l) {
      const std::uint64_t share = share_of(row[l], caps_[l]);
      sum += share;
      smallest = std::min(smallest, share);
    }
    row[num_limits_] = smallest;
    return sum;
  }

  bool has_room(const std::uint64_t* room) const {
    for (std::size_t c = 0; c < columns_; ++c) {
      if (room[c] < wanted_[c]) return false;
    }
    return true;
  }

  // Searches the buckets [begin, begin + width) of a node, from bucket `least` on.
  std::uint32_t find(std::size_t node, std::size_t begin, std::size_t width,
                     std::size_t least) const {
    if (begin + width <= least || used_[node] == 0 || !has_room(most_.data() + node * columns_)) {
      return kNoPack;
    }
    if (width == 1) return find_in_bucket(begin);
    const std::size_t half = width / 2;
    const std::uint32_t found = find(2 * node, begin, half, least);
    return found != kNoPack ? found : find(2 * node + 1, begin + half, half, least);
  }

  std::uint32_t find_in_bucket(std::size_t bucket) const {
    std::uint32_t best = kNoPack;
    int left = kCompared;
    for (const std::uint32_t pack : buckets_[bucket]) {
      if (--left < 0 && best != kNoPack) break;
      if (!has_room(room_.data() + pack * columns_)) continue;
      if (best == kNoPack || std::pair(slack_[pack], pack) < std::pair(slack_[best], best)) {
        best = pack;
      }
    }
    return best;
  }

  void insert(std::uint32_t pack) {
    const std::size_t bucket = bucket_of(slack_[pack]);
    position_[pack] = static_cast<std::uint32_t>(buckets_[bucket].size());
    buckets_[bucket].push_back(pack);
    const std::uint64_t* room = room_.data() + pack * columns_;
    for (std::size_t node = leaves_ + bucket; node > 0; node /= 2) {
      ++used_[node];
      std::uint64_t* most = most_.data() + node * columns_;
      for (std::size_t c = 0; c < columns_; ++c) most[c] = std::max(most[c], room[c]);
    }
  }

  void remove(std::uint32_t pack) {
    const std::size_t bucket = bucket_of(slack_[pack]);
    std::vector<std::uint32_t>& packs = buckets_[bucket];
    packs[position_[pack]] = packs.back();
    position_[packs.back()] = position_[pack];
    packs.pop_back();
    std::size_t node = leaves_ + bucket;
    const bool changed = refresh_bucket(node, packs, room_.data() + pack * columns_);
    --used_[node];
    bool above = changed;
    for (node /= 2; node > 0; node /= 2) {
      --used_[node];
      if (above) above = refresh(node);
    }
  }

  // The bucket's most room after a pack of this room has left; whether it changed.
  bool refresh_bucket(std::size_t node, const std::vector<std::uint32_t>& packs,
                      const std::uint64_t* gone) {
    bool changed = false;
    std::uint64_t* most = most_.data() + node * columns_;
    for (std::size_t c = 0; c < columns_; ++c) {
      if (gone[c] < most[c]) continue;
      std::uint64_t now = 0;
      for (std::size_t i = 0; i < packs.size() && now < most[c]; ++i) {
        now = std::max(now, room_[packs[i] * columns_ + c]);
      }
      changed = changed || now != most[c];
      most[c] = now;
    }
    return changed;
  }

  bool refresh(std::size_t node) {
    bool changed = false;
    for (std::size_t c = 0; c < columns_; ++c) {
      const std::uint64_t now =
          std::max(most_[2 * node * columns_ + c], most_[(2 * node + 1) * columns_ + c]);
      std::uint64_t& most = most_[node * columns_ + c];
      changed = changed || now != most;
      most = now;
    }
    return changed;
  }

  std::size_t num_limits_;
  std::size_t columns_;
  std::vector<std::uint64_t> wanted_;  // of the entry at hand
  int shift_;
  std::size_t leaves_;
  std::vector<std::uint64_t> caps_;
  std::vector<std::uint64_t> most_;  // [node, column]; children of node n are 2n and 2n + 1
  std::vector<std::uint32_t> used_;  // per node
  std::vector<std::vector<std::uint32_t>> buckets_;
  std::vector<std::uint64_t> room_;      // [pack, column]
  std::vector<std::uint64_t> slack_;     // per pack
  std::vector<std::uint32_t> position_;  // per pack, in its bucket
};

// Packs from the pack of each entry, by counting.
Packs gather_packs(std::span<const std::uint32_t> order, const std::vector<std::uint32_t>& pack_of,
                   std::size_t num_packs) {
  Packs packs;
  packs.offsets.assign(num_packs + 1, 0);
  for (const std::uint32_t pack : pack_of) ++packs.offsets[pack + 1];
  for (std::size_t p = 0; p < num_packs; ++p) packs.offsets[p + 1] += packs.offsets[p];
  std::vector<std::uint64_t> at(packs.offsets.begin(), packs.offsets.end() - 1);
  packs.samples.resize(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) packs.samples[at[pack_of[i]]++] = order[i];
  return packs;
}

}  // namespace

Packs best_fit_decreasing_packs(const PackLimits& limits, std::span<const std::uint32_t> order) {
  std::vector<std::uint64_t> demands(static_cast<std::size_t>(limits.count()));
  std::vector<std::pair<std::uint64_t, std::uint32_t>> entries;  // (~share, place in the order)
  entries.reserve(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    limits.demands(order[i], demands.data());
    std::uint64_t share = 0;
    for (std::size_t l = 0; l < demands.size(); ++l) {
      const std::uint64_t cap = limits.cap(static_cast<int>(l));
      GIMBAL_CHECK_LE(demands[l], cap, "sample ", order[i], " does not fit into a pack alone");
      share += share_of(demands[l], cap);
    }
    entries.emplace_back(~share, static_cast<std::uint32_t>(i));
  }
  std::sort(entries.begin(), entries.end());
  SlackIndex index(limits, order.size());
  std::vector<std::uint32_t> pack_of(order.size());
  for (const auto& [share, i] : entries) {
    limits.demands(order[i], demands.data());
    pack_of[i] = index.place(demands.data());
  }
  return gather_packs(order, pack_of, index.num_packs());
}

}  // namespace gimbal
