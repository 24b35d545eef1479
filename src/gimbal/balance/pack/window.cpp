// The general heuristic: samples are packed in windows of the order, which keeps it linear and
// gives every order other companions.
#include <algorithm>
#include <array>
#include <vector>

#include "gimbal/balance/bound/fast.h"
#include "gimbal/balance/pack/fill.h"
#include "gimbal/balance/pack/local_search.h"
#include "gimbal/balance/pack/methods.h"
#include "gimbal/balance/pack/open_packs.h"
#include "gimbal/balance/pack/small_search.h"

namespace gimbal {
namespace {

constexpr std::size_t kSmall = 2048;  // samples that are packed by the thorough search
// A window: so many samples, and so many packs at least.
constexpr std::size_t kWindow = 4096;
constexpr double kWindowPacks = 32;
constexpr std::size_t kTrialWindows = 3;
constexpr std::size_t kFinalists = 3;
constexpr std::uint32_t kReach = 128;
// Costs half as much again and is worth it for wide sizes only: where it saves 0.2 % of the packs.
constexpr std::uint32_t kLongReach = 512;
constexpr std::size_t kLongReachGain = 500;
// The thinnest share of a window's packs: the local search tries to empty these, ...
constexpr double kTriedShare = 0.2;
// ... and the samples of these, one pack at least, meet the next window's samples.
constexpr double kCarriedShare = 0.06;
// Of the local search: for each sample in large inputs, in all where that is more, for each sample
// at most.
constexpr std::uint64_t kLeastWork = 300;
constexpr std::uint64_t kTotalWork = 250'000'000;
constexpr std::uint64_t kMostWork = 2000;

// How a window is filled: tried in this order.
constexpr std::array<FillWay, 11> kFillWays{{{FillWay::kFitted, 0, 64},
                                             {FillWay::kFitted, 0, 1},
                                             {FillWay::kFitted, 20, 64},
                                             {FillWay::kFitted, 20, 1},
                                             {FillWay::kFitted, 0, 8},
                                             {FillWay::kFitted, 20, 8},
                                             {FillWay::kBestFit, 0, 64},
                                             {FillWay::kBestFit, 0, 8},
                                             {FillWay::kBestFit, 0, 1},
                                             {FillWay::kBestFitDecreasing, 0, 8},
                                             {FillWay::kBestFitDecreasing, 0, 1}}};

class WindowPacker {
 public:
  WindowPacker(const PackLimits& limits, const FillScale& scale, const FillWay& way,
               std::size_t window, std::uint32_t reach, std::uint64_t work_per_sample)
      : scale_(scale.sharpened(way.sharpness)),
        open_(limits, scale_),
        way_(way),
        window_(window),
        reach_(reach),
        work_per_sample_(work_per_sample) {}

  Packs run(std::span<const std::uint32_t> order) {
    packs_ = {};
    packs_.samples.reserve(order.size());
    std::vector<std::uint32_t> pool;
    std::size_t taken = 0;
    while (taken < order.size()) {
      // The last window takes the rest: a short one would pack badly.
      std::size_t fresh = window_ - pool.size();
      if (order.size() - taken < fresh + window_ / 2) fresh = order.size() - taken;
      const auto from = order.begin() + static_cast<std::ptrdiff_t>(taken);
      pool.insert(pool.end(), from, from + static_cast<std::ptrdiff_t>(fresh));
      taken += fresh;
      pack(pool);
      finish_packs(taken == order.size(), pool);
    }
    return std::move(packs_);
  }

 private:
  void pack(std::span<const std::uint32_t> pool) {
    open_.load(pool);
    fill_in_way(open_, way_, reach_);
    const double tried = kTriedShare * static_cast<double>(open_.shelf().size());
    empty_thin_packs(
        open_, {static_cast<std::uint32_t>(tried) + 1, 1.0 / 256, work_per_sample_ * pool.size()});
  }

  // All but the thinnest packs are final; the samples of those are the next pool, of which there
  // are at most half a window.
  void finish_packs(bool all, std::vector<std::uint32_t>& pool) {
    const std::vector<OpenPacks::Gap>& shelf = open_.shelf();
    std::size_t final = shelf.size();
    pool.clear();
    if (!all) {
      const auto carried = 1 + static_cast<std::size_t>(kCarriedShare * static_cast<double>(final));
      while (shelf.size() - final < carried && final > 1) {
        const std::size_t before = pool.size();
        open_.append_samples(shelf[final - 1].pack, pool);
        if (pool.size() > window_ / 2) {
          pool.resize(before);
          break;
        }
        --final;
      }
    }
    for (std::size_t g = 0; g < final; ++g) {
      open_.append_samples(shelf[g].pack, packs_.samples);
      packs_.offsets.push_back(packs_.samples.size());
    }
  }

  FillScale scale_;
  OpenPacks open_;
  FillWay way_;
  std::size_t window_;
  std::uint32_t reach_;
  std::uint64_t work_per_sample_;
  Packs packs_;
};

// Tries the ways on the head of the order: all on one window, the best few on three, and the best
// with a longer reach.
class FillTrial {
 public:
  FillTrial(const PackLimits& limits, const FillScale& scale, std::span<const std::uint32_t> order)
      : limits_(limits),
        scale_(scale),
        order_(order),
        window_(window_size(scale, order.size())),
        work_per_sample_(std::clamp(kTotalWork / order.size(), kLeastWork, kMostWork)) {}

  // Packs the whole order.
  Packs run() {
    std::vector<std::size_t> ways;
    for (std::size_t way = 0; way < kFillWays.size(); ++way) ways.push_back(way);
    keep_best(ways, window_, kLeastWork, kFinalists);
    keep_best(ways, kTrialWindows * window_, work_per_sample_, 1);
    const FillWay& way = kFillWays[ways.front()];
    const std::uint32_t reach = choose_reach(way);
    return order_.size() <= kTrialWindows * window_
               ? std::move(best_)
               : packer(way, reach, work_per_sample_).run(order_);
  }

 private:
  static std::size_t window_size(const FillScale& scale, std::size_t count) {
    const double share = kWindowPacks / std::max(scale.volume(), 1.0);
    if (share >= 1) return count;
    const auto samples = static_cast<std::size_t>(share * static_cast<double>(count));
    return std::min(std::max(kWindow, samples), count);
  }
  WindowPacker packer(const FillWay& way, std::uint32_t reach, std::uint64_t work) const {
    return WindowPacker(limits_, scale_, way, window_, reach, work);
  }
  std::span<const std::uint32_t> head(std::size_t samples) const {
    return order_.first(std::min(samples, order_.size()));
  }

  void keep_best(std::vector<std::size_t>& ways, std::size_t samples, std::uint64_t work,
                 std::size_t kept) {
    bound_ = fast_lower_bound(limits_, head(samples));
    std::vector<std::pair<std::size_t, std::size_t>> scores;
    for (const std::size_t way : ways) {
      Packs packs = packer(kFillWays[way], kReach, work).run(head(samples));
      const std::size_t score = packs.size();
      if (scores.empty() || score < best_.size()) best_ = std::move(packs);
      scores.emplace_back(score, way);
      if (score <= bound_) break;
    }
    // Equal ones stay in the order of kFillWays.
    std::sort(scores.begin(), scores.end());
    scores.resize(std::min(kept, scores.size()));
    ways.clear();
    for (const auto& [score, way] : scores) ways.push_back(way);
  }

  std::uint32_t choose_reach(const FillWay& way) {
    if (way.kind != FillWay::kFitted || best_.size() <= bound_) return kReach;
    Packs packs = packer(way, kLongReach, work_per_sample_).run(head(kTrialWindows * window_));
    const bool longer = packs.size() + packs.size() / kLongReachGain < best_.size();
    if (packs.size() < best_.size()) best_ = std::move(packs);
    return longer ? kLongReach : kReach;
  }

  const PackLimits& limits_;
  const FillScale& scale_;
  std::span<const std::uint32_t> order_;
  std::size_t window_;
  std::uint64_t work_per_sample_;
  Packs best_;  // of the last round
  std::uint64_t bound_ = 0;
};

}  // namespace

Packs window_packs(const PackLimits& limits, std::span<const std::uint32_t> order) {
  if (order.size() <= kSmall) return small_search_packs(limits, order);
  const FillScale scale(limits, order);
  return FillTrial(limits, scale, order).run();
}

}  // namespace gimbal
