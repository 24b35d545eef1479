#include "gimbal/balance/arrange/equalise.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <span>
#include <utility>

namespace gimbal {
namespace {

// Packs are made alike in groups whose samples' sizes fit into a cache.
constexpr std::size_t kGroupPacks = 32768;
// Rounds of exchanges: of a large epoch, whose slots find alike packs anyway, and of a smaller one.
constexpr std::size_t kManyPacks = std::size_t{1} << 18;
constexpr std::size_t kFewRounds = 3;
constexpr std::size_t kMostRounds = 10;
// A round that leaves more than this share of the spread was the last one.
constexpr double kLittleGain = 0.99;
constexpr std::size_t kShiftPercent = 37;
// Packs that differ by less than this in every direction (0.1 % of a mean pack) are alike.
constexpr double kAlike = 16;
// Squared distance of packs for which no exchange of two samples is sought.
constexpr double kNearlyAlike = 16 * kAlike * kAlike;
// Of a pack with more samples, this many are looked at for an exchange.
constexpr std::size_t kMostCandidates = 6;
constexpr std::size_t kMostChoices = kMostCandidates + kMostCandidates * (kMostCandidates - 1) / 2;

// One or two samples of a pack, by their place in it.
struct Choice {
  std::size_t first;
  std::size_t second;  // == first: one sample
  std::size_t count() const { return first == second ? 1 : 2; }
};

// What a pack could give, and the loads of it.
struct Offers {
  std::array<Choice, kMostChoices> choices;
  std::size_t size = 0;
  std::size_t singles = 0;    // choices [0, singles) are of one sample
  std::vector<double> loads;  // [dims][kMostChoices]
};

// Exchanges between two packs of a group. All loads and their differences are whole numbers, so
// that the sums of squares are exact and the same on every machine.
class PairExchange {
 public:
  PairExchange(Packs& packs, const PackLimits& limits, const LoadScale& scale,
               std::vector<std::uint32_t>& loads)
      : packs_(packs),
        limits_(limits),
        scale_(scale),
        loads_(loads),
        dims_(scale.dims()),
        of_sample_(scale.dims()),
        distance_(kMostChoices) {
    for (Offers* offers : {&left_, &right_}) offers->loads.resize(dims_ * kMostChoices);
    gap_.resize(dims_);
  }

  void run(std::size_t p, std::size_t q) {
    double best = 0;
    bool alike = true;
    for (std::size_t d = 0; d < dims_; ++d) {
      gap_[d] =
          static_cast<double>(loads_[p * dims_ + d]) - static_cast<double>(loads_[q * dims_ + d]);
      best += gap_[d] * gap_[d];
      alike = alike && gap_[d] <= kAlike && gap_[d] >= -kAlike;
    }
    if (alike) return;
    collect(p, left_);
    collect(q, right_);
    sums_known_ = false;
    bool found = false;
    std::pair<std::size_t, std::size_t> swap;
    const auto search = [&](std::size_t a, std::size_t a_end, std::size_t b_begin,
                            std::size_t b_end) {
      for (; a < a_end; ++a) {
        measure(a, b_begin, b_end);
        for (std::size_t b = b_begin; b < b_end; ++b) {
          if (distance_[b] >= best || !keeps_limits(p, q, a, b)) continue;
          best = distance_[b];
          swap = {a, b};
          found = true;
        }
      }
    };
    search(0, left_.singles, 0, right_.singles);
    if (best > kNearlyAlike) {
      add_pairs(left_);
      add_pairs(right_);
      search(left_.singles, left_.size, right_.singles, right_.size);
    }
    if (found) exchange(p, q, swap.first, swap.second);
  }

 private:
  void collect(std::size_t p, Offers& offers) {
    const auto pack = packs_[p];
    const std::size_t n = std::min(pack.size(), kMostCandidates);
    offers.size = offers.singles = n;
    for (std::size_t i = 0; i < n; ++i) {
      offers.choices[i] = {i, i};
      scale_.weigh(pack[i], of_sample_.data());
      for (std::size_t d = 0; d < dims_; ++d) offers.loads[d * kMostChoices + i] = of_sample_[d];
    }
  }

  void add_pairs(Offers& offers) const {
    const std::size_t n = offers.singles;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = i + 1; j < n; ++j) {
        offers.choices[offers.size] = {i, j};
        for (std::size_t d = 0; d < dims_; ++d) {
          double* row = offers.loads.data() + d * kMostChoices;
          row[offers.size] = row[i] + row[j];
        }
        ++offers.size;
      }
    }
  }

  // How far the packs would be apart after each exchange of `a` for b in [begin, end).
  void measure(std::size_t a, std::size_t begin, std::size_t end) {
    for (std::size_t d = 0; d < dims_; ++d) {
      const double* right = right_.loads.data() + d * kMostChoices;
      const double gap = gap_[d] - 2 * left_.loads[d * kMostChoices + a];
      for (std::size_t b = begin; b < end; ++b) {
        const double apart = gap + 2 * right[b];
        distance_[b] = d == 0 ? apart * apart : distance_[b] + apart * apart;
      }
    }
  }

  std::uint64_t demand_of(std::size_t p, const Choice& choice, int limit) const {
    const auto pack = packs_[p];
    const std::uint64_t first = limits_.demand(pack[choice.first], limit);
    return choice.count() == 1 ? first : first + limits_.demand(pack[choice.second], limit);
  }

  bool keeps_limits(std::size_t p, std::size_t q, std::size_t a, std::size_t b) {
    if (!sums_known_) {
      sums_.assign(2 * static_cast<std::size_t>(limits_.count()), 0);
      for (int limit = 0; limit < limits_.count(); ++limit) {
        const auto l = 2 * static_cast<std::size_t>(limit);
        for (const std::uint32_t sample : packs_[p]) sums_[l] += limits_.demand(sample, limit);
        for (const std::uint32_t sample : packs_[q]) sums_[l + 1] += limits_.demand(sample, limit);
      }
      sums_known_ = true;
    }
    for (int limit = 0; limit < limits_.count(); ++limit) {
      const auto l = 2 * static_cast<std::size_t>(limit);
      const std::uint64_t given = demand_of(p, left_.choices[a], limit);
      const std::uint64_t taken = demand_of(q, right_.choices[b], limit);
      if (sums_[l] - given + taken > limits_.cap(limit) ||
          sums_[l + 1] - taken + given > limits_.cap(limit))
        return false;
    }
    return true;
  }

  void exchange(std::size_t p, std::size_t q, std::size_t a, std::size_t b) {
    const auto left = packs_.mutable_pack(p);
    const auto right = packs_.mutable_pack(q);
    const Choice x = left_.choices[a], y = right_.choices[b];
    std::swap(left[x.first], right[y.first]);
    if (x.count() == 2) std::swap(left[x.second], right[y.second]);
    for (std::size_t d = 0; d < dims_; ++d) {
      const auto given = static_cast<std::uint32_t>(left_.loads[d * kMostChoices + a]);
      const auto taken = static_cast<std::uint32_t>(right_.loads[d * kMostChoices + b]);
      loads_[p * dims_ + d] += taken - given;
      loads_[q * dims_ + d] += given - taken;
    }
  }

  Packs& packs_;
  const PackLimits& limits_;
  const LoadScale& scale_;
  std::vector<std::uint32_t>& loads_;
  std::size_t dims_;
  std::vector<std::uint32_t> of_sample_;
  Offers left_, right_;
  std::vector<double> gap_;       // left pack - right pack, per direction
  std::vector<double> distance_;  // per choice of the right pack
  bool sums_known_ = false;
  std::vector<std::uint64_t> sums_;  // [limits * 2]
};

// How much the packs differ: per direction the sum of squared distances from the mean.
std::vector<double> spread_of(std::span<const std::uint32_t> loads, std::size_t dims) {
  std::vector<std::uint64_t> sum(dims);
  std::vector<double> mean(dims), spread(dims);
  const std::size_t packs = loads.size() / dims;
  for (std::size_t p = 0; p < packs; ++p) {
    for (std::size_t d = 0; d < dims; ++d) sum[d] += loads[p * dims + d];
  }
  for (std::size_t d = 0; d < dims; ++d) mean[d] = static_cast<double>(sum[d] / packs);
  for (std::size_t p = 0; p < packs; ++p) {
    for (std::size_t d = 0; d < dims; ++d) {
      const double apart = static_cast<double>(loads[p * dims + d]) - mean[d];
      spread[d] += apart * apart;
    }
  }
  return spread;
}

// The packs by their load in a direction, in 4,096 classes up to twice the mean; linear and stable.
std::vector<std::uint32_t> order_by_load(std::span<const std::uint32_t> loads, std::size_t dims,
                                         std::size_t dim) {
  constexpr std::uint32_t kClassWidth = 8, kClasses = 4096;
  const std::size_t packs = loads.size() / dims;
  const auto class_of = [&](std::size_t p) {
    return std::min(loads[p * dims + dim] / kClassWidth, kClasses - 1);
  };
  std::vector<std::uint32_t> begin(kClasses + 1);
  for (std::size_t p = 0; p < packs; ++p) ++begin[class_of(p) + 1];
  for (std::uint32_t c = 0; c < kClasses; ++c) begin[c + 1] += begin[c];
  std::vector<std::uint32_t> order(packs);
  for (std::size_t p = 0; p < packs; ++p)
    order[begin[class_of(p)]++] = static_cast<std::uint32_t>(p);
  return order;
}

void equalise_group(Packs& packs, const PackLimits& limits, const LoadScale& scale,
                    std::size_t rounds, std::vector<std::uint32_t>& loads) {
  if (packs.size() < 2) return;
  const std::size_t dims = scale.dims();
  PairExchange pair(packs, limits, scale, loads);
  std::vector<double> spread = spread_of(loads, dims);
  double before = std::accumulate(spread.begin(), spread.end(), 0.0);
  for (std::size_t round = 0; round < rounds; ++round) {
    const auto widest = std::max_element(spread.begin(), spread.end()) - spread.begin();
    const std::vector<std::uint32_t> order =
        order_by_load(loads, dims, static_cast<std::size_t>(widest));
    const std::size_t half = order.size() / 2;
    // Shifted, so that two packs that cannot help each other meet others in the next round.
    const std::size_t shift = half * kShiftPercent * (round + 1) / 100;
    for (std::size_t i = 0; i < half; ++i)
      pair.run(order[i], order[order.size() - half + (i + shift) % half]);
    spread = spread_of(loads, dims);
    const double now = std::accumulate(spread.begin(), spread.end(), 0.0);
    if (now > kLittleGain * before) return;
    before = now;
  }
}

}  // namespace

std::vector<std::uint32_t> equalise_packs(Packs& packs, const PackLimits& limits,
                                          const LoadScale& scale) {
  const std::size_t dims = scale.dims();
  std::vector<std::uint32_t> loads(packs.size() * dims);
  // Every so-many-th pack: packs come pattern by pattern, and a group should have all of them.
  const std::size_t groups = packs.size() / kGroupPacks + 1;
  const std::size_t rounds = packs.size() > kManyPacks ? kFewRounds : kMostRounds;
  for (std::size_t g = 0; g < groups; ++g) {
    Packs group;
    for (std::size_t p = g; p < packs.size(); p += groups) group.add(packs[p]);
    std::vector<std::uint32_t> group_loads = weigh_packs(group, scale);
    equalise_group(group, limits, scale, rounds, group_loads);
    for (std::size_t i = 0; i < group.size(); ++i) {
      const std::size_t p = g + i * groups;
      std::ranges::copy(group[i], packs.mutable_pack(p).begin());
      std::ranges::copy(std::span(group_loads).subspan(i * dims, dims),
                        loads.begin() + static_cast<std::ptrdiff_t>(p * dims));
    }
  }
  return loads;
}

}  // namespace gimbal
