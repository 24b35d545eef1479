// What a pack is limited in, as whole numbers: the form that every packing method and bound works
// on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gimbal/balance/sizes.h"

namespace gimbal {

/// The capped streams, then the number of samples, then the cost, as far as they have a cap. A pack
/// is allowed when, for every limit, the demands of its samples add up to at most the cap. Costs
/// are counted in steps of cap / 2^40 and rounded up, so that whole numbers decide and the order of
/// additions does not matter. Refers to `sizes`' rows; they must outlive it.
class PackLimits {
 public:
  /// Throws UserError when no cap is set, or a cap or cost is negative or not a number.
  PackLimits(const SampleSizes& sizes, const PackCaps& caps, std::span<const StreamCost> costs);

  int count() const { return static_cast<int>(limits_.size()); }
  std::uint64_t cap(int limit) const { return limits_[static_cast<std::size_t>(limit)].cap; }
  std::uint64_t demand(std::uint32_t sample, int limit) const {
    const Limit& l = limits_[static_cast<std::size_t>(limit)];
    if (l.stream >= 0) return sizes_.at(sample, l.stream);
    return l.stream == kSamples ? 1 : cost_demand(sample);
  }
  /// All demands of a sample; `out` has room for count() of them.
  void demands(std::uint32_t sample, std::uint64_t* out) const {
    for (int limit = 0; limit < count(); ++limit) out[limit] = demand(sample, limit);
  }
  /// The stream of a limit; -1 for the number of samples and the cost.
  int stream(int limit) const {
    const int stream = limits_[static_cast<std::size_t>(limit)].stream;
    return stream >= 0 ? stream : -1;
  }
  /// What the limit counts, for comparing with the limits of a file: "stream 1", "samples", "cost"
  /// and a fingerprint of the coefficients and the cap.
  std::string kind(int limit) const;
  /// The given name of the limit's stream; empty without one.
  std::string given_name(int limit) const;
  /// "tokens", "samples", "cost": for messages.
  std::string name(int limit) const;
  /// "9000 tokens, cap 4096": how a sample stands against a limit, for messages.
  std::string comparison(std::uint32_t sample, int limit) const;
  /// Whether the sample fits into a pack of its own.
  bool fits_alone(std::uint32_t sample) const;
  const SampleSizes& sizes() const { return sizes_; }

 private:
  static constexpr int kSamples = -1;
  static constexpr int kCost = -2;
  struct Limit {
    int stream;
    std::uint64_t cap;
  };
  std::uint64_t cost_demand(std::uint32_t sample) const;

  SampleSizes sizes_;
  std::vector<StreamCost> costs_;
  double cost_cap_ = 0;
  double cost_step_ = 0;
  std::vector<Limit> limits_;
};

}  // namespace gimbal
