#include "gimbal/balance/caps/caps.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "gimbal/balance/caps/cap_budget.h"
#include "gimbal/balance/caps/cap_trial.h"
#include "gimbal/balance/limits.h"
#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

constexpr std::size_t kResampleSize = 2000;
constexpr std::size_t kResamplings = 3;
constexpr std::uint64_t kAllCandidates = 48;
constexpr std::uint64_t kCoarseShare = 8;  // a candidate is 1/8 above the last one
constexpr std::uint64_t kFinePoints = 12;
constexpr double kEqualTime = 1.001;
constexpr double kDefaultOverhead = 0.02;
constexpr double kUnlimited = std::numeric_limits<double>::infinity();

void check_cap_number(double value, const char* what) {
  GIMBAL_USER_CHECK(std::isfinite(value) && value >= 0, "balance: choosing a cap: ", what, " is ",
                    value, "; it must be a number of at least 0");
}

class CapSweep {
 public:
  CapSweep(const SampleSizes& sizes, const CapSearch& search)
      : sizes_(sizes), search_(search), streams_(static_cast<std::size_t>(sizes.num_streams)) {
    check();
    search_.caps.rows.resize(streams_, 0);
    search_.caps.rows[stream()] = 0;
    obstacle_ = find_eligible();
    if (!obstacle_.empty()) return;
    measure();
    if (search_.memory_bytes > 0) obstacle_ = budget_obstacle();
    if (obstacle_.empty()) obstacle_ = figures_obstacle();
  }

  // Why the data allow no choice; empty: they do.
  const std::string& obstacle() const { return obstacle_; }

  CapChoice run() {
    draw_resamplings();
    CapChoice choice;
    choice.closed_form = rows_as_cap(samples_per_pack() * mean_rows_[stream()]);
    choice.pack_overhead = overhead_;
    const std::uint64_t low = least_cap(stream());
    const std::uint64_t high = highest_cap(low, choice.closed_form);
    sweep(low, high, std::clamp(choice.closed_form, low, high), choice.curve);
    choice.caps = best(choice.curve).caps;
    return choice;
  }

 private:
  std::size_t stream() const { return static_cast<std::size_t>(search_.stream); }
  std::string name(std::size_t k) const { return sizes_.stream_label(static_cast<int>(k)); }
  // Of the caps that hold every sample; 0 would mean no cap.
  std::uint64_t least_cap(std::size_t k) const { return std::max<std::uint64_t>(max_rows_[k], 1); }
  double bytes(std::size_t k) const {
    return search_.memory_bytes > 0 ? search_.bytes_per_row[k] : 0;
  }

  void check() const {
    GIMBAL_CHECK(search_.stream >= 0 && search_.stream < sizes_.num_streams, "stream ",
                 search_.stream, " of ", sizes_.num_streams);
    GIMBAL_CHECK_EQ(search_.costs.size(), streams_, "costs, streams");
    GIMBAL_CHECK_LE(search_.caps.rows.size(), streams_, "caps for more streams than there are");
    check_cap_number(search_.memory_bytes, "the memory budget");
    check_cap_number(search_.pack_overhead.value_or(0), "the overhead of a pack");
    check_cap_number(search_.caps.cost, "the cap on cost");
    for (const StreamCost& cost : search_.costs) {
      check_cap_number(cost.per_row, "a cost per row");
      check_cap_number(cost.per_pair, "a cost per pair");
    }
    GIMBAL_USER_CHECK(search_.ranks >= 1, "balance: choosing a cap needs at least 1 rank");
    if (search_.memory_bytes > 0) {
      GIMBAL_USER_CHECK(search_.bytes_per_row.size() == streams_, "balance: a memory budget needs ",
                        "the bytes per row of each of the ", streams_, " streams, but ",
                        search_.bytes_per_row.size(), " are given");
      for (const double b : search_.bytes_per_row) check_cap_number(b, "a stream's bytes per row");
    }
  }

  // The samples that the given caps allow.
  std::string find_eligible() {
    const bool capped = search_.caps.samples > 0 || search_.caps.cost > 0 ||
                        std::any_of(search_.caps.rows.begin(), search_.caps.rows.end(),
                                    [](std::uint64_t cap) { return cap > 0; });
    if (!capped && search_.memory_bytes == 0) {
      return concat("balance: cannot choose a cap on ", name(stream()),
                    ": give the cap of another stream (--cap NAME=ROWS), or a memory budget with "
                    "bytes per row");
    }
    const auto count = static_cast<std::uint32_t>(sizes_.num_samples());
    eligible_.reserve(count);
    if (!capped) {
      for (std::uint32_t i = 0; i < count; ++i) eligible_.push_back(i);
    } else {
      const PackLimits limits(sizes_, search_.caps, search_.costs);
      for (std::uint32_t i = 0; i < count; ++i)
        if (limits.fits_alone(i)) eligible_.push_back(i);
    }
    if (!eligible_.empty()) return {};
    return concat("balance: cannot choose a cap on ", name(stream()), ": ",
                  count == 0 ? "there are no samples"
                             : "every sample exceeds the caps of the other streams; raise them");
  }

  void measure() {
    mean_rows_.assign(streams_, 0);
    max_rows_.assign(streams_, 0);
    for (const std::uint32_t i : eligible_) {
      for (std::size_t k = 0; k < streams_; ++k) {
        const std::uint32_t rows = sizes_.at(i, static_cast<int>(k));
        mean_rows_[k] += rows;
        max_rows_[k] = std::max<std::uint64_t>(max_rows_[k], rows);
      }
      mean_cost_ += sample_cost(sizes_, i, search_.costs);
    }
    const auto count = static_cast<double>(eligible_.size());
    for (double& rows : mean_rows_) rows /= count;
    mean_cost_ /= count;
  }

  std::string budget_obstacle() const {
    const double budget = search_.memory_bytes;
    for (const std::uint32_t i : eligible_) {
      double need = 0;
      for (std::size_t k = 0; k < streams_; ++k)
        need += sizes_.at(i, static_cast<int>(k)) * bytes(k);
      if (!(need <= budget)) {
        return concat("balance: sample ", i, " alone needs ", need,
                      " bytes, above the memory budget of ", budget,
                      "; raise the budget or leave the sample out");
      }
    }
    double need = 0;
    for (std::size_t k = 0; k < streams_; ++k) need += static_cast<double>(least_cap(k)) * bytes(k);
    if (need <= budget) return {};
    return concat("balance: caps that hold the largest sample of every stream need ", need,
                  " bytes, above the memory budget of ", budget,
                  "; raise the budget or leave the largest samples out");
  }

  // Sets the overhead.
  std::string figures_obstacle() {
    const double pack_samples = samples_per_pack();
    if (!(pack_samples < kUnlimited)) {
      return concat("balance: cannot choose a cap on ", name(stream()),
                    ": no sample has rows in a stream with a cap or with bytes per row; give the "
                    "cap as a number");
    }
    overhead_ = search_.pack_overhead.value_or(kDefaultOverhead * pack_samples * mean_cost_);
    // Leaves room for sums over packs.
    if (mean_cost_ + overhead_ < 0x1p900) return {};
    return "balance: choosing a cap: the costs are too large to add up; give the cost coefficients "
           "and the overhead in a larger unit";
  }

  // How many samples of mean size reach the first of the given limits.
  double samples_per_pack() const {
    double samples =
        search_.caps.samples > 0 ? static_cast<double>(search_.caps.samples) : kUnlimited;
    double mean_bytes = 0;
    for (std::size_t k = 0; k < streams_; ++k) {
      mean_bytes += mean_rows_[k] * bytes(k);
      if (search_.caps.rows[k] > 0 && mean_rows_[k] > 0)
        samples = std::min(samples, static_cast<double>(search_.caps.rows[k]) / mean_rows_[k]);
    }
    if (search_.caps.cost > 0 && mean_cost_ > 0)
      samples = std::min(samples, search_.caps.cost / mean_cost_);
    if (mean_bytes > 0) samples = std::min(samples, search_.memory_bytes / mean_bytes);
    return samples;
  }

  // Draws without replacement; all samples, in other orders, when there are few.
  void draw_resamplings() {
    const CounterRng rng(search_.seed, hash_name("balance.caps"));
    const std::size_t size = std::min(kResampleSize, eligible_.size());
    std::uint64_t draw = 0;
    for (std::size_t r = 0; r < kResamplings; ++r) {
      for (std::size_t i = 0; i < size; ++i, ++draw)
        std::swap(eligible_[i], eligible_[i + rng.below(draw, eligible_.size() - i)]);
      resamplings_.emplace_back(eligible_.begin(),
                                eligible_.begin() + static_cast<std::ptrdiff_t>(size));
    }
  }

  // The caps of a candidate; with a memory budget the other streams share what is left.
  PackCaps caps_with(std::uint64_t cap) const {
    PackCaps caps = search_.caps;
    caps.rows[stream()] = cap;
    if (search_.memory_bytes == 0) return caps;
    std::vector<std::size_t> numbers;
    std::vector<BudgetStream> sharing;
    for (std::size_t k = 0; k < streams_; ++k) {
      if (k == stream() || bytes(k) == 0) continue;
      numbers.push_back(k);
      sharing.push_back({bytes(k), mean_rows_[k], least_cap(k), search_.caps.rows[k]});
    }
    const double left = search_.memory_bytes - static_cast<double>(cap) * bytes(stream());
    const std::vector<std::uint64_t> shares = share_budget(left, sharing);
    for (std::size_t i = 0; i < numbers.size(); ++i) caps.rows[numbers[i]] = shares[i];
    return caps;
  }

  // Where the cap no longer binds, or the budget leaves the other streams just enough.
  std::uint64_t highest_cap(std::uint64_t low, std::uint64_t start) const {
    double budget = kUnlimited;
    if (bytes(stream()) > 0) {
      double left = search_.memory_bytes;
      for (std::size_t k = 0; k < streams_; ++k)
        if (k != stream()) left -= static_cast<double>(least_cap(k)) * bytes(k);
      budget = left / bytes(stream());
    }
    PackCaps others = caps_with(low);
    others.rows[stream()] = 0;
    std::uint64_t fullest = std::max(low, start);
    const bool limited = others.samples > 0 || others.cost > 0 ||
                         std::any_of(others.rows.begin(), others.rows.end(),
                                     [](std::uint64_t cap) { return cap > 0; });
    if (!limited) return std::max(low, rows_as_cap(budget));  // the budget is all there is
    const PackLimits limits(sizes_, others, search_.costs);
    for (const auto& order : resamplings_) {
      const Packs packs = quick_packs(limits, order);
      for (std::size_t p = 0; p < packs.size(); ++p) fullest = std::max(fullest, rows_in(packs[p]));
    }
    return std::max(low, std::min(fullest, rows_as_cap(std::min(budget, 0x1p62))));
  }

  std::uint64_t rows_in(std::span<const std::uint32_t> pack) const {
    std::uint64_t rows = 0;
    for (const std::uint32_t i : pack) rows += sizes_.at(i, search_.stream);
    return rows;
  }

  CapPoint try_cap(std::uint64_t cap) const {
    CapPoint point;
    point.caps = caps_with(cap);
    const PackLimits limits(sizes_, point.caps, search_.costs);
    const PackTimeModel model{search_.costs, overhead_, search_.phases_in_parallel, search_.ranks};
    double least = kUnlimited, most = 0;
    for (const auto& order : resamplings_) {
      const Packs packs = quick_packs(limits, order);
      const auto drawn = static_cast<double>(order.size()),
                 count = static_cast<double>(packs.size());
      const double all_packs = count * static_cast<double>(eligible_.size()) / drawn;
      double time =
          mean_slot_time(pack_times(packs, sizes_, model), all_packs, model.ranks) * count / drawn;
      // A draw of dear samples says nothing about the cap.
      double cost = 0;
      for (const std::uint32_t i : order) cost += sample_cost(sizes_, i, search_.costs);
      if (cost > 0) time *= mean_cost_ * drawn / cost;
      least = std::min(least, time);
      most = std::max(most, time);
      point.cost_per_sample += time / kResamplings;
      point.packs += all_packs / kResamplings;
      point.fill +=
          static_cast<double>(rows_in(order)) / (count * static_cast<double>(cap)) / kResamplings;
    }
    point.error = (most - least) / 2;
    return point;
  }

  void sweep(std::uint64_t low, std::uint64_t high, std::uint64_t start,
             std::vector<CapPoint>& curve) const {
    const auto cap_of = [this](const CapPoint& p) { return p.caps.rows[stream()]; };
    const auto add = [&](std::uint64_t cap) {
      const auto at =
          std::lower_bound(curve.begin(), curve.end(), cap,
                           [&](const CapPoint& p, std::uint64_t c) { return cap_of(p) < c; });
      if (at == curve.end() || cap_of(*at) != cap) curve.insert(at, try_cap(cap));
    };
    if (high - low < kAllCandidates) {
      for (std::uint64_t cap = low; cap <= high; ++cap) add(cap);
      return;
    }
    add(start);
    add(high);
    for (std::uint64_t cap = low; cap < high; cap += cap / kCoarseShare + 1) add(cap);
    for (int round = 0; round < 2; ++round) {
      const auto at = static_cast<std::size_t>(&best(curve) - curve.data());
      const std::uint64_t from = cap_of(curve[at == 0 ? 0 : at - 1]);
      const std::uint64_t width = cap_of(curve[std::min(at + 1, curve.size() - 1)]) - from;
      for (std::uint64_t i = 1; i < kFinePoints; ++i)
        add(from + width / kFinePoints * i + width % kFinePoints * i / kFinePoints);
    }
  }

  static const CapPoint& best(const std::vector<CapPoint>& curve) {
    double least = kUnlimited;
    for (const CapPoint& p : curve) least = std::min(least, p.cost_per_sample);
    return *std::find_if(curve.begin(), curve.end(), [least](const CapPoint& p) {
      return p.cost_per_sample <= least * kEqualTime;
    });
  }

  SampleSizes sizes_;
  CapSearch search_;
  std::size_t streams_;
  std::vector<std::uint32_t> eligible_;
  std::vector<double> mean_rows_;
  std::vector<std::uint64_t> max_rows_;
  double mean_cost_ = 0;
  double overhead_ = 0;
  std::string obstacle_;
  std::vector<std::vector<std::uint32_t>> resamplings_;
};

}  // namespace

CapChoice choose_cap(const SampleSizes& sizes, const CapSearch& search) {
  CapSweep sweep(sizes, search);
  GIMBAL_USER_CHECK(sweep.obstacle().empty(), sweep.obstacle());
  return sweep.run();
}

bool can_choose_cap(const SampleSizes& sizes, const CapSearch& search) {
  return CapSweep(sizes, search).obstacle().empty();
}

}  // namespace gimbal
