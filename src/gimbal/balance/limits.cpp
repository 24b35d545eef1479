#include "gimbal/balance/limits.h"

#include <bit>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

constexpr std::uint64_t kCostCap = std::uint64_t{1} << 40;

}  // namespace

PackLimits::PackLimits(const SampleSizes& sizes, const PackCaps& caps,
                       std::span<const StreamCost> costs)
    : sizes_(sizes), costs_(costs.begin(), costs.end()) {
  GIMBAL_CHECK_LE(caps.rows.size(), static_cast<std::size_t>(sizes.num_streams),
                  "caps for more streams than there are");
  for (int stream = 0; stream < sizes.num_streams; ++stream) {
    if (caps.of(stream) > 0) limits_.push_back({stream, caps.of(stream)});
  }
  if (caps.samples > 0) limits_.push_back({kSamples, caps.samples});
  GIMBAL_USER_CHECK(std::isfinite(caps.cost) && caps.cost >= 0, "balance: the cap on cost is ",
                    caps.cost, "; it must be a number above 0, or 0 for no cap");
  if (caps.cost > 0) {
    GIMBAL_CHECK_EQ(costs_.size(), static_cast<std::size_t>(sizes.num_streams), "costs, streams");
    limits_.push_back({kCost, kCostCap});
    cost_cap_ = caps.cost;
    cost_step_ = caps.cost / static_cast<double>(kCostCap);
    GIMBAL_USER_CHECK(std::isnormal(cost_step_), "balance: the cap on cost is ", caps.cost,
                      "; that is too small to count with, so give costs and their cap in a smaller "
                      "unit");
  }
  for (std::size_t k = 0; k < costs_.size(); ++k) {
    for (const double cost : {costs_[k].per_row, costs_[k].per_pair}) {
      GIMBAL_USER_CHECK(std::isfinite(cost) && cost >= 0,
                        "balance: ", sizes_.stream_label(static_cast<int>(k)),
                        " has a cost coefficient of ", cost, "; it must be a number of at least 0");
    }
  }
  GIMBAL_USER_CHECK(
      !limits_.empty(),
      "balance: no cap is set, so one pack would hold every sample; set a cap on the "
      "rows of a stream (balance.text_cap or balance.vision_cap in a recipe, --cap on "
      "the command line) or on the samples of a pack (balance.samples_per_pack)");
}

std::string PackLimits::name(int limit) const {
  const int stream = limits_[static_cast<std::size_t>(limit)].stream;
  if (stream >= 0) return sizes_.stream_label(stream);
  return stream == kSamples ? "samples" : "cost";
}

std::string PackLimits::kind(int limit) const {
  const int stream = limits_[static_cast<std::size_t>(limit)].stream;
  if (stream >= 0) return concat("stream ", stream);
  if (stream == kSamples) return "samples";
  std::uint64_t print = std::bit_cast<std::uint64_t>(cost_cap_);
  for (const StreamCost& cost : costs_) {
    print = mix_bits(print ^ std::bit_cast<std::uint64_t>(cost.per_row));
    print = mix_bits(print ^ std::bit_cast<std::uint64_t>(cost.per_pair));
  }
  return concat("cost ", print);
}

std::string PackLimits::given_name(int limit) const {
  const int stream = limits_[static_cast<std::size_t>(limit)].stream;
  return stream >= 0 && static_cast<std::size_t>(stream) < sizes_.names.size()
             ? sizes_.names[static_cast<std::size_t>(stream)]
             : "";
}

std::string PackLimits::comparison(std::uint32_t sample, int limit) const {
  const int stream = limits_[static_cast<std::size_t>(limit)].stream;
  if (stream == kCost) {
    return concat("cost ", sample_cost(sizes_, sample, costs_), ", cap ", cost_cap_);
  }
  const bool unnamed = stream >= 0 && static_cast<std::size_t>(stream) >= sizes_.names.size();
  return concat(demand(sample, limit), unnamed ? " rows in " : " ", name(limit), ", cap ",
                cap(limit));
}

bool PackLimits::fits_alone(std::uint32_t sample) const {
  for (int limit = 0; limit < count(); ++limit) {
    if (demand(sample, limit) > cap(limit)) return false;
  }
  return true;
}

std::uint64_t PackLimits::cost_demand(std::uint32_t sample) const {
  const double steps = std::ceil(sample_cost(sizes_, sample, costs_) / cost_step_);
  // Beyond the cap every number means the same.
  return steps > 2.0 * static_cast<double>(kCostCap) ? 2 * kCostCap
                                                     : static_cast<std::uint64_t>(steps);
}

}  // namespace gimbal
