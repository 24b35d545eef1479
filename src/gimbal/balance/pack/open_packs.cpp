#include "gimbal/balance/pack/open_packs.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

__extension__ using WideSum = unsigned __int128;

}  // namespace

FillScale::FillScale(const PackLimits& limits, std::span<const std::uint32_t> order) {
  const auto count = static_cast<std::size_t>(limits.count());
  std::vector<WideSum> sum(count);
  std::vector<std::uint64_t> demands(count);
  for (const std::uint32_t sample : order) {
    GIMBAL_CHECK(sample < limits.sizes().num_samples(), "sample ", sample);
    limits.demands(sample, demands.data());
    for (std::size_t l = 0; l < count; ++l) {
      GIMBAL_CHECK_LE(demands[l], limits.cap(static_cast<int>(l)), "sample ", sample,
                      " does not fit into a pack alone");
      sum[l] += demands[l];
    }
  }
  for (std::size_t l = 0; l < count; ++l) {
    const std::uint64_t cap = limits.cap(static_cast<int>(l));
    packs_.push_back(static_cast<double>(sum[l]) / static_cast<double>(cap));
    caps_.push_back(cap > sum[l] ? std::max<std::uint64_t>(static_cast<std::uint64_t>(sum[l]), 1)
                                 : cap);
    int shift = 0;
    while ((caps_[l] >> shift) >> 32 != 0) ++shift;
    shift_.push_back(shift);
  }
  set_weights(1);
}

FillScale FillScale::sharpened(int power) const {
  FillScale scale = *this;
  scale.set_weights(power);
  return scale;
}

void FillScale::set_weights(int power) {
  const double most = *std::max_element(packs_.begin(), packs_.end());
  std::vector<double> shares(packs_.size(), 1.0);
  double total = 0;
  for (std::size_t l = 0; l < shares.size(); ++l) {
    // Multiplied out: pow may differ in the last bit between machines.
    for (int i = 0; i < power && most > 0; ++i) shares[l] *= packs_[l] / most;
    total += shares[l];
  }
  weight_.clear();
  whole_ = 0;
  for (std::size_t l = 0; l < shares.size(); ++l) {
    const std::uint64_t units = caps_[l] >> shift_[l];
    weight_.push_back(
        static_cast<std::uint64_t>(shares[l] / total * 0x1p52 / static_cast<double>(units)));
    whole_ += weight_[l] * units;
  }
}

OpenPacks::OpenPacks(const PackLimits& limits, const FillScale& scale)
    : pack_limits_(limits), scale_(scale), limits_(scale.num_limits()) {}

void OpenPacks::load(std::span<const std::uint32_t> samples) {
  samples_.assign(samples.begin(), samples.end());
  demand_.resize(samples.size() * limits_);
  size_.resize(samples.size());
  next_.resize(samples.size());
  prev_.resize(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    pack_limits_.demands(samples[i], demand_.data() + i * limits_);
    size_[i] = scale_.size(demand_.data() + i * limits_);
  }
  clear();
}

void OpenPacks::clear() {
  pack_.assign(samples_.size(), kNone);
  room_.clear();
  slack_.clear();
  first_.clear();
  empty_.clear();
  shelf_.clear();
}

std::uint32_t OpenPacks::open() {
  if (!empty_.empty()) {
    const std::uint32_t pack = empty_.back();
    empty_.pop_back();
    return pack;
  }
  first_.push_back(kNone);
  slack_.push_back(scale_.whole());
  room_.insert(room_.end(), scale_.caps().begin(), scale_.caps().end());
  return num_packs() - 1;
}

void OpenPacks::add(std::uint32_t item, std::uint32_t pack) {
  std::uint64_t* room = room_.data() + pack * limits_;
  for (std::size_t l = 0; l < limits_; ++l) room[l] -= demand_[item * limits_ + l];
  slack_[pack] = scale_.size(room);
  pack_[item] = pack;
  prev_[item] = kNone;
  next_[item] = first_[pack];
  if (next_[item] != kNone) prev_[next_[item]] = item;
  first_[pack] = item;
}

void OpenPacks::take(std::uint32_t item) {
  const std::uint32_t pack = pack_[item];
  std::uint64_t* room = room_.data() + pack * limits_;
  for (std::size_t l = 0; l < limits_; ++l) room[l] += demand_[item * limits_ + l];
  slack_[pack] = scale_.size(room);
  (prev_[item] == kNone ? first_[pack] : next_[prev_[item]]) = next_[item];
  if (next_[item] != kNone) prev_[next_[item]] = prev_[item];
  pack_[item] = kNone;
}

void OpenPacks::shelve(std::uint32_t pack) {
  if (first_[pack] == kNone) {
    empty_.push_back(pack);
    return;
  }
  const Gap gap{slack_[pack], pack};
  shelf_.insert(std::lower_bound(shelf_.begin(), shelf_.end(), gap), gap);
}

void OpenPacks::unshelve(std::uint32_t pack) {
  shelf_.erase(std::lower_bound(shelf_.begin(), shelf_.end(), Gap{slack_[pack], pack}));
}

std::uint32_t OpenPacks::best_fit(std::uint32_t item) const {
  auto at = std::lower_bound(shelf_.begin(), shelf_.end(), Gap{size_[item], 0});
  while (at != shelf_.end() && !fits(item, at->pack)) ++at;
  return at == shelf_.end() ? kNone : at->pack;
}

void OpenPacks::place(std::uint32_t item) {
  std::uint32_t pack = best_fit(item);
  if (pack == kNone) {
    pack = open();
  } else {
    unshelve(pack);
  }
  add(item, pack);
  shelve(pack);
}

void OpenPacks::shelve_all() {
  shelf_.clear();
  empty_.clear();
  for (std::uint32_t pack = 0; pack < num_packs(); ++pack) {
    if (first_[pack] == kNone) {
      empty_.push_back(pack);
    } else {
      shelf_.push_back({slack_[pack], pack});
    }
  }
  std::sort(shelf_.begin(), shelf_.end());
}

void OpenPacks::append_samples(std::uint32_t pack, std::vector<std::uint32_t>& out) const {
  for (std::uint32_t i = first_[pack]; i != kNone; i = next_[i]) out.push_back(samples_[i]);
}

}  // namespace gimbal
