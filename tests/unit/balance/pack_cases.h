// Random packing problems of any shape, and the checks that every packing method must pass.
#pragma once

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <string>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"
#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"
#include "unit/balance/check_cases.h"

namespace gimbal::testing {

/// Samples that all fit alone, and an order in which numbers may be missing or occur more than
/// once.
struct PackCase {
  int num_streams = 1;
  std::vector<std::uint32_t> rows;
  PackCaps caps;
  std::vector<StreamCost> costs;
  std::vector<std::uint32_t> order;

  SampleSizes sizes() const { return {rows, num_streams}; }
  PackLimits limits() const { return {sizes(), caps, costs}; }
};

/// 1 to 8 streams; zero rows in some or all; sizes up to 2^32 - 1 and caps up to 2^64 - 1; with and
/// without caps on samples and cost; all samples equal, few sizes or any.
inline PackCase any_pack_case(std::size_t least_samples, std::size_t most_samples) {
  PackCase result;
  result.num_streams = *between(1, 9);
  const auto streams = static_cast<std::size_t>(result.num_streams);
  const auto count = *between(least_samples, most_samples + 1);
  const auto most = *rc::gen::element<std::uint64_t>(0, 1, 7, 1000, 100000, ~std::uint32_t{0});
  const auto zeros = *rc::gen::element<std::uint64_t>(0, 0, 5, 9, 10);  // of 10 numbers of rows
  const auto kinds = *rc::gen::element<std::uint64_t>(1, 3, ~std::uint32_t{0});
  const CounterRng rng(*rc::gen::arbitrary<std::uint64_t>());
  std::uint64_t draw = 0;
  for (std::size_t i = 0; i < count * streams; ++i) {
    const bool zero = rng.below(draw++, 10) < zeros;
    const std::uint64_t kind = rng.below(draw++, kinds);
    const std::uint64_t rows = CounterRng(kind, i % streams).below(0, most + 1);
    result.rows.push_back(zero ? 0 : static_cast<std::uint32_t>(rows));
  }
  bool any = false;
  for (std::size_t k = 0; k < streams; ++k) {
    const bool capped = *rc::gen::arbitrary<bool>() || (k + 1 == streams && !any);
    any = any || capped;
    std::uint64_t cap = std::max<std::uint64_t>(most, 1) * *between<std::uint64_t>(1, 6);
    if (*between(0, 4) == 0) cap += most / 3;
    if (*between(0, 8) == 0) cap = ~std::uint64_t{0};
    result.caps.rows.push_back(capped ? cap : 0);
    result.costs.push_back({*rc::gen::element(0.0, 1.0, 2.5), *rc::gen::element(0.0, 1e-3)});
  }
  result.caps.samples = *rc::gen::element<std::uint64_t>(0, 0, 0, 1, 4, ~std::uint64_t{0});
  if (*rc::gen::arbitrary<bool>()) {
    double highest = 0;
    for (std::size_t i = 0; i < count; ++i) {
      highest = std::max(highest, sample_cost(result.sizes(), i, result.costs));
    }
    result.caps.cost = highest > 0 ? highest * *rc::gen::element(1.0, 1.7, 6.0) : 1.0;
  }
  if (count > 0) {
    const auto entries = *between(least_samples, most_samples + 1);
    for (std::size_t i = 0; i < entries; ++i) {
      result.order.push_back(static_cast<std::uint32_t>(rng.below(draw++, count)));
    }
  }
  return result;
}

inline std::vector<std::uint32_t> sorted(std::vector<std::uint32_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

/// Whether a pack of these samples keeps every cap. Exact sums, whatever the sizes.
inline bool keeps_caps(const PackLimits& limits, std::span<const std::uint32_t> pack) {
  for (int l = 0; l < limits.count(); ++l) {
    std::uint64_t room = limits.cap(l);
    for (const std::uint32_t sample : pack) {
      const std::uint64_t demand = limits.demand(sample, l);
      if (demand > room) return false;
      room -= demand;
    }
  }
  return true;
}

/// What is wrong with a packing: an entry that is missing, twice or made up, an empty pack, a cap
/// that is exceeded. Empty when all is well.
inline std::string packing_fault(const PackLimits& limits, const Packs& packs,
                                 const std::vector<std::uint32_t>& order) {
  if (packs.offsets.empty() || packs.offsets.front() != 0 ||
      packs.offsets.back() != packs.samples.size()) {
    return "offsets do not span the samples";
  }
  if (sorted(packs.samples) != sorted(order)) return "the entries are not those of the order";
  for (std::size_t p = 0; p < packs.size(); ++p) {
    if (packs.offsets[p] >= packs.offsets[p + 1]) return concat("pack ", p, " is empty");
    if (!keeps_caps(limits, packs[p])) return concat("pack ", p, " exceeds a cap");
  }
  return {};
}

inline std::vector<std::uint32_t> ascending(std::size_t n) {
  std::vector<std::uint32_t> order(n);
  for (std::size_t i = 0; i < n; ++i) order[i] = static_cast<std::uint32_t>(i);
  return order;
}

/// The message of the Error that `call` throws.
template <typename Error, typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

}  // namespace gimbal::testing
